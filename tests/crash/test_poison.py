"""What takes its process down with it is found out and parked, across restarts; what merely died with it is not."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable

import pytest

from durable_core import EntityId
from tests.crash.children import PATIENCE_S, TIMEOUT_S, Child, Place
from tests.crash.program import Misfit, crashing, dawdling, errand, innocent, new_engine, poison, rude

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S)]

INNOCENTS = 50
KILLERS = ["poison0", "poison1", "@misfit@killer"]
ATTEMPTS = 3
DELIVERIES = 4
COMPANY = 20


async def schedule(place: Place) -> None:
    """The poison comes first, so that its turn is the first one of the claim that takes them all."""
    engine = new_engine()
    async with engine.open(place.url, worker=False):
        for id in KILLERS:
            if id.startswith("@"):
                await engine.client.signal_entity(EntityId.parse(id), Misfit.kill)
            else:
                await engine.client.schedule_new_orchestration(poison, instance_id=id)
        for number in range(INNOCENTS):
            await engine.client.schedule_new_orchestration(innocent, number, instance_id=f"innocent{number}")


def waiting(place: Place) -> list[tuple[object, ...]]:
    """What has neither ended nor been parked; an entity that has served its messages does not wait."""
    sql = "SELECT id FROM instances WHERE status IN ('PENDING', 'RUNNING') AND NOT parked AND (id NOT LIKE '@%' OR messages > 0)"
    return place.store.rows(sql)


def settles(place: Place, worker: Child) -> bool:
    """Until nothing waits any more; False if the worker dies before."""
    deadline = time.monotonic() + PATIENCE_S
    while worker.process.poll() is None:
        assert time.monotonic() < deadline, place.errors()
        if not waiting(place):
            return True
        time.sleep(0.02)
    return False


def parked(place: Place) -> dict[object, object]:
    """Ids and problems."""
    return dict(place.store.rows("SELECT id, problem FROM instances WHERE parked"))  # type: ignore[arg-type]


def test_a_killer_is_parked_and_those_claimed_with_it_are_not(place: Place, report: Callable[[str], None]) -> None:
    asyncio.run(schedule(place))
    deaths = 0
    worker = place.start_worker(max_attempts=ATTEMPTS)
    while not settles(place, worker):
        assert worker.wait_for_death() == 9, place.errors()
        deaths += 1
        assert set(parked(place)) <= set(KILLERS)
        assert deaths <= len(KILLERS) * ATTEMPTS, place.errors()
        worker = place.start_worker(max_attempts=ATTEMPTS)
    place.stop()
    worker.finish()
    place.start_worker(max_attempts=ATTEMPTS).finish()  # once more: what is parked stays parked
    problems = parked(place)
    assert set(problems) == set(KILLERS)
    # Or once more: a claim that was under way on the server when its process died counts, too.
    assert all(re.search(f"started [{ATTEMPTS}{ATTEMPTS + 1}] times", str(problem)) for problem in problems.values()), problems
    outputs = place.store.rows("SELECT id, output FROM instances WHERE status = 'COMPLETED'")
    assert sorted(outputs) == sorted((f"innocent{number}", str(number)) for number in range(INNOCENTS))
    assert deaths <= 1 + len(KILLERS) * (ATTEMPTS - 1), "they die once together, then each alone"
    report(f"{len(KILLERS)} killers parked after {deaths} deaths of their process; {INNOCENTS} innocents completed")


@pytest.mark.parametrize("how", ["0", "0.3", "thread"])
def test_an_activity_that_kills_its_process_fails_and_its_company_does_not(place: Place, report: Callable[[str], None], how: str) -> None:
    """Some of the company is older than the killer, some younger; of each orchestration two activities, one after the other."""

    async def schedule() -> None:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            for number in range(COMPANY):
                await engine.client.schedule_new_orchestration(innocent, number, instance_id=f"innocent{number}")
                await engine.client.schedule_new_orchestration(errand, number, instance_id=f"errand{number}")
                if number == COMPANY // 2:
                    await engine.client.schedule_new_orchestration(crashing, how, instance_id="killer")

    asyncio.run(schedule())
    deaths = 0
    worker = place.start_worker(max_deliveries=DELIVERIES)
    while not settles(place, worker):
        assert worker.wait_for_death() == -9, place.errors()
        deaths += 1
        assert deaths <= DELIVERIES, place.errors()
        worker = place.start_worker(max_deliveries=DELIVERIES)
    place.stop()
    worker.finish()
    rows = place.store.rows("SELECT id, output FROM instances WHERE status = 'COMPLETED'")
    outputs = {str(id): output for id, output in rows}
    assert re.search(rf"given to a worker {DELIVERIES} times", str(outputs.pop("killer"))), place.errors()
    expected = {f"innocent{number}": str(number) for number in range(COMPANY)}
    assert outputs == expected | {f"errand{number}": str(2 * number) for number in range(COMPANY)}
    report(f"its call failed after {deaths} deaths of the process; {2 * COMPANY} others completed")


def test_to_be_interrupted_by_an_end_in_order_is_no_attempt(place: Place) -> None:
    """Somebody may deploy ten times while an entity is busy: that makes it no killer."""

    async def main() -> None:
        engine = new_engine(drain_s=0.01, max_attempts=1)
        async with engine.open(place.url, worker=False):
            await engine.client.signal_entity(EntityId("misfit", "slow"), Misfit.dawdle, 600.0)
        for _ in range(3):
            async with engine.open(place.url), asyncio.timeout(PATIENCE_S):
                while not dawdling.is_set():
                    assert not parked(place)
                    await asyncio.sleep(0.01)
                dawdling.clear()
        assert place.store.rows("SELECT attempt, messages FROM instances") == [(0, 1)]

    asyncio.run(main())


def test_what_leaves_or_cancels_itself_fails_and_ends_no_process(place: Place) -> None:
    async def begin() -> None:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            await engine.client.schedule_new_orchestration(rude, instance_id="rude")

    asyncio.run(begin())
    worker = place.start_worker(max_attempts=ATTEMPTS)
    assert settles(place, worker), place.errors()
    place.stop()
    worker.finish()
    [(status, output)] = place.store.rows("SELECT status, output FROM instances WHERE id = 'rude'")
    assert status == "COMPLETED", place.errors()
    assert json.loads(str(output)) == ["SystemExit", "SystemExit", "CancelledError", "SystemExit", "CancelledError"]


@pytest.mark.parametrize("how", ["leave_by_a_task", "interrupt"])
def test_an_operation_that_ends_its_host_each_time_is_parked(place: Place, how: str) -> None:
    async def begin() -> None:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            await engine.client.signal_entity(EntityId("misfit", "leaver"), how)
            await engine.client.schedule_new_orchestration(innocent, 7, instance_id="innocent7")

    asyncio.run(begin())
    deaths = 0
    worker = place.start_worker(max_attempts=ATTEMPTS, first_backoff_s=0.01)
    while not settles(place, worker):
        deaths += 1
        assert deaths <= ATTEMPTS + 1, place.errors()
        worker = place.start_worker(max_attempts=ATTEMPTS, first_backoff_s=0.01)
    place.stop()
    worker.finish()
    assert deaths >= 1
    [(id, problem)] = parked(place).items()
    assert id == "@misfit@leaver"
    assert "purge_entity" in str(problem)
    assert place.store.rows("SELECT status FROM instances WHERE id = 'innocent7'") == [("COMPLETED",)]
