"""Ctrl-C and SIGTERM: the first one lets running activities end, within a limit, and gives every lease back; the second one ends at once.
And whatever ends the process, the processes of its pool end too.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from durable_core import OrchestrationState
from tests.crash.audit import audit_leftovers, read_effects
from tests.crash.children import PATIENCE_S, TIMEOUT_S, Child, Place
from tests.crash.program import new_engine

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S), pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")]

SIGNALS = [signal.SIGINT, signal.SIGTERM]
SOON_S = 5.0
"""What should take milliseconds may take so long on a busy machine."""


def schedule(place: Place, orchestrator: str, *args: object) -> None:
    async def main() -> None:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            await engine.client.schedule_new_orchestration(orchestrator, *args, instance_id="it")

    asyncio.run(main())


def state_of(place: Place) -> OrchestrationState:
    async def main() -> OrchestrationState:
        engine = new_engine()
        async with engine.open(place.url, worker=False):
            state = await engine.client.get_instance("it")
            assert state is not None
            return state

    return asyncio.run(main())


def finish_elsewhere(place: Place) -> OrchestrationState:
    """What the next worker makes of it."""

    async def main() -> OrchestrationState:
        engine = new_engine()
        async with engine.open(place.url):
            return await engine.client.wait_for_completion("it", timedelta(seconds=PATIENCE_S))

    return asyncio.run(main())


def lives(pid: int) -> bool:
    """A zombie does not: that somebody has yet to ask for its status is not its fault."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass  # it has ended meanwhile
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def seconds_to_end(child: Child) -> float:
    began = time.monotonic()
    child.process.wait(PATIENCE_S)
    return time.monotonic() - began


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_lets_running_activities_end(place: Place, number: signal.Signals) -> None:
    schedule(place, "slowly", 1.0)
    worker = place.start_worker()
    assert worker.wait_for("effect"), place.errors()
    worker.send(number)
    assert worker.finish() == {"ended": "by a signal"}
    assert "Traceback" not in place.errors()
    assert [problem for problem in audit_leftovers(place.store) if "messages" not in problem] == []
    assert finish_elsewhere(place).serialized_output == '"done"'
    assert len(read_effects(place.log)) == 1, "the result was saved, so nobody does it again"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_no_longer_than_the_limit(place: Place, number: signal.Signals) -> None:
    schedule(place, "slowly", 600.0)
    worker = place.start_worker(drain_s=0.5)
    assert worker.wait_for("effect"), place.errors()
    worker.send(number)
    assert seconds_to_end(worker) < 0.5 + SOON_S
    assert worker.finish() == {"ended": "by a signal"}
    assert place.store.rows("SELECT * FROM workers") == []
    assert place.store.rows("SELECT id FROM instances WHERE holder IS NOT NULL OR claimed") == []
    assert place.store.rows("SELECT worker FROM tasks") == [(None,)], "the task is there, and free"


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_at_once(place: Place, number: signal.Signals) -> None:
    schedule(place, "slowly", 600.0)
    worker = place.start_worker(drain_s=600)
    assert worker.wait_for("effect"), place.errors()
    worker.send(number)
    time.sleep(0.5)
    assert worker.process.poll() is None, "the first one lets the activity go on"
    worker.send(number)
    assert seconds_to_end(worker) < SOON_S
    assert worker.process.returncode in (-number, 128 + number)
    # Whoever comes next finds everything.
    [(task,)] = place.store.rows("SELECT id FROM tasks")
    next_worker = place.start_worker()
    assert next_worker.wait_for("effect"), place.errors()
    assert [effect.task for effect in read_effects(place.log)] == [task, task]
    next_worker.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_all_processes_of_a_terminal_leaves_the_pool_at_work(place: Place, number: signal.Signals) -> None:
    pids = place.folder / "pids"
    schedule(place, "burning", str(pids), 1.0, 2)
    worker = place.start_worker(activity_processes=2)
    assert until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2, PATIENCE_S), place.errors()
    worker.send_to_group(number)
    assert worker.finish() == {"ended": "by a signal"}
    assert "Traceback" not in place.errors()
    assert state_of(place).failure is None
    assert finish_elsewhere(place).serialized_output == "2"
    assert len(pids.read_text().splitlines()) == 2, "both results were saved"


def test_the_pools_processes_die_with_a_killed_worker(place: Place, report: Callable[[str], None]) -> None:
    pids = place.folder / "pids"
    schedule(place, "burning", str(pids), 600.0, 2)
    worker = place.start_worker(activity_processes=2)
    assert until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2, PATIENCE_S), place.errors()
    children = descendants(worker.pid)
    assert children >= {int(line) for line in pids.read_text().splitlines()}
    worker.kill()
    began = time.monotonic()
    assert until(lambda: not any(map(lives, children)), SOON_S), f"these live on: {[pid for pid in children if lives(pid)]}"
    report(f"{len(children)} processes were gone {1_000 * (time.monotonic() - began):.0f} ms after their parent")
