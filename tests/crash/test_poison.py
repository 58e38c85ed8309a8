"""An orchestrator that takes its process down with it is found out and parked, across restarts, and those that it took down are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from durable_core import OrchestrationState
from tests.crash.audit import rows_of
from tests.crash.children import PATIENCE_S, Child, Place
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


def settles(place: Place, worker: Child) -> bool:
    """Until all are completed or parked; False if the worker dies before."""
    deadline = time.monotonic() + PATIENCE_S
    while worker.process.poll() is None:
        assert time.monotonic() < deadline, place.errors()
        if rows_of(place.store, "SELECT 1 FROM instances WHERE status IN ('PENDING', 'RUNNING') AND NOT parked LIMIT 1") == []:
            return True
        time.sleep(0.02)
    return False


def test_a_killer_is_parked_and_those_claimed_with_it_are_not(place: Place, report: Callable[[str], None]) -> None:
    asyncio.run(schedule(place))
    deaths = 0
    worker = place.start_worker(max_attempts=ATTEMPTS)
    while not settles(place, worker):
        assert worker.wait_for_death() == 9, place.errors()
        deaths += 1
        states = asyncio.run(look(place))
        assert not any(state.parked for id, state in states.items() if id.startswith("innocent"))
        assert deaths <= POISONS * ATTEMPTS, place.errors()
        worker = place.start_worker(max_attempts=ATTEMPTS)
    place.stop()
    worker.finish()
    place.start_worker(max_attempts=ATTEMPTS).finish()  # once more: what is parked stays parked
    states = asyncio.run(look(place))
    assert [states[f"innocent{number}"].serialized_output for number in range(INNOCENTS)] == [str(number) for number in range(INNOCENTS)]
    for number in range(POISONS):
        state = states[f"poison{number}"]
        assert state.parked
        assert state.problem is not None
        assert f"{ATTEMPTS} times" in state.problem
    assert deaths == 1 + POISONS * (ATTEMPTS - 1), "they die once together, then each alone"
    report(f"{POISONS} killers parked after {deaths} deaths of their process; {INNOCENTS} innocents completed")
