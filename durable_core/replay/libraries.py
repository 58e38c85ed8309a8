"""What other libraries need to run inside an orchestrator, if the program uses them. None of them is a dependency.

``anyio`` (``httpx``, ``starlette`` and others are made of it) runs on asyncio's tasks and callbacks, which are ours. Two things are not: a
cancel scope keeps its children in a set, whose order is one of addresses; and ``anyio.to_thread`` starts a thread, which would find out too
late that nobody may answer from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableSet
from functools import cache
from importlib import import_module
from typing import Any

from durable_core.replay.futures import orchestrators_loop


class _InOrder(MutableSet[Any]):
    """A set that iterates in the order of adding."""

    def __init__(self) -> None:
        self._items: dict[int, Any] = {}

    def __contains__(self, item: object) -> bool:
        return id(item) in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[id(value)] = value

    def discard(self, value: Any) -> None:
        self._items.pop(id(value), None)


def adapt_libraries() -> None:
    """Those that are imported by now. anyio imports its part for asyncio with the first use, which would be too late."""
    if "anyio" in sys.modules:
        _adapt_anyio()


@cache
def _adapt_anyio() -> None:
    backend: Any = import_module("anyio._backends._asyncio")
    _order_child_scopes(backend.CancelScope)
    _refuse_threads(backend.AsyncIOBackend)


def _order_child_scopes(scope: Any) -> None:
    original = scope.__init__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if orchestrators_loop() is not None:
            self._child_scopes = _InOrder()

    scope.__init__ = begin


def _refuse_threads(backend: Any) -> None:
    original: Callable[..., Any] = backend.run_sync_in_worker_thread.__func__

    async def run(cls: Any, *args: Any, **kwargs: Any) -> Any:
        loop = orchestrators_loop()
        if loop is not None:
            loop.refuse("anyio.to_thread")
        return await original(cls, *args, **kwargs)

    backend.run_sync_in_worker_thread = classmethod(run)
