"""Hints to whoever iterates over ``Backend.wakeups()``; what is missed while nobody looks is told as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from durable_core.backend import Wakeup

__all__ = ["Wakeups"]


class _Listener:
    """One iterator. ``ended`` is written by the writer thread before it sets ``news``, and read after: nothing is lost in between."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Event()
        self.ended = False
        self.told = False

    def tell(self, *, ended: bool) -> None:
        self.ended |= ended
        if not self.told:
            self.told = True
            try:
                self.loop.call_soon_threadsafe(self.news.set)
            except RuntimeError:
                pass  # its loop is closed: nobody listens


class Wakeups:
    """The listeners of one handle."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._closed = False

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def tell(self, *, ended: bool) -> None:
        """From any thread."""
        for listener in tuple(self._listeners):
            listener.tell(ended=ended)

    def close(self) -> None:
        self._closed = True
        self.tell(ended=False)

    async def listen(self, begin: Callable[[], None]) -> AsyncIterator[Wakeup]:
        """``begin`` lets the writer thread know that there is somebody to look around for."""
        listener = _Listener()
        self._listeners.add(listener)
        begin()
        try:
            while not self._closed:
                await listener.news.wait()
                listener.news.clear()
                listener.told = False
                ended, listener.ended = listener.ended, False
                if not self._closed:
                    yield Wakeup(ended)
        finally:
            self._listeners.discard(listener)
