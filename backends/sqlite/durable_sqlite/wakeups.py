"""Hints to whoever iterates over ``Backend.wakeups()``; what is missed while nobody looks is told as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from weakref import WeakSet

from durable_core.backend import Wakeup

__all__ = ["Wakeups"]


class _Listener:
    """One iterator, listening from the moment it is made. ``tell`` comes from the writer thread, the rest happens in the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ended = False
        self._told = False
        self._closed = False

    def tell(self, *, ended: bool) -> None:
        self._ended |= ended  # before the event is set, so that whoever is woken by it sees it
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:
                pass  # its loop is closed: nobody listens

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
        self._told = False
        ended, self._ended = self._ended, False
        return Wakeup(ended)


class Wakeups:
    """The listeners of one handle. One that is dropped is forgotten: while there is none, nobody needs to look what other processes do."""

    def __init__(self) -> None:
        self._listeners: WeakSet[_Listener] = WeakSet()

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def tell(self, *, ended: bool) -> None:
        """From any thread."""
        for listener in tuple(self._listeners):
            listener.tell(ended=ended)

    def close(self) -> None:
        for listener in tuple(self._listeners):
            listener.close()

    def listen(self, begin: Callable[[], None]) -> AsyncIterator[Wakeup]:
        """``begin`` lets the writer thread know that there is somebody to look around for."""
        listener = _Listener()
        self._listeners.add(listener)
        begin()
        return listener
