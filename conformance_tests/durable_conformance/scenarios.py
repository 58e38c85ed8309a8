"""One end-to-end scenario a feature: what a client does, what it expects, and when a worker dies.

A scenario does not know whether the workers are engines in this process or processes of their own (``cluster.py``). ``crash`` kills the
worker that was at work last; the other one has to finish everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from durable_conformance import programs
from durable_conformance.cluster import Cluster
from durable_conformance.properties import Property, proving
from durable_core import InstanceStatus, OrchestrationFailedError

__all__ = ["PATIENCE", "SCENARIOS"]

PATIENCE = timedelta(seconds=40)
Scenario = Callable[[Cluster], Awaitable[None]]
SCENARIOS: dict[str, tuple[Property, Scenario]] = {}


def _scenario(property: Property) -> Callable[[Scenario], Scenario]:
    def add(scenario: Scenario) -> Scenario:
        SCENARIOS[scenario.__name__] = property, scenario
        return scenario

    return add


async def _until(cluster: Cluster, instance: str, done: Callable[[Any], bool]) -> Any:
    """Until the record says so."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            state = await cluster.client.get_instance(instance)
            if state is not None and done(state):
                return state
            await asyncio.sleep(0.01)


@_scenario(Property.ATOMICITY)
async def activities(cluster: Cluster) -> None:
    """And custom status, which is committed with the turn."""
    handle = await cluster.client.schedule_new_orchestration(programs.fan, 12, instance_id="fan")
    sequence = await cluster.client.schedule_new_orchestration(programs.chain, 20, instance_id="chain")
    await _until(cluster, "fan", lambda state: state.serialized_custom_status == '"half"')
    await cluster.crash()
    assert await handle.result(PATIENCE) == ["first", *(f"part {number}" for number in range(12))]
    assert await sequence.result(PATIENCE) == [f"step {number}" for number in range(20)]


@_scenario(Property.CONSERVATION)
async def retries(cluster: Cluster) -> None:
    handle = await cluster.client.schedule_new_orchestration(programs.stubborn, instance_id="stubborn")
    await cluster.until_effect("stubborn flaky")
    await cluster.crash()
    assert await handle.result(PATIENCE) == ["flaky", "failed: ''"]


@_scenario(Property.TIMERS)
async def timers(cluster: Cluster) -> None:
    handle = await cluster.client.schedule_new_orchestration(programs.alarms, instance_id="alarms")
    first = await cluster.client.schedule_new_orchestration(programs.sleeps_first, 1, instance_id="sleeps first")
    await cluster.client.wait_for_start("alarms", PATIENCE)
    await cluster.crash()
    assert all(late >= 0 for late in await handle.result(PATIENCE)), "a timer fired early"
    with proving(Property.GENERATIONS):
        assert await first.result(PATIENCE) == "rested"


@_scenario(Property.CONSERVATION)
async def events(cluster: Cluster) -> None:
    handle = await cluster.client.schedule_new_orchestration(programs.collector, 30, instance_id="collector")
    for number in range(30):
        assert await cluster.client.raise_event("collector", "NUMBER", number)
        if number == 10:
            await cluster.crash()
    with proving(Property.ORDER):
        assert await handle.result(PATIENCE) == list(range(30))
    assert not await cluster.client.raise_event("collector", "number", 31), "it has ended"


@_scenario(Property.GENERATIONS)
async def continue_as_new(cluster: Cluster) -> None:
    handle = await cluster.client.schedule_new_orchestration(programs.generations, [], 25, instance_id="generations")
    for number in range(25):
        assert await cluster.client.raise_event("generations", "number", number)
        if number == 12:
            await cluster.crash()
    assert await handle.result(PATIENCE) == list(range(25))


@_scenario(Property.PROGRESS)
async def children(cluster: Cluster) -> None:
    await cluster.client.schedule_new_orchestration(programs.waits, 0, instance_id="taken")
    handle = await cluster.client.schedule_new_orchestration(programs.family, instance_id="family")
    await cluster.until_effect("family.long long")
    await cluster.crash()
    assert await handle.result(PATIENCE) == ["step 0 step 1 step 2"] * 2 + ["long", "bounced"]
    assert await cluster.client.raise_event("taken", "go", "on")
    assert await cluster.client.get_handle(programs.waits, "taken").result(PATIENCE) == "on"


@_scenario(Property.CONSERVATION)
async def entities(cluster: Cluster) -> None:
    names = [f"counts {number}" for number in range(3)]
    handles = [await cluster.client.schedule_new_orchestration(programs.counts, "shared", 6, instance_id=name) for name in names]
    await _until(cluster, names[0], lambda state: state.history_length > 4)
    await cluster.crash()
    totals = [total for handle in handles for total in await handle.result(PATIENCE)]
    assert len(set(totals)) == 18, "operations run one at a time"
    tally = await cluster.client.get_entity(programs.Tally, "shared")
    assert tally is not None
    assert tally.total == 18 * 11, "each operation exactly once, and what failed is rolled back"
    assert len(set(tally.seen)) == len(tally.seen) == 36
    with proving(Property.ORDER):
        for name in names:
            wanted = [f"{name} {kind} {number}" for number in range(6) for kind in ("signal", "call")]
            assert [who for who in tally.seen if who.startswith(name)] == wanted


