"""A check at registration: does an orchestrator's code name a clock or a source of randomness that differs on replay?

It follows dotted global names in the bytecode, so aliases (``from random import choice as pick``) are found and look-alikes are not. It is
a warning, not an error: the call may be harmless (in a branch that only logs).
"""

from __future__ import annotations

import dis
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import reduce
from types import CodeType, ModuleType
from typing import Any


class DeterminismWarning(UserWarning):
    """An orchestrator names something that gives another value on replay."""


# what to write instead → what it replaces
_REPLACEMENTS = {
    "ctx.current_utc_datetime": (
        "datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today "
        "time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns"
    ),
    "asyncio.sleep or ctx.create_timer": "time.sleep",
    "ctx.random": (
        "random.random random.randint random.randrange random.choice random.choices random.shuffle random.sample random.uniform random.gauss "
        "random.getrandbits secrets.token_hex secrets.token_bytes secrets.token_urlsafe secrets.choice secrets.randbelow os.urandom"
    ),
    "ctx.new_uuid()": "uuid.uuid1 uuid.uuid4",
    "an activity": "os.getpid",
}


def warn_of_wall_clock(fn: Callable[..., Any], name: str) -> None:
    code = getattr(fn, "__code__", None)
    if code is None:
        return
    suspects = list(_suspects())
    for line, found in _global_paths(code, getattr(fn, "__globals__", {})):
        for what, value, instead in suspects:
            if found is value or (found == value and type(found) is type(value)):
                where = f"{code.co_filename}:{line}"
                message = f"orchestrator {name!r} names {what} ({where}), which gives another value on replay; use {instead}"
                warnings.warn(message, DeterminismWarning, stacklevel=4)


def _suspects() -> Iterator[tuple[str, Any, str]]:
    for instead, paths in _REPLACEMENTS.items():
        for path in paths.split():
            module, *attributes = path.split(".")  # a module that nobody has imported cannot be named by the code
            value = reduce(lambda found, name: getattr(found, name, None), attributes, sys.modules.get(module))
            if value is not None:
                yield path, value, instead


def _global_paths(code: CodeType, namespace: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """Every value that a dotted global name in the code reaches, prefixes included, with its line."""
    line, value, reached = code.co_firstlineno, None, False
    for instruction in dis.get_instructions(code):
        line = (instruction.positions and instruction.positions.lineno) or line
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value, reached = namespace.get(instruction.argval), instruction.argval in namespace
        elif reached and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            # Of modules and classes: there attribute access has no side effects worth fearing.
            value = getattr(value, instruction.argval, None) if isinstance(value, type | ModuleType) else None
        elif instruction.opname not in ("CACHE", "PUSH_NULL"):
            reached = False
        if reached and value is not None:
            yield line, value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_paths(constant, namespace)
