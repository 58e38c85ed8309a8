"""The way from one process to the store, with everything that goes wrong on it.

Each call takes some time on its way there and back. It may not get there; the reply may be lost, after the call took effect; its process may die
in between. A batch may arrive in pieces, between which others write. Hints are lost, come twice, or come late.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
from attrs import define, field

from durable_core import backend as store
from durable_core.backend import Backend, Capabilities, Claim, Command, Heartbeat, Outcome, Selectors, Wakeup
from durable_core.errors import StoreUnavailableError
from durable_core.hub import Beat, Grant
from durable_core.testing.simulation.faults import Plan
from durable_core.testing.simulation.oracle import Oracle

_LATENCY_S = 0.004
_DELAY_S = 4.0
_LATE_S = 10.0


@define(eq=False)
class Hub:
    """The one store of a run, and who looks over its shoulder. ``new_handle`` makes a handle on it; ``backend`` is one that outlives every
    process. ``trace`` is the digest of all that was said, ``hints`` counts the wake-ups that ``backend`` heard."""

    new_handle: Callable[[], Backend]
    oracle: Oracle
    now_us: Callable[[], int]
    trace: Any = field(factory=lambda: blake2b(digest_size=16))
    counts: Counter[str] = field(factory=Counter)
    hints: int = 0
    backend: Backend = field(init=False)

    async def open(self) -> Backend:
        handle = self.new_handle()
        await handle.open(create=True)
        return handle

    async def listen(self) -> None:
        async for _ in self.backend.wakeups():
            self.hints += 1

    async def apply(self, commands: Sequence[Command], handle: Backend | None = None) -> list[Outcome]:
        outcomes = await (handle or self.backend).apply(commands)
        self.oracle.applied(commands, outcomes, self.now_us())
        ends = (command.record.status for command in commands if isinstance(command, store.CommitTurn) and command.record is not None)
        self.counts["termination"] += sum(status is store.InstanceStatus.TERMINATED for status in ends)
        self.note(commands, [(outcome.status, outcome.messages, outcome.turn) for outcome in outcomes])
        return outcomes

    async def claim(self, worker: str, claim_id: str, turns: int, tasks: int, selectors: Selectors, handle: Backend | None = None) -> Claim:
        claim = await (handle or self.backend).claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)
        handed = tuple(turn.instance for turn in claim.turns), tuple(task.id for task in claim.tasks)
        self.oracle.claimed(Grant(worker, claim_id, selectors, *handed), claim, turns, tasks, self.now_us())
        self.note(claim_id, claim)
        return claim

    async def heartbeat(self, worker: str, ttl_us: int, handle: Backend | None = None) -> Heartbeat:
        heartbeat = await (handle or self.backend).heartbeat(worker, ttl_us=ttl_us)
        self.oracle.beaten(Beat(worker, ttl_us), heartbeat, self.now_us())
        self.counts["given up"] += not heartbeat.alive
        self.note(worker, heartbeat)
        return heartbeat

    def note(self, *said: Any) -> None:
        self.trace.update(msgspec.json.encode((self.now_us(), said)))


class SimulatedStore:
    """One process' handle. ``die`` ends the process here and now; ``mortal``: it may do so, and its reads may fail, too; ``deaf``: no hint arrives.
    ``in_world`` starts what outlives the process."""

    def __init__(
        self,
        hub: Hub,
        process: str,
        plan: Plan,
        die: Callable[[], None],
        in_world: Callable[[Coroutine[Any, Any, None]], None],
        *,
        mortal: bool,
        deaf: bool,
    ) -> None:
        self._hub = hub
        self._process = process
        self._plan = plan
        self._die = die
        self._in_world = in_world
        self._mortal = mortal
        self._deaf = deaf
        self._latency: Random = plan.dice(f"latency {process}")
        self._handle: Backend

    @property
    def capabilities(self) -> Capabilities:
        return self._hub.backend.capabilities

    async def open(self, *, create: bool = True) -> None:
        self._handle = await self._hub.open()

    async def close(self) -> None:
        await self._handle.close()

    # ── writes ────────────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        await self._go("apply")
        outcomes: list[Outcome] = []
        for part in self._pieces(commands):
            if outcomes:
                await self._travel()
            outcomes += await self._hub.apply(part, self._handle)
        if dice := self._plan.hit("late_repeat", self._process):
            self._in_world(self._repeat(commands, dice.random() * _LATE_S))
        await self._come_back("apply")
        return outcomes

    async def _repeat(self, commands: Sequence[Command], seconds: float) -> None:
        """A network may deliver a batch twice. (But for purges: an id that is purged may be taken again.)"""
        await asyncio.sleep(seconds)
        await self._hub.apply([command for command in commands if not isinstance(command, store.Purge)])

    def _pieces(self, commands: Sequence[Command]) -> list[Sequence[Command]]:
        if len(commands) > 1 and (dice := self._plan.hit("cut_batch", self._process, f"of {len(commands)}")):
            at = dice.randrange(1, len(commands))
            return [commands[:at], commands[at:]]
        return [commands]

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        await self._go("claim")
        claim = await self._hub.claim(worker, claim_id, turns, tasks, selectors, self._handle)
        if self._plan.hit("repeated_claim", self._process):
            await self._travel()
            claim = await self._hub.claim(worker, claim_id, turns, tasks, selectors, self._handle)
        await self._come_back("claim")
        return claim

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        await self._go("heartbeat")
        heartbeat = await self._hub.heartbeat(worker, ttl_us, self._handle)
        await self._come_back("heartbeat")
        return heartbeat

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_instances(self, ids: Sequence[str]) -> list[store.InstanceRecord | None]:
        await self._before_reading()
        records = await self._handle.get_instances(ids)
        self._hub.oracle.read_records(ids, records)
        await self._travel()
        return records

    async def query_instances(self, filter: store.InstanceFilter, *, limit: int, cursor: str | None = None) -> store.Page:
        await self._before_reading()
        page = await self._handle.query_instances(filter, limit=limit, cursor=cursor)
        await self._travel()
        return page

    async def read_history(self, ranges: Sequence[store.HistoryRange]) -> list[store.HistoryPage]:
        self._hub.counts["cold replay"] += 1
        await self._before_reading()
        pages = await self._handle.read_history(ranges)
        self._hub.oracle.read_histories(ranges, pages)
        await self._travel()
        return pages

    async def _before_reading(self) -> None:
        await (self._go("read") if self._mortal else self._travel())

    # ── the way ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _travel(self) -> None:
        seconds = self._latency.random() * _LATENCY_S
        if dice := self._plan.hit("delay", self._process):
            seconds = dice.random() ** 3 * _DELAY_S
        await asyncio.sleep(seconds)

    async def _go(self, call: str) -> None:
        await self._travel()
        if self._plan.hit("unavailable", self._process, call):
            raise StoreUnavailableError(f"simulated: the {call} of {self._process} did not arrive")

    async def _come_back(self, call: str) -> None:
        if self._mortal and self._plan.hit("crash_in_write", self._process, call):
            self._die()
        await self._travel()
        if self._plan.hit("lost_reply", self._process, call):
            raise StoreUnavailableError(f"simulated: the reply to the {call} of {self._process} was lost")

    # ── hints ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def wakeups(self) -> AsyncIterator[Wakeup]:
        async for hint in self._handle.wakeups():
            if self._deaf or self._plan.hit("lost_wakeup", self._process):
                continue
            await self._travel()
            yield hint
            if self._plan.hit("repeated_wakeup", self._process):
                yield hint