@_scenario(Property.CONSERVATION)
async def locks(cluster: Cluster) -> None:
    """Some fail inside: the locks are given back all the same, and nobody waits for ever."""
    client = cluster.client
    handles = [
        await client.schedule_new_orchestration(
            programs.transfer, *(("left", "right") if number % 2 else ("right", "left")), number == 2, instance_id=f"transfer {number}"
        )
        for number in range(5)
    ]
    await cluster.until_effect("inside")
    await cluster.crash()
    for number, handle in enumerate(handles):
        try:
            assert await handle.result(PATIENCE) is True, "somebody was inside a critical section of another one"
            assert number != 2
        except OrchestrationFailedError:
            assert number == 2
    left, right = [await client.get_entity(programs.Tally, key) for key in ("left", "right")]
    assert left is not None
    assert right is not None
    assert left.total + right.total == 0
    async with asyncio.timeout(PATIENCE.total_seconds()):  # a release is a message: it may still be on its way
        while [state async for state in client.query_entities(name="tally") if state.locked_by is not None or state.backlog]:
            await asyncio.sleep(0.01)


@_scenario(Property.PROGRESS)
async def terminate(cluster: Cluster) -> None:
    client = cluster.client
    await client.schedule_new_orchestration(programs.waits, 2, instance_id="doomed")
    await _until(cluster, "doomed.1", lambda state: state.serialized_custom_status is not None)
    await _until(cluster, "doomed.0", lambda state: state.serialized_custom_status is not None)
    assert await client.terminate("doomed", output="enough")
    await cluster.crash()
    for id in ("doomed", "doomed.0", "doomed.1"):
        state = await client.wait_for_completion(id, PATIENCE)
        assert state.runtime_status is InstanceStatus.TERMINATED
    ended = await client.get_instance("doomed")
    assert ended is not None
    assert ended.output_as(str) == "enough"
    assert not await client.terminate("doomed")


@_scenario(Property.PROGRESS)
async def suspend_and_resume(cluster: Cluster) -> None:
    client = cluster.client
    handle = await client.schedule_new_orchestration(programs.collector, 3, instance_id="paused")
    await client.wait_for_start("paused", PATIENCE)
    assert await client.suspend("paused")
    await _until(cluster, "paused", lambda state: state.runtime_status is InstanceStatus.SUSPENDED)
    for number in range(3):
        assert await client.raise_event("paused", "number", number)
    await cluster.crash()
    bystander = await client.schedule_new_orchestration(programs.chain, 2, instance_id="bystander")
    assert await bystander.result(PATIENCE) == ["step 0", "step 1"]
    state = await client.get_instance("paused")
    assert state is not None
    assert state.runtime_status is InstanceStatus.SUSPENDED
    assert await client.resume("paused")
    assert await handle.result(PATIENCE) == [0, 1, 2]


@_scenario(Property.PURGE)
async def purge_and_restart(cluster: Cluster) -> None:
    client = cluster.client
    handle = await client.schedule_new_orchestration(programs.chain, 2, instance_id="phoenix")
    assert await handle.result(PATIENCE) == ["step 0", "step 1"]
    first = await client.get_instance("phoenix")
    assert await client.restart("phoenix") == "phoenix"
    await cluster.crash()
    assert await handle.result(PATIENCE) == ["step 0", "step 1"]
    second = await client.get_instance("phoenix")
    assert first is not None
    assert second is not None
    assert first.execution_id != second.execution_id
    assert await client.purge("phoenix") == 1
    assert await client.get_instance("phoenix") is None
    again = await client.schedule_new_orchestration(programs.chain, 1, instance_id="phoenix")
    assert await again.result(PATIENCE) == ["step 0"]
    # Purged with a terminate that nobody has taken yet, and events behind it: nothing of them troubles whoever comes next.
    await client.schedule_new_orchestration(programs.waits, 0, instance_id="unlucky")
    await client.terminate("unlucky")
    await client.purge("unlucky", force=True)
    fresh = await client.schedule_new_orchestration(programs.waits, 0, instance_id="unlucky")
    await client.wait_for_start("unlucky", PATIENCE)
    assert await client.raise_event("unlucky", "go", "on")
    assert await fresh.result(PATIENCE) == "on"


@_scenario(Property.CONSERVATION)
async def crossed_messages(cluster: Cluster) -> None:
    """Two that write to each other all the time neither block each other nor lose a letter."""
    client, names = cluster.client, ["pal a", "pal b"]
    pals = [
        await client.schedule_new_orchestration(programs.pen_pals, other, 15, instance_id=own)
        for own, other in zip(names, reversed(names), strict=True)
    ]
    for name in names:
        assert await client.raise_event(name, "begin")
    await _until(cluster, "pal a", lambda state: state.history_length > 8)
    await cluster.crash()
    assert [await pal.result(PATIENCE) for pal in pals] == [15, 15]
