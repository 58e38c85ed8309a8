"""``ctx.logger``: an ordinary logger that says nothing while a history is replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any


class ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Records carry ``instance_id`` and ``orchestrator``. A line is logged again if the process dies between the line and the commit of its
    turn."""

    def __init__(self, logger: logging.Logger, extra: dict[str, object], replaying: Callable[[], bool]) -> None:
        super().__init__(logger, extra)
        self._replaying = replaying

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return not self._replaying() and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
