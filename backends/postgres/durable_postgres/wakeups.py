"""Who is told that something changed, in this process and in others.

Listeners here are told at once. Others learn by NOTIFY, which is sent by itself, after the commit: inside it, all commits of a
database would queue on one lock. What happens within ``_PAUSE_S`` is told as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from weakref import WeakSet

from durable_core.backend import Wakeup

__all__ = ["Wakeups"]

_PAUSE_S = 0.005


class _Listener:
    """One iterator, listening from the moment it is made; what is missed while nobody looks is told as one."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._ended = False
        self._closed = False

    def tell(self, *, ended: bool, closed: bool = False) -> None:
        self._ended |= ended
        self._closed |= closed
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
    """``send`` tells other handles: awaited at most once in ``_PAUSE_S``, with whether something ended."""

    def __init__(self, send: Callable[[bool], Awaitable[None]]) -> None:
        self._send = send
        self._listeners: WeakSet[_Listener] = WeakSet()
        self._sending: asyncio.Task[None] | None = None
        self._news = False
        self._ended = False

    def listen(self) -> AsyncIterator[Wakeup]:
        listener = _Listener()
        self._listeners.add(listener)
        return listener

    def tell(self, *, ended: bool) -> None:
        """Whoever listens on this handle."""
        for listener in tuple(self._listeners):
            listener.tell(ended=ended)

    def tell_everybody(self, *, ended: bool) -> None:
        self.tell(ended=ended)
        self._news = True
        self._ended |= ended
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="durable-postgres notify")

    async def close(self) -> None:
        """What was told to nobody yet is told now: whoever waits elsewhere need not wait for a poll."""
        for listener in tuple(self._listeners):
            listener.tell(ended=False, closed=True)
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        try:
            while self._news:
                self._news, ended, self._ended = False, self._ended, False
                await self._send(ended)
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._sending = None
