"""A check at registration: does an orchestrator's code name a clock or a source of randomness that differs on replay?

It follows dotted global names in the bytecode, so aliases (``from random import choice as pick``) are found and look-alikes are not. It is
a warning, not an error: the call may be harmless (in a branch that only logs).
"""

from __future__ import annotations

import dis
import sys
import warnings
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any


class DeterminismWarning(UserWarning):
    """An orchestrator names something that gives another value on replay."""


# module, attribute path → what to write instead
_REPLACEMENTS = {
    "datetime": {
        "datetime.now": "ctx.current_utc_datetime",
        "datetime.utcnow": "ctx.current_utc_datetime",
        "datetime.today": "ctx.current_utc_datetime",
        "date.today": "ctx.current_utc_datetime",
    },
    "time": dict.fromkeys(("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"), "ctx.current_utc_datetime")
    | {"sleep": "asyncio.sleep or ctx.create_timer"},
    "random": dict.fromkeys(
        ("random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "gauss", "getrandbits"), "ctx.random"
    ),
    "uuid": {"uuid1": "ctx.new_uuid()", "uuid4": "ctx.new_uuid()"},
    "secrets": dict.fromkeys(("token_hex", "token_bytes", "token_urlsafe", "choice", "randbelow"), "ctx.random"),
    "os": {"urandom": "ctx.random", "getpid": "an activity"},
}


def warn_of_wall_clock(fn: Callable[..., Any], name: str) -> None:
    code = getattr(fn, "__code__", None)
    if code is None:
        return
    suspects = _suspects()
    for line, found in _global_paths(code, getattr(fn, "__globals__", {})):
        for what, value, instead in suspects:
            if found is value or (found == value and type(found) is type(value)):
                warnings.warn(
                    f"orchestrator {name!r} names {what} ({code.co_filename}:{line}), which gives another value on replay; use {instead}",
                    DeterminismWarning,
                    stacklevel=4,
                )


def _suspects() -> list[tuple[str, Any, str]]:
    # Only modules that somebody has imported can be named by the code.
    found = []
    for module_name, paths in _REPLACEMENTS.items():
        if module_name in sys.modules:
            for path, instead in paths.items():
                value: Any = sys.modules[module_name]
                for part in path.split("."):
                    value = getattr(value, part, None)
                if value is not None:
                    found.append((f"{module_name}.{path}", value, instead))
    return found


def _global_paths(code: CodeType, namespace: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """Every value that a dotted global name in the code reaches, prefixes included, with its line."""
    line, value, reached = code.co_firstlineno, None, False
    for instruction in dis.get_instructions(code):
        line = _line_of(instruction) or line
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value, reached = namespace.get(instruction.argval), instruction.argval in namespace
        elif reached and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            value = getattr(value, instruction.argval, None) if _is_plain(value) else None
        elif instruction.opname not in ("CACHE", "PUSH_NULL"):
            reached = False
        if reached and value is not None:
            yield line, value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_paths(constant, namespace)


def _is_plain(value: Any) -> bool:
    """Attribute access on modules and classes has no side effects worth fearing."""
    return isinstance(value, type | type(sys))


def _line_of(instruction: dis.Instruction) -> int | None:
    if sys.version_info >= (3, 13):
        return instruction.line_number
    return instruction.starts_line
