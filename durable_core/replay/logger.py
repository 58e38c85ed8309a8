"""``ctx.logger``: an ordinary logger that says nothing while a history is replayed."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_core.replay.machine import Execution


class ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Records carry ``instance_id`` and ``orchestrator``. A line is logged again if the process dies between the line and the commit of its
    turn."""

    def __init__(self, execution: Execution) -> None:
        logger = logging.getLogger(f"durable_core.orchestrator.{execution.name}")
        super().__init__(logger, {"instance_id": execution.instance_id, "orchestrator": execution.name})
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return not self._execution.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
