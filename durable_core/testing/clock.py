"""Virtual time: it stands still until somebody moves it, and then jumps from one moment at which something is due to the next.

It takes the place of the runtime's ``Clock`` in a program whose event loop is an ordinary one, so ``asyncio.sleep`` stays real. What is due
at one moment comes in ranks, and whoever moves the clock lets everything come to rest between two of them: first the engine's own timers,
so that an orchestration sees its timer before anybody sees that its time is over, then what waits beside the engine, last ``advance``.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from attrs import define

from durable_core.runtime.clock import Clock

HORIZON_YEARS = 100
NEVER_S = 10_000_000_000.0  # beyond the horizon

ENGINE, BESIDE, LAST = range(3)


@define(eq=False)
class _Alarm:
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@define(eq=False)
class _ClientWait:
    """``interrupt`` ends the wait, with ``error`` or as a time-out."""

    interrupt: Callable[[], None]
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self.interrupt()


class VirtualClock(Clock):
    """Hub time, wall time and the loop's time in one, in whole microseconds.

    ``asked`` counts how often anybody asked it (or, see ``environment.py``, the store): the engine does nothing without asking. ``wanted`` is set while somebody waits for
    time to pass. ``resting`` are the tasks that do nothing but wait for that.
    """

    def __init__(self, now_us: int) -> None:
        super().__init__()
        self._now_us = now_us
        self._horizon_us = now_us + HORIZON_YEARS * 365 * 86_400_000_000
        self._alarms: list[tuple[int, int, int, _Alarm]] = []
        self._order = itertools.count()
        self._drivers = 0
        self.asked = 0
        self.wanted = asyncio.Event()
        self.waits: set[_ClientWait] = set()
        self.resting: set[asyncio.Task[Any] | None] = set()

    # ── what the runtime asks ─────────────────────────────────────────────────────────────────────────────────

    def now_us(self) -> int:
        self.asked += 1
        return self._now_us

    wall_us = now_us

    def time(self) -> float:
        return self.now_us() / 1e6

    def learn(self, hub_us: int) -> None:
        assert hub_us <= self._now_us, "the store is on another clock"

    def call_later(self, seconds: float, callback: Callable[[], object], rank: int = ENGINE) -> _Alarm:
        alarm = _Alarm(callback)
        heapq.heappush(self._alarms, (self.now_us() + max(0, round(seconds * 1e6)), rank, next(self._order), alarm))
        return alarm

    async def sleep(self, seconds: float, rank: int = ENGINE) -> None:
        over = asyncio.Event()
        alarm = self.call_later(seconds, over.set, rank)
        try:
            with self._at_rest():
                await over.wait()
        finally:
            alarm.cancel()

    @asynccontextmanager
    async def client_waits(self, seconds: float | None) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        wait = _ClientWait(lambda: limit.reschedule(loop.time()))
        alarm = self.call_later(NEVER_S if seconds is None else seconds, wait.interrupt, BESIDE)
        try:
            async with asyncio.timeout(None) as limit:
                with self._at_rest(), self.driven():
                    self.waits.add(wait)
                    yield
        except TimeoutError:
            if wait.error is None:
                raise
            raise wait.error from None
        finally:
            alarm.cancel()
            self.waits.discard(wait)

    @property
    def seconds_left(self) -> float:
        return (self._horizon_us - self._now_us) / 1e6

    # ── passing ───────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Meanwhile time is wanted to pass."""
        self._drivers += 1
        self.wanted.set()
        try:
            yield
        finally:
            self._drivers -= 1
            if not self._drivers:
                self.wanted.clear()

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        task = asyncio.current_task()
        self.resting.add(task)
        try:
            yield
        finally:
            self.resting.discard(task)

    def jump(self) -> bool:
        """To the next moment at which something is due, and let that happen. False: there is none up to the horizon."""
        alarms = self._alarms
        while alarms and alarms[0][3].cancelled:
            heapq.heappop(alarms)
        if not alarms or alarms[0][0] > self._horizon_us:
            return False
        moment = alarms[0][:2]
        assert moment[0] >= self._now_us
        self._now_us = moment[0]
        while alarms and alarms[0][:2] == moment:
            alarm = heapq.heappop(alarms)[3]
            if not alarm.cancelled:
                alarm.callback()
        return True
