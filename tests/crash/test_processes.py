"""Several processes on one file: they share the work, do each piece once, never meet "database is locked", and make up for those that die.

DURABLE_ERRANDS says how many orchestrations are drained, each of three activities (1,000; in the long run, `make crash`, 5,000).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from durable_core import DurableClient
from tests.crash.audit import audit_errands, read_effects
from tests.crash.children import LONG, PATIENCE_S, TIMEOUT_S, Child, Place
from tests.crash.program import errand, new_engine

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S)]

ERRANDS = int(os.environ.get("DURABLE_ERRANDS") or (5_000 if LONG else 1_000))
EFFECTS = 3
KILL_EVERY_S = 1.0


def schedule(place: Place, count: int) -> None:
    async def start(client: DurableClient, number: int) -> None:
        await client.schedule_new_orchestration(errand, number, instance_id=f"errand{number}")

    async def main() -> None:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            await asyncio.gather(*(start(engine.client, number) for number in range(count)))

    asyncio.run(main())


def start_workers(place: Place, many: int, *more: str, **options: object) -> list[Child]:
    """They begin together, when ``gate`` exists."""
    workers = [place.start_worker("--gate", str(place.folder / "gate"), *more, **options) for _ in range(many)]
    for worker in workers:
        assert worker.wait_for("waiting"), place.errors()
    return workers


def drain(place: Place, report: Callable[[str], None]) -> None:
    """Open the gate, and wait until nothing is left."""
    (place.folder / "gate").touch()
    began = time.monotonic()
    while place.left():
        assert time.monotonic() < began + PATIENCE_S, f"{place.left()} are left; {place.errors()}"
        time.sleep(0.02)
    seconds = time.monotonic() - began
    shares = Counter(effect.pid for effect in read_effects(place.log))
    total = shares.total()
    parts = ", ".join(f"{100 * share / total:.0f} %" for _, share in shares.most_common())
    rates = f"{ERRANDS / seconds:.0f} and {total / seconds:.0f} a second"
    report(f"{ERRANDS} orchestrations, {total} activities in {seconds:.1f} s: {rates}; shares of the processes: {parts}")


@pytest.mark.parametrize("many", [2, 4])
def test_processes_share_the_work_and_do_each_piece_once(place: Place, report: Callable[[str], None], many: int) -> None:
    schedule(place, ERRANDS)
    # So few at once that the first one does not take it all before the last one is there.
    workers = start_workers(place, many, max_active_instances=100)
    drain(place, report)
    place.stop()
    for worker in workers:
        worker.finish()
    figures = asyncio.run(audit_errands(place, ERRANDS))
    assert (figures.effects, figures.repeated) == (EFFECTS * ERRANDS, 0)
    shares = Counter(effect.pid for effect in read_effects(place.log))
    assert set(shares) == {worker.pid for worker in workers}
    assert min(shares.values()) >= figures.effects / many / 10, f"somebody got next to nothing: {shares}"


def test_one_of_four_is_killed_every_second_and_replaced(place: Place, report: Callable[[str], None]) -> None:
    schedule(place, ERRANDS)
    more: dict[str, object] = {"max_async_activities": 10}
    workers = start_workers(place, 4, "--errand-s", "0.1", **more)
    (place.folder / "gate").touch()
    killed = 0
    for number in itertools.count():
        began = time.monotonic()
        while place.left() and time.monotonic() < began + KILL_EVERY_S:
            time.sleep(0.02)
        if not place.left():
            break
        assert number < PATIENCE_S, place.errors()
        killed += workers.pop(0).kill()
        workers.append(place.start_worker("--errand-s", "0.1", **more))
    place.stop()
    for worker in workers:
        worker.finish()
    figures = asyncio.run(audit_errands(place, ERRANDS))
    report(f"{killed} of {len(place.children)} processes were killed; {figures.effects} effects, {figures.repeated} of them repeated")
    assert killed >= 2


def test_a_process_that_was_paused_for_too_long_spoils_nothing(place: Place, report: Callable[[str], None]) -> None:
    """It is given up as dead and its work goes to another one; then it goes on, with results and commits of leases that it has lost."""
    schedule(place, ERRANDS // 4)
    workers = start_workers(place, 2, "--errand-s", "0.1", max_async_activities=5, worker_ttl_s=0.6, heartbeat_s=0.1)
    (place.folder / "gate").touch()
    for number in range(4):
        assert workers[number % 2].wait_for("effect", number // 2 * 5 + 1), place.errors()
        workers[number % 2].send(signal.SIGSTOP)
        time.sleep(1.5)
        workers[number % 2].send(signal.SIGCONT)
        time.sleep(0.5)
    assert place.left(), "they were done before"
    deadline = time.monotonic() + PATIENCE_S
    while place.left():
        assert time.monotonic() < deadline, place.errors()
        time.sleep(0.02)
    place.stop()
    for worker in workers:
        worker.finish()
    figures = asyncio.run(audit_errands(place, ERRANDS // 4, paused=True))
    given_up = place.errors().count("given up as dead")
    report(f"paused processes were given up {given_up} times; {figures.effects} effects, {figures.repeated} of them repeated")
    assert given_up >= 1


def test_a_process_without_a_worker_gets_results_from_another_process(place: Place, report: Callable[[str], None]) -> None:
    worker = place.start_worker()
    assert worker.wait_for("ready"), place.errors()
    client = place.start("submit", "--count", "200")
    assert client.finish()["results"] == [2 * number for number in range(200)]
    [ready], end = client.times("ready"), client.times("end")[0]
    report(f"200 orchestrations were started, run elsewhere and awaited in {end - ready:.2f} s")
    place.stop()
    worker.finish()
    figures = asyncio.run(audit_errands(place, 200))
    assert {effect.pid for effect in read_effects(place.log)} == {worker.pid}
    assert (figures.effects, figures.repeated) == (EFFECTS * 200, 0)
