"""Two workers on one store, and a client beside them: engines in this process, or processes of their own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from attrs import define

from durable_conformance.driver import Driver
from durable_conformance.faults import Faulty, Lent, Mortal, exercised
from durable_conformance.harness import Attachable, Harness, attach_to
from durable_conformance.processes import Child, children
from durable_conformance.programs import effects, new_engine
from durable_conformance.properties import Property, proving
from durable_core import DurableClient
from durable_core.backend import ENDED, Backend, Command, CommitTurn, HistoryRange, InstanceFilter, Outcome, Release, Selectors
from durable_core.codec import decode_events
from durable_core.events import Completion, Event, ExecutionStarted, Failure, TaskCompleted, TaskScheduled

__all__ = ["Cluster", "audit", "of_engines", "of_processes"]


@define
class Cluster:
    """``client`` has no worker and does not die. ``kill``: end the worker that was at work last."""

    client: DurableClient
    backend: Backend
    log: Path
    kill: Callable[[], Any] | None
    crashed: bool = False

    async def crash(self) -> None:
        """One worker dies; once only, if at all in this test."""
        if self.kill is not None and not self.crashed:
            self.crashed = True
            await self.kill()

    async def until_effect(self, what: str) -> None:
        async with asyncio.timeout(40):
            while not any(what in line for line in effects(self.log)):
                await asyncio.sleep(0.005)


# ── engines in this process ──────────────────────────────────────────────────────────────────────────────────────


class _Noticed(Lent):
    """Knows when it was at work last."""

    _moves = 0

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.last = 0

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        if any(isinstance(command, CommitTurn) for command in commands):
            _Noticed._moves += 1
            self.last = _Noticed._moves
        return await super().apply(commands)


@define
class _Worker:
    handle: Backend
    noticed: _Noticed
    mortal: Mortal


@asynccontextmanager
async def of_engines(
    hub: Driver, log: Path, *, dice: random.Random, faults: Sequence[str] = (), alone: bool = False
) -> AsyncIterator[Cluster]:
    """``faults`` happen between each engine, the client's too, and the store. ``alone``: one worker on the driver's own handle; nobody
    dies."""

    def faulty(handle: Backend) -> Lent:
        return Faulty(handle, dice, faults, 0.08) if faults else Lent(handle)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_running_clock(hub.harness))
        workers: list[_Worker] = []
        for _ in range(1 if alone else 2):
            handle = hub.backend if alone else await hub.harness.open()
            noticed = _Noticed(faulty(handle))
            workers.append(_Worker(handle, noticed, Mortal(noticed)))
            await stack.enter_async_context(new_engine(log).open(backend=workers[-1].mortal))
        engine = await stack.enter_async_context(new_engine(log).open(backend=faulty(hub.backend), worker=False))

        async def kill() -> None:
            victim = max(workers, key=lambda worker: worker.noticed.last)
            victim.mortal.die()
            await hub.harness.kill(victim.handle)

        yield Cluster(engine.client, hub.backend, log, None if alone else kill)


@asynccontextmanager
async def _running_clock(harness: Harness) -> AsyncIterator[None]:
    """A clock that stands still is made to go as the machine's does."""
    if "frozen_clock" not in harness.features:
        yield
        return
    loop = asyncio.get_running_loop()

    async def run() -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(0.002)
            now = loop.time()
            harness.advance_clock(int((now - last) * 1e6))
            last = now

    clock = asyncio.create_task(run())
    try:
        yield
    finally:
        clock.cancel()
        await asyncio.wait([clock])


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def of_processes(hub: Driver, spec: str, log: Path) -> AsyncIterator[Cluster]:
    harness = attach_to(spec, cast(Attachable, hub.harness).location)
    try:
        async with children(hub, spec) as start:
            workers: list[Child] = [await start("work", log=str(log)) for _ in range(2)]
            for worker in workers:
                await worker.until("ready")
            backend = await harness.open()

            async def kill() -> None:
                exercised["process killed"] += 1
                await workers[0].kill()

            async with new_engine(log).open(backend=Lent(backend), worker=False) as engine:
                yield Cluster(engine.client, backend, log, kill)
    finally:
        await harness.destroy()


# ── the audit ────────────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = new_engine(Path())._registry
_EVERYTHING = Selectors(frozenset(_NAMES.orchestrators), frozenset(_NAMES.activities), frozenset(_NAMES.entities))


async def audit(cluster: Cluster) -> None:
    """Histories are dense, each command is answered once, every result has an effect, and nothing is left to do or locked."""
    backend, done = cluster.backend, Counter(effects(cluster.log))
    for entities in (False, True):
        cursor: str | None = None
        while True:
            page = await backend.query_instances(InstanceFilter(entities=entities), limit=100, cursor=cursor)
            for record in page.records:
                if not entities:
                    assert record.status in ENDED, f"{record.instance!r} is {record.status}"
                    await _audit_history(backend, record.instance, record.history_length, done)
            cursor = page.cursor
            if cursor is None:
                break
    left = await _left_over(backend)
    with proving(Property.CONSERVATION):
        assert left == [], "somebody has still something to do, or tasks of ended orchestrations are left"


async def _audit_history(backend: Backend, instance: str, length: int, done: Counter[str]) -> None:
    [page] = await backend.read_history([HistoryRange(instance, max_bytes=1 << 30)])
    history: list[Event] = []
    with proving(Property.HISTORY):
        for row in page.rows:
            events = decode_events(row.payload)
            assert (row.first, row.count) == (len(history), len(events)), f"{instance}: a hole, or events that are not there"
            history += events
        assert len(history) == length
        assert [type(event) for event in history].count(ExecutionStarted) == 1
        assert isinstance(history[0], ExecutionStarted)
    answers = Counter((type(event).__name__, event.id) for event in history if isinstance(event, Completion | Failure))
    scheduled = {event.id: event.name for event in history if isinstance(event, TaskScheduled)}
    with proving(Property.CONSERVATION):
        assert [answer for answer, count in answers.items() if count > 1] == [], f"{instance}: answered twice"
    with proving(Property.ATOMICITY):
        for event in history:
            if isinstance(event, TaskCompleted):
                assert event.id in scheduled, f"{instance}: a result of what was never asked for"
                label = (event.result or "").strip('"')
                assert done[f"{instance} {label}"] > 0, f"{instance}: {label!r} is a result without an effect"


async def _left_over(backend: Backend) -> list[str]:
    """What an idle hub hands out. The workers may be busy with the last messages, so what is claimed is given back and looked at again."""
    await backend.heartbeat("auditor", ttl_us=600_000_000)
    left: list[str] = []
    for attempt in range(20):
        claim = await backend.claim("auditor", claim_id=f"what is left {attempt}", turns=1_000, tasks=1_000, selectors=_EVERYTHING)
        left = [turn.instance for turn in claim.turns] + [task.id for task in claim.tasks]
        if not left or claim.tasks:
            break
        await backend.apply([Release(turn.instance, turn.execution, turn.epoch, uncount=True) for turn in claim.turns])
        await asyncio.sleep(0.2)
    return left
