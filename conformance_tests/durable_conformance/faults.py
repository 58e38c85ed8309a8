"""Faults without the author's help: a layer between whoever uses a store and the store.

``Faulty`` is a handle that loses replies, loses requests, gives calls up in the middle, submits twice, cuts batches in two, takes its time
and drops wake-ups. The store behind it never fails, so whatever goes wrong in the end, its rules for submitting again do not hold (or those
of who uses it).
``Mortal`` is a handle whose process may die: from then on nothing reaches the store, and what was under way is not heard of again.

Both leave ``open`` and ``close`` to the harness.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from durable_core.backend import (
    Backend,
    Capabilities,
    Claim,
    Command,
    Heartbeat,
    HistoryPage,
    HistoryRange,
    InstanceFilter,
    InstanceRecord,
    Outcome,
    OutcomeStatus,
    Page,
    Selectors,
    Wakeup,
)
from durable_core.errors import StoreUnavailableError

__all__ = ["FAULTS", "Faulty", "Lent", "Mortal", "exercised", "give_up"]

T = TypeVar("T")
FAULTS = ("reply lost", "request lost", "call cancelled", "submitted twice", "batch cut", "delayed", "wake-up dropped")
exercised: Counter[str] = Counter()
"""How often each fault was injected in this process."""


async def give_up(call: Awaitable[Any], steps: int) -> None:
    """Begin a call, go so many steps of the event loop, and cancel it. Whether it took effect, nobody knows."""
    running = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    exercised["call cancelled"] += 1


class Lent:
    """A handle that its user does not open or close."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def capabilities(self) -> Capabilities:
        return self.backend.capabilities

    async def open(self, *, create: bool = True) -> None:
        pass

    async def close(self) -> None:
        pass

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self.backend.apply(commands)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        return await self.backend.claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        return await self.backend.heartbeat(worker, ttl_us=ttl_us)

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        return await self.backend.get_instances(ids)

    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        return await self.backend.query_instances(filter, limit=limit, cursor=cursor)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        return await self.backend.read_history(ranges)

    def wakeups(self) -> AsyncIterator[Wakeup]:
        return self.backend.wakeups()


class Faulty(Lent):
    """``faults`` are those of ``FAULTS`` that happen, each to ``share`` of the calls that it can happen to."""

    def __init__(self, backend: Backend, dice: random.Random, faults: Sequence[str] = FAULTS, share: float = 0.2) -> None:
        super().__init__(backend)
        self._dice = dice
        self._faults = faults
        self._share = share
        self._registered: set[str] = set()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        if len(commands) > 1 and self._happens("batch cut"):
            middle = self._dice.randrange(1, len(commands))
            return [outcome for part in (commands[:middle], commands[middle:]) for outcome in await self.backend.apply(part)]
        return await self._call(lambda: self.backend.apply(commands))

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        # Not submitted twice: of two answers the engine would get the second, which is the same unless somebody committed in between.
        return await self._call(
            lambda: self.backend.claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors), twice=False
        )

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        # The first one is part of opening an engine, which fails if the store cannot be reached. Of the others a lost reply would lose
        # what it says of cancelled tasks, which is told once.
        if worker not in self._registered:
            self._registered.add(worker)
            return await self.backend.heartbeat(worker, ttl_us=ttl_us)
        return await self._call(lambda: self.backend.heartbeat(worker, ttl_us=ttl_us), twice=False, lost=False)

    def wakeups(self) -> AsyncIterator[Wakeup]:
        return self._wakeups()

    async def _wakeups(self) -> AsyncIterator[Wakeup]:
        async for wakeup in self.backend.wakeups():
            if "wake-up dropped" in self._faults:
                exercised["wake-up dropped"] += 1
            else:
                yield wakeup

    async def _call(self, call: Callable[[], Awaitable[T]], *, twice: bool = True, lost: bool = True) -> T:
        if self._happens("delayed"):
            await asyncio.sleep(self._dice.uniform(0, 0.005))
        if self._happens("request lost"):
            raise StoreUnavailableError("a fault of the conformance kit: the request was lost")
        if lost and self._draws("call cancelled"):
            await give_up(call(), self._dice.randrange(30))
            raise StoreUnavailableError("a fault of the conformance kit: the call was cancelled")
        answer = await call()
        if twice and self._happens("submitted twice"):
            await call()
        if lost and self._happens("reply lost"):
            raise StoreUnavailableError("a fault of the conformance kit: the reply was lost")
        return answer

    def _happens(self, fault: str) -> bool:
        happens = self._draws(fault)
        if happens:
            exercised[fault] += 1
        return happens

    def _draws(self, fault: str) -> bool:
        return fault in self._faults and self._dice.random() < self._share


class Mortal(Lent):
    """After ``die`` its user goes on in a world of its own, where nothing is there any more: so an engine can be ended in order, although
    for the store it is dead."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._death = asyncio.Event()

    def die(self) -> None:
        exercised["worker died"] += 1
        self._death.set()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        gone = [Outcome(OutcomeStatus.GONE) for _ in commands]
        return await self._while_alive(lambda: self.backend.apply(commands), gone)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        call = super().claim
        return await self._while_alive(
            lambda: call(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors), Claim((), (), 1)
        )

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        return await self._while_alive(lambda: self.backend.heartbeat(worker, ttl_us=ttl_us), Heartbeat(1, alive=True))

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        return await self._while_alive(lambda: self.backend.get_instances(ids), [None for _ in ids])

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        return await self._while_alive(lambda: self.backend.read_history(ranges), [HistoryPage(()) for _ in ranges])

    async def _while_alive(self, call: Callable[[], Awaitable[T]], afterwards: T) -> T:
        if self._death.is_set():
            return afterwards
        running, death = asyncio.ensure_future(call()), asyncio.ensure_future(self._death.wait())
        try:
            await asyncio.wait([running, death], return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
            if not running.done():
                running.cancel()
        return afterwards if self._death.is_set() else running.result()
