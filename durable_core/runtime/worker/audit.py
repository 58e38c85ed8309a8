"""What of the events that CPython audits during a turn is the orchestrator's own doing.

``open``, sockets, processes and the like are. These are not:

* reading files of the Python installation and of the time zone database, which libraries do when they need them, as an import does:
  ``ZoneInfo("Europe/Berlin")`` gives the same on every run;
* what imports, logging, warnings and debuggers do, whatever it is;
* what interrupts the orchestrator: finalizers (``__del__``, ``weakref.finalize``, all that a garbage collection runs), signal handlers,
  tracers and profilers. The host's may fall into any turn.

A finalizer that runs at once, since the orchestrator itself dropped the last reference, counts as an interruption too; a plain weak
reference's callback does only within a garbage collection.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from durable_core.replay.generators import is_collecting

# The names of events, from their beginning.
_FORBIDDEN = re.compile(
    r"open$|socket\.|subprocess\.|sqlite3\.|shutil\.|urllib\.|ftplib\.|smtplib\.|time\.sleep$|_thread\.start_"
    r"|os\.(system|exec|fork|spawn|posix_spawn|listdir|scandir|remove|rename|mkdir|rmdir|truncate)"
)
_READING = re.compile(r"open$|os\.(listdir|scandir)$")
_DEBUGGERS = frozenset({"pdb", "bdb", "cmd", "ipdb", "IPython", "pudb", "debugpy", "pydevd", "_pydevd_bundle"})
_LOADERS = frozenset({"importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "pkgutil", "zoneinfo", "encodings"})
_TELLERS = frozenset({"logging", "warnings", "linecache", "traceback", "tokenize", "inspect"})
_OWN_DATA = frozenset({"locale", "gettext", "mimetypes", "sysconfig"})
_LET_THROUGH = _DEBUGGERS | _LOADERS | _TELLERS | _OWN_DATA


def is_forbidden(event: str, args: tuple[Any, ...]) -> bool:
    """Whether the frames that called the caller do what an orchestrator must not do."""
    if not _FORBIDDEN.match(event):
        return False
    return not (_reads_installation(event, args) or _is_let_through(sys._getframe(2)) or is_collecting())


def is_debugged(frame: FrameType | None) -> bool:
    """Whether a debugger has stopped the code that runs in this frame."""
    return any(_package(inner) in _DEBUGGERS for inner in _within_loop(frame))


def _is_let_through(innermost: FrameType) -> bool:
    return any(_package(frame) in _LET_THROUGH or _is_finalizer(frame) or _interrupts(frame) for frame in _within_loop(innermost))


def _within_loop(frame: FrameType | None) -> Iterator[FrameType]:
    """From this frame out to our own loop, which runs the orchestrator."""
    while frame is not None and not str(frame.f_globals.get("__name__", "")).startswith("durable_core.replay."):
        yield frame
        frame = frame.f_back


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_finalizer(frame: FrameType) -> bool:
    return frame.f_code.co_name == "__del__" or _package(frame) == "weakref"


def _interrupts(frame: FrameType) -> bool:
    """Signal handlers, tracers and profilers are given the frame (or its code) that they interrupt. Nobody else is."""
    interrupted = frame.f_back
    if interrupted is None:
        return False
    names, varargs, _, values = inspect.getargvalues(frame)
    given = [*(values.get(name) for name in names), *values.get(varargs or "", ())]
    return any(value is interrupted or value is interrupted.f_code for value in given)


def _reads_installation(event: str, args: tuple[Any, ...]) -> bool:
    if not (_READING.match(event) and args and isinstance(args[0], str | bytes)):
        return False
    flags: Any = next(iter(args[2:]), os.O_RDONLY)
    if not isinstance(flags, int):
        flags = os.O_RDONLY
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    path = Path(os.path.normpath(Path(os.fsdecode(args[0])).absolute()))
    zones: tuple[str, ...] = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())
    return any(path.is_relative_to(folder) for folder in (*_installation(), *zones))


@cache
def _installation() -> frozenset[str]:
    """Where the standard library and the installed packages are. Not the whole of a prefix: that may be all of ``/usr``, or a home."""
    return frozenset(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
