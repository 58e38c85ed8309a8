"""An orchestrator that takes its process down with it is found out and parked, across restarts, and those that it took down are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable_core import OrchestrationState
from tests.crash.children import Place
from tests.crash.program import innocent, new_engine, poison

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0)]

INNOCENTS = 50
POISONS = 2
ATTEMPTS = 3


async def schedule(place: Place) -> None:
    """The poison comes first, so that its turn is the first one of the claim that takes them all."""
    engine = new_engine()
    async with engine.open(place.url, worker=False):
        for number in range(POISONS):
            await engine.client.schedule_new_orchestration(poison, instance_id=f"poison{number}")
        for number in range(INNOCENTS):
            await engine.client.schedule_new_orchestration(innocent, number, instance_id=f"innocent{number}")


async def look(place: Place) -> dict[str, OrchestrationState]:
    engine = new_engine()
    async with engine.open(place.url, worker=False):
        return {state.instance_id: state async for state in engine.client.query_instances()}


def test_a_killer_is_parked_and_those_claimed_with_it_are_not(place: Place, report: Callable[[str], None]) -> None:
    asyncio.run(schedule(place))
    deaths = 0
    while True:
        worker = place.start_worker(max_attempts=ATTEMPTS)
        if not worker.wait_for("ready") or not settled(place, worker_ended=lambda worker=worker: worker.process.poll() is not None):
            assert worker.wait_for_death() == 9, place.errors()
            deaths += 1
            assert deaths <= POISONS * ATTEMPTS, place.errors()
            states = asyncio.run(look(place))
            assert not any(state.parked for id, state in states.items() if id.startswith("innocent"))
            continue
        break
    place.stop()
    worker.finish()
    states = asyncio.run(look(place))
    for number in range(INNOCENTS):
        assert states[f"innocent{number}"].serialized_output == str(number)
    for number in range(POISONS):
        state = states[f"poison{number}"]
        assert state.parked
        assert state.problem is not None
        assert f"{ATTEMPTS} times" in state.problem
    # Together they died once, then each alone.
    assert deaths == 1 + POISONS * (ATTEMPTS - 1)
    report(f"{POISONS} killers parked after {deaths} deaths of their process; {INNOCENTS} innocents completed")
