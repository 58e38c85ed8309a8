"""Hints to whoever iterates over ``Backend.wakeups()``; what is missed while nobody looks is told as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakSet

from durable_core.backend import Wakeup

__all__ = ["Wakeups"]


class _Listener:
    """One iterator, listening from the moment it is made."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._ended = False
        self._closed = False

    def tell(self, *, ended: bool) -> None:
        self._ended |= ended
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Wakeup]:
        return self

    async def __anext__(self) -> Wakeup:
        await self._news.wait()
        if self._closed:
            raise StopAsyncIteration
        self._news.clear()
        ended, self._ended = self._ended, False
        return Wakeup(ended)


class Wakeups:
    """The listeners of one handle. One that is dropped is forgotten: while there is none, nobody needs to look what others do."""

    def __init__(self) -> None:
        self._listeners: WeakSet[_Listener] = WeakSet()
        self.wanted = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def tell(self, *, ended: bool) -> None:
        for listener in tuple(self._listeners):
            listener.tell(ended=ended)

    def close(self) -> None:
        for listener in tuple(self._listeners):
            listener.close()

    def listen(self) -> AsyncIterator[Wakeup]:
        listener = _Listener()
        self._listeners.add(listener)
        self.wanted.set()
        return listener
