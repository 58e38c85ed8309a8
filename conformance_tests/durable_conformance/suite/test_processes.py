"""Several processes on one store, and kill -9."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, cast

import pytest

from durable_conformance.driver import Driver
from durable_conformance.faults import exercised
from durable_conformance.harness import Attachable, attach_to
from durable_conformance.processes import children
from durable_conformance.properties import Property, proves, proving, refuses, requires
from durable_conformance.workload import check, instances
from durable_core.backend import HistoryRange, InstanceFilter, Selectors

full = pytest.mark.durable_full
several = requires("attach", "multi_process")


@refuses("multi_process")
@requires("attach")
@proves(Property.LEASE)
async def test_a_second_process_is_refused(hub: Driver, spec: str) -> None:
    """Two that see different stores under one name would each hand out the same work."""
    await hub.create()
    async with children(hub, spec) as start:
        child = await start("look")
        assert await child.next() is None, "the store is not multi_process, and another process has opened it"
        assert "Error" in await child.errors()


@several
@proves(Property.CONSERVATION)
async def test_workers_in_processes(hub: Driver, spec: str, profile: str, seed: int, cases: Counter[str]) -> None:
    names, ids, messages = ["a", "b", "c"], instances(4), {"smoke": 5, "full": 30, "soak": 150}[profile]
    async with children(hub, spec) as start:
        running = [await start("workload", name=name, seed=seed, workers=len(names), ids=ids, messages=messages) for name in names]
        notes: list[Any] = [note for part in await asyncio.gather(*(child.finish() for child in running)) for note in part]
    cases["concurrent commands"] += len(notes)
    await check(hub.backend, notes, names=names, ids=ids, messages=messages)


@full
@several
@proves(Property.LEASE)
async def test_a_thousand_tasks_are_each_run_once(hub: Driver, spec: str) -> None:
    turn = await hub.started()
    await hub.commit(turn, tasks=tuple(hub.task(f"t{number:04}") for number in range(1_000)))
    async with children(hub, spec) as start:
        running = [await start("drain", name=f"w{number}", stop="done") for number in range(3)]
        ran = [task for part in await asyncio.gather(*(child.finish() for child in running)) for task in part]
    assert Counter(ran) == Counter(f"t{number:04}" for number in range(1_000))
    with proving(Property.CONSERVATION):
        claim = await hub.claim()
        assert claim.tasks == ()


@several
@requires("durable")
@proves(Property.ATOMICITY)
@pytest.mark.parametrize("round", [0, *(pytest.param(number, marks=full) for number in range(1, 6))])
async def test_all_or_nothing_of_what_a_killed_process_wrote(hub: Driver, spec: str, round: int, dice: random.Random) -> None:
    """And what it was told is there."""
    async with children(hub, spec) as start:
        child = await start("commit", instance="victim")
        await child.until("ready")
        for _ in range(dice.randrange(1, 20)):
            await child.next()
        await asyncio.sleep(dice.uniform(0, 0.01))
        exercised["process killed"] += 1
        said = await child.kill()
    harness = attach_to(spec, cast(Attachable, hub.harness).location)
    backend = await harness.open()
    try:
        [record] = await backend.get_instances(["victim"])
        assert record is not None
        turns = record.version
        with proving(Property.CONSERVATION):
            assert turns >= max(said, default=0), "what was acknowledged is lost"
        [page] = await backend.read_history([HistoryRange("victim", max_bytes=1 << 30)])
        assert record.custom_status == str(turns - 1).encode()
        assert [row.payload for row in page.rows] == [str(number).encode() for number in range(turns)]
        found = (await backend.query_instances(InstanceFilter(id_prefix="child "), limit=100_000)).records
        assert {record.instance for record in found} == {f"child {number}" for number in range(turns)}
        await backend.heartbeat("heir", ttl_us=60_000_000)
        what = Selectors(frozenset({"other"}), frozenset({"act"}))
        claim = await backend.claim("heir", claim_id="heir", turns=10, tasks=100_000, selectors=what)
        assert {task.id for task in claim.tasks} == {f"task {number}" for number in range(turns)}
        most = backend.capabilities.messages_per_claim
        ids = [message.id for turn in claim.turns for message in turn.messages]
        assert ids == [f"message {number}" for number in range(turns)][:most]
    finally:
        await harness.destroy()
