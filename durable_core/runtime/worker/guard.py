"""Keeping I/O out of orchestrators: an audit hook that is active only while a turn runs, and a watchdog for turns that block.

CPython raises an *audit event* for ``open``, sockets, subprocesses, ``sqlite3.connect`` and the like. What of these is the orchestrator's own
doing says ``audit.py``. ``time.sleep`` and thread starts have no audit event before 3.13, so a watchdog thread logs the stack of any turn that
takes over a second.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from functools import cache
from types import FrameType
from typing import Any

from durable_core.errors import ForbiddenInOrchestratorError
from durable_core.replay.source import user_line
from durable_core.runtime.worker.audit import is_debugged, is_forbidden

_logger = logging.getLogger("durable_core.engine")

_SLOW_TURN_S = 1.0


class TurnGuard:
    """One per process. ``enter`` and ``leave`` bracket a turn on this thread; they cost two assignments."""

    def __init__(self) -> None:
        self._thread = 0
        self._orchestrator: str | None = None
        self._since = self._told_of = 0.0

    @classmethod
    @cache
    def install(cls) -> TurnGuard:
        """The process's guard. An audit hook cannot be removed again, so there is one for all engines."""
        guard = cls()
        sys.addaudithook(guard._audit)
        threading.Thread(target=guard._watch, name="durable-core watchdog", daemon=True).start()
        return guard

    def enter(self, orchestrator: str) -> None:
        self._thread = threading.get_ident()
        self._since = time.monotonic()
        self._orchestrator = orchestrator

    def leave(self) -> None:
        self._orchestrator = None

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._orchestrator is None or self._thread != threading.get_ident():
            return
        if is_forbidden(event, args):
            name = self._orchestrator
            what = f"{event}({args[0]!r})" if args and isinstance(args[0], str | bytes | int) else event
            raise ForbiddenInOrchestratorError(
                f"orchestrator {name!r} does I/O: {what} at {user_line()}. An orchestrator is run again on every replay and must only decide; move this into an activity and await ctx.call_activity(...)"
            )

    def _watch(self) -> None:
        while True:
            time.sleep(_SLOW_TURN_S / 2)
            name, since = self._orchestrator, self._since
            if name is not None and self._told_of != since and time.monotonic() - since > _SLOW_TURN_S:
                frame = sys._current_frames().get(self._thread)
                if not is_debugged(frame):
                    _tell(name, frame)
                self._told_of = since


def _tell(name: str, frame: FrameType | None) -> None:
    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
    _logger.warning(
        "a turn of orchestrator %r has blocked the engine for over %.0f s; it must not sleep or compute for long. It is at:\n%s",
        name,
        _SLOW_TURN_S,
        stack,
    )
