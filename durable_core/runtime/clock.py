"""What the runtime knows of time. Whatever reads a clock or waits for one to advance does it here, so that a test can put another in its
place: the loop's clock, on which everything waits; the wall clock, for moments that a user names; and *hub time*, the store's.

Two things are left out on purpose, since they are about real work that blocks: the watchdog of ``guard.py``, and how long a closing engine
waits for running activities.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock:
    """That of the running loop. Hub time is the last timestamp that the store gave, plus what has passed since: it never runs backwards, and
    before the store has answered once it is unknown and 0."""

    def __init__(self) -> None:
        self._hub_us = 0
        self._at_s = 0.0

    # ── this process ──────────────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        """Seconds since some moment."""
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def client_waits(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Around a client's wait for an instance: TimeoutError when these seconds are over."""
        return asyncio.timeout(seconds)

    def limit(self, seconds: float | None) -> asyncio.Timeout:
        """Around a call of the store: TimeoutError when these seconds are over."""
        return asyncio.timeout(seconds)

    def wall_us(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1000

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────

    def learn(self, hub_us: int) -> None:
        """The store said that it is ``hub_us`` now."""
        if hub_us > self.now_us():
            self._hub_us, self._at_s = hub_us, self.time()

    def now_us(self) -> int:
        """Hub time."""
        return self._hub_us + round((self.time() - self._at_s) * 1e6) if self._hub_us else 0
