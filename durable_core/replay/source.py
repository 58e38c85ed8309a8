"""Where in the user's code something was asked for: looked up only when there is something to complain about."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Any

_STEPS = ("drain", "_apply")  # what runs or wakes user code; frames further out are the host's
_INSTALLED = f"{os.sep}site-packages{os.sep}"


def user_line() -> str:
    """``file.py:12 in my_orchestrator``: the innermost running frame that is neither ours nor a library's, or else of an installed
    library."""
    frame: FrameType | None = sys._getframe(1)
    library: FrameType | None = None
    while frame is not None and not _is_step(frame):
        if _is_users(frame):
            if _INSTALLED not in frame.f_code.co_filename:
                return _describe(frame.f_code, frame.f_lineno)
            library = library or frame
        frame = frame.f_back
    return _describe(library.f_code, library.f_lineno) if library is not None else "the retry, timeout or cancellation of an earlier call"


def innermost_line(stack: str) -> str:
    """ " at file.py:12 in my_orchestrator": where the exception was raised whose formatted trace this is; nothing if it has none."""
    frames = re.findall(r'^  File "(.+)", line (\d+), in (.+)$', stack, re.MULTILINE)
    return " at {}:{} in {}".format(*frames[-1]) if frames else ""


def await_line(coroutine: Any) -> str:
    """The line at which a suspended coroutine waits: the innermost frame of user code in its chain of awaits."""
    found = "not started"
    for part in await_chain(coroutine):
        frame = frame_of(part)
        if frame is not None and _is_users(frame):
            found = _describe(frame.f_code, frame.f_lineno)
    return found


def await_chain(coroutine: Any) -> Iterator[Any]:
    """A suspended coroutine, what it awaits, what that awaits, …"""
    while coroutine is not None:
        yield coroutine
        coroutine = (
            getattr(coroutine, "cr_await", None)
            or getattr(coroutine, "gi_yieldfrom", None)
            or getattr(coroutine, "ag_await", None)
            or (_stepped(coroutine) if is_step(coroutine) else None)
        )


def is_step(awaited: Any) -> bool:
    """What ``anext(generator)``, ``generator.aclose()`` and the like give to be awaited."""
    return type(awaited).__name__.startswith("async_generator_") or type(awaited).__name__ == "anext_awaitable"


def _stepped(step: Any) -> Any:
    """The generator (or the step of it) that a step is about: the step does not say, but the garbage collector knows."""
    return next((thing for thing in gc.get_referents(step) if isinstance(thing, AsyncGeneratorType) or is_step(thing)), None)


def frame_of(coroutine: Any) -> FrameType | None:
    """None of one that has ended, and of what has no frame (a future)."""
    return getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or getattr(coroutine, "ag_frame", None)


def _is_users(frame: FrameType) -> bool:
    top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return top == "__main__" or (top != "durable_core" and top not in sys.stdlib_module_names)


def _is_step(frame: FrameType) -> bool:
    return frame.f_code.co_name in _STEPS and str(frame.f_globals.get("__name__", "")).startswith("durable_core.replay.")


def _describe(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"
