"""Where in the user's code something was asked for: looked up only when there is something to complain about."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

__all__ = ["await_line", "user_line"]



def user_line() -> str:
    """``file.py:12 in my_orchestrator``: the innermost running frame that is neither ours nor the standard library's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    return _describe(frame.f_code, frame.f_lineno) if frame is not None else "unknown line"


def await_line(coroutine: Any) -> str:
    """The line at which a suspended coroutine waits: the innermost frame of user code in its chain of awaits."""
    found = "not started"
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None and _is_users(frame):
            found = _describe(frame.f_code, frame.f_lineno)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None) or getattr(coroutine, "ag_await", None)
    return found


def _is_users(frame: FrameType) -> bool:
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return top == "__main__" or (top != "durable_core" and top not in sys.stdlib_module_names)


def _describe(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"
