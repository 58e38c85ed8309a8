"""Puts the engine's own primitives where an orchestrator finds asyncio's.

On a ``DeterministicLoop`` ours run, on every other loop asyncio's own, unchanged. A module of the user's may have said ``from asyncio import
wait_for, TaskGroup`` before this engine was imported, so it is not enough to put other objects into the module ``asyncio``: the objects
themselves must lead to ours. A function gets a body that chooses by the running loop. A class gets a ``__new__`` that on our loop makes an
object of ours, which is a subclass; for a subclass of the user's, one of both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from durable_core.replay import primitives, synchronisation
from durable_core.replay.futures import orchestrators_loop

_SUBSTITUTES: dict[type[Any], type[Any]] = {
    asyncio.TaskGroup: synchronisation.TaskGroup,
    asyncio.Semaphore: synchronisation.Semaphore,
    asyncio.Condition: synchronisation.Condition,
}

# The bodies below run with the globals of asyncio.tasks, where these names are what chooses.
_durable_core_wait_for: Any = None
_durable_core_gather: Any = None
_durable_core_as_completed: Any = None


async def _wait_for(fut: Any, timeout: Any) -> Any:  # the parameters are asyncio's
    return await _durable_core_wait_for(fut, timeout)


def _gather(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
    return _durable_core_gather(*coros_or_futures, return_exceptions=return_exceptions)


def _as_completed(fs: Any, *, timeout: Any = None) -> Any:
    return _durable_core_as_completed(fs, timeout=timeout)


@cache
def substitute() -> None:
    """Once a process, for its whole life."""
    _substitute_function(asyncio.wait_for, _wait_for, primitives.wait_for)
    _substitute_function(asyncio.gather, _gather, primitives.gather)
    _substitute_function(asyncio.as_completed, _as_completed, primitives.as_completed)
    for theirs, ours in _SUBSTITUTES.items():
        _substitute_class(theirs, ours)


def _substitute_function(function: Any, body: Any, ours: Callable[..., Any]) -> None:
    original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    original.__kwdefaults__ = function.__kwdefaults__

    def choose(*args: Any, **kwargs: Any) -> Any:
        return (original if orchestrators_loop() is None else ours)(*args, **kwargs)

    function.__globals__[f"_durable_core_{function.__name__}"] = choose
    function.__code__ = body.__code__.replace(co_name=function.__name__, co_qualname=function.__qualname__)


def _substitute_class(theirs: Any, ours: Any) -> None:
    def make(cls: Any, *_args: Any, **_kwargs: Any) -> Any:
        return object.__new__(cls if orchestrators_loop() is None else _both(cls, ours))

    theirs.__new__ = make


@cache
def _both(cls: Any, ours: Any) -> Any:
    """A subclass of ``cls`` in which our methods go before asyncio's, and after those of ``cls``."""
    if issubclass(ours, cls):
        return ours
    return cls if issubclass(cls, ours) else type(cls.__name__, (cls, ours), {"__module__": cls.__module__})
