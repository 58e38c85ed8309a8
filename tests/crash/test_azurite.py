"""Three worker processes on a bad network, under a load that does not end, are killed and replaced; then everything is audited.

A short run is part of the tests. ``make crash-azurite`` is the long one: ten kills, 40 seconds apart, with the engine's own times.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import define, evolve, frozen

from durable_azure import open_emulator
from durable_azure.azurite import shared_azurite
from durable_azure.proxy import Proxy, bad_network
from durable_core import DurableClient, InstanceStatus, OrchestrationHandle
from durable_core.backend import HistoryRange
from durable_core.codec import decode_events
from tests.crash import toil
from tests.crash.audit import Effect, Orchestration, audit_effects, audit_errors, audit_history, read_effects
from tests.crash.children import Child, Death, Place
from tests.crash.stores import Row, Store

LONG = bool(os.environ.get("DURABLE_AZURITE_KILLS"))
WORKERS = 3
STARTED_EVERY_S = 0.2
LAG_S = 1.1
"""Hub time is the service's, in whole seconds: it is behind the effect log's by so much at most, and what is compared with it is moved."""


@frozen
class Plan:
    """``resumes_s``: what a killed worker had in its hands goes on within this time."""

    kills: int
    every_s: float
    width: int
    seconds: float
    resumes_s: float
    options: dict[str, Any]


SHORT = Plan(2, 5.0, 1_000, 0.3, 20.0, {"max_async_activities": 8, "worker_ttl_s": 6.0, "heartbeat_s": 1.0})
PLAN = Plan(int(os.environ.get("DURABLE_AZURITE_KILLS") or 0), 40.0, 10_000, 1.0, 20.0, {"max_async_activities": 8}) if LONG else SHORT


@define
class Container:
    """Where the processes reach the store. It has no views: what is in it, the audit asks a handle."""

    url: str

    def exists(self) -> bool:
        raise NotImplementedError

    def rows(self, sql: str) -> list[Row]:
        raise NotImplementedError

    def holds_task(self, id: str) -> bool:
        raise NotImplementedError

    def has_workers(self) -> bool:
        raise NotImplementedError

    def faults(self) -> list[str]:
        raise NotImplementedError

    def as_it_lies(self, folder: Path) -> Store:
        raise NotImplementedError

    def close(self) -> None:
        pass


@asynccontextmanager
async def feeding(client: DurableClient) -> AsyncIterator[list[OrchestrationHandle[int]]]:
    """Orchestrations of five activities, one after the other, all the time."""
    handles: list[OrchestrationHandle[int]] = []

    ended = asyncio.Event()

    async def feed() -> None:
        while not ended.is_set():
            handles.append(await client.schedule_new_orchestration(toil.five, len(handles), instance_id=f"five{len(handles)}"))
            await asyncio.sleep(STARTED_EVERY_S)

    task = asyncio.create_task(feed())
    yield handles
    ended.set()
    await task


async def run(place: Place, plan: Plan, proxy: Proxy, dice: random.Random) -> list[str]:
    """The load, the kills, the audit; what was measured."""
    workers = [await start(place, plan) for _ in range(WORKERS)]
    proxy.rule = bad_network(dice)
    async with toil.new_engine().open(place.url, worker=False) as engine:
        large = await engine.client.schedule_new_orchestration(toil.fan, plan.width, plan.seconds, instance_id="fan")
        async with feeding(engine.client) as small:
            for _ in range(plan.kills):
                await asyncio.sleep(plan.every_s)
                victim = workers.pop(dice.randrange(WORKERS))
                assert await asyncio.to_thread(victim.wait_for, "effect", len(victim.times("effect")) + 1), place.errors()
                assert await asyncio.to_thread(victim.kill)
                workers.append(await start(place, plan))
            state = await large.state()
            lasted = state is not None and not state.is_ended
            assert await large.result() == sum(range(plan.width))
        assert await asyncio.gather(*(handle.result() for handle in small)) == [n + toil.FIVE for n in range(len(small))]
    proxy.rule = lambda _request: None
    place.stop()
    for worker in workers:
        await asyncio.to_thread(worker.finish)
    effects = read_effects(place.log)
    await audit(place, place.url.replace(proxy.endpoint, proxy.target), len(small), effects)
    resumed = resumption(effects, place.deaths)
    assert max(resumed) <= plan.resumes_s, f"what the dead had was taken over after {resumed} s"
    shares = Counter(effect.pid for effect in effects if effect.instance == "fan")
    return [
        f"{len(place.deaths)} kills; what each had in its hands went on after {', '.join(f'{s:.1f}' for s in resumed)} s",
        f"{len(small)} orchestrations of five, one of {plan.width:,} activities, which was {'still' if lasted else 'no longer'} running after the last kill",
        f"{proxy.broken.total():,} of {proxy.seen.total():,} requests broken",
        f"{len(effects):,} effects, {len(effects) - len({effect.task for effect in effects})} of them repeated",
        f"the large fan-out ran on {len(shares)} processes: {', '.join(map(str, shares.values()))} activities",
    ]


async def start(place: Place, plan: Plan) -> Child:
    more = ["--stop", str(place.folder / "stop"), "--options", json.dumps(plan.options)]
    child = place.start("work", *more, program=toil.__name__)
    assert await asyncio.to_thread(child.wait_for, "ready"), place.errors()
    return child


async def audit(place: Place, url: str, small: int, effects: list[Effect]) -> None:
    """Without the proxy, by a handle that reads all of it anew."""
    backend = open_emulator(url)
    orchestrations: list[Orchestration] = []
    async with toil.new_engine().open(backend=backend, worker=False) as engine:
        async for state in engine.client.query_instances(page_size=1_000):
            rows: list[tuple[int, int, list[Any]]] = []
            first: int | None = 0
            while first is not None:
                [page] = await backend.read_history([HistoryRange(state.instance_id, state.execution_id, first)])
                rows += [(row.first, row.count, decode_events(row.payload)) for row in page.rows]
                first = page.next
            facts = state.instance_id, state.execution_id, state.runtime_status, state.serialized_output, state.history_length
            orchestrations.append(Orchestration(*facts, rows))
        left = backend._store.replica.state
        problems = [] if not (left.tasks or left.inbox) else [f"left over: {list(left.tasks)[:3]} {list(left.inbox)[:3]}"]
    problems += [f"{row.instance} is still held" for row in left.instances.values() if row.claimed]
    if {o.id for o in orchestrations} != {"fan", *(f"five{n}" for n in range(small))}:
        problems.append(f"{len(orchestrations)} orchestrations are there")
    for orchestration in orchestrations:
        assert orchestration.status is InstanceStatus.COMPLETED
        problems += (f"{orchestration.id}: {problem}" for problem in audit_history(orchestration))
    moved = [evolve(effect, at=effect.at - LAG_S) for effect in effects]
    deaths = [Death(death.pid, death.at - LAG_S) for death in place.deaths]
    problems += audit_effects(orchestrations, moved, deaths, 2 * PLAN.options["max_async_activities"])
    problems += audit_errors(place.errors())
    assert not problems, "\n".join(problems[:20])
    assert len({effect.task for effect in effects}) == toil.FIVE * small + PLAN.width


def resumption(effects: list[Effect], deaths: list[Death]) -> list[float]:
    """Of each death: how long the last of the activities that it interrupted took to be started again. Those of the large fan-out: they are
    the oldest, and nothing that is free waits before them."""
    by_task: dict[str, list[Effect]] = defaultdict(list)
    for effect in (effect for effect in effects if effect.instance == "fan"):
        by_task[effect.task].append(effect)
    died = {death.pid: death.at for death in deaths}
    waits: dict[int, list[float]] = {death.pid: [] for death in deaths}
    for each in by_task.values():
        for before, after in pairwise(sorted(each, key=lambda effect: effect.at)):
            waits[before.pid].append(after.at - died[before.pid])
    assert all(waits.values()), "each of them had something in its hands"
    return [max(waits[death.pid]) for death in deaths]


@pytest.mark.crash
@pytest.mark.timeout(0 if LONG else 120)
def test_workers_are_killed_on_a_bad_network(tmp_path: Path, dice: random.Random, report: Callable[[str], None]) -> None:
    async def main() -> list[str]:
        proxy = Proxy(shared_azurite().endpoint)
        await proxy.start()
        place = Place(tmp_path, Container(f"azurite://kills-{uuid4().hex}?endpoint={proxy.endpoint}"))
        try:
            return await run(place, PLAN, proxy, dice)
        finally:
            place.leave()
            await proxy.close()

    for line in asyncio.run(main()):
        report(line)
