"""The simulation: the same seed gives the same run, everything goes wrong sometimes, and what is broken is found and made small."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from random import Random
from typing import Any

import pytest

from durable_conformance.broken import memory as broken
from durable_conformance.simulated import hunt
from durable_core import DurableEngine
from durable_core.errors import UsageError
from durable_core.runtime.worker.runner import Runner
from durable_core.testing.memory import MemoryBackend
from durable_core.testing.simulation import Faults, Run, SimulationFailure, simulate
from durable_core.testing.simulation.loop import PROCESS, NothingIsDueError, Process, SimulatedLoop, new_loop
from durable_core.testing.simulation.programs import LOADS
from durable_core.testing.simulation.programs import engine as programs
from durable_core.testing.simulation.world import Scenario, World
from tests.testing.simulated import charged_once, counted, engine, remembered


def run(seed: int, *, faults: Faults | None = None, loads: Any = LOADS, only: tuple[int, ...] | None = None) -> Run:
    scenario = Scenario(
        engine=programs, loads=loads, faults=faults or Faults(), workers=3, backend=MemoryBackend, activities={}, limit_s=3_600
    )
    return World(scenario, seed, only_loads=only).run()


# ── seeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_few_dozen_seeds_have_no_finding_and_everything_goes_wrong_in_them() -> None:
    report = simulate(programs, LOADS, seeds=range(20)) + simulate(programs, LOADS, seeds=range(20, 23), faults=Faults(deaf=1.0))
    assert report.seeds == 23
    assert report.least_commits >= 200
    assert not report.missing, report


def test_without_faults_nothing_goes_wrong() -> None:
    calm = run(1, faults=Faults.none())
    assert not calm.findings
    assert not calm.faults


def test_the_same_seed_gives_the_same_run() -> None:
    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first.trace != other.trace


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_under_any_hash_seed(hash_seed: str) -> None:
    code = "from tests.testing.test_simulation import run; print(run(5).trace)"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == run(5).trace


# ── what is broken is found ───────────────────────────────────────────────────────────────────────────────────────


def failure(load: Any, **options: Any) -> SimulationFailure:
    with pytest.raises(SimulationFailure) as raised:
        simulate(options.pop("engine", engine), load, **options)
    return raised.value


def test_a_program_that_relies_on_one_execution_is_found_and_one_fault_is_left() -> None:
    # Only a death between the effect and its commit repeats it, and at which write that is depends on the other loads: a seed where few matter.
    faults = Faults(crash_in_write=0.05, lost_reply=0.1, event_every_steps=150)
    found = failure([charged_once, counted, charged_once], seeds=range(130, 230), faults=faults)
    assert len(found.shrunk.loads) < 3
    assert len(found.shrunk.faults) == 1 < len(found.run.faults)
    assert "charged twice" in str(found)
    assert f"seeds=[{found.run.seed}]" in str(found)
    assert all(str(fault) in str(found) for fault in found.shrunk.faults)


def test_a_program_that_is_not_deterministic_is_found() -> None:
    found = failure([remembered] * 3, seeds=range(20), limit_s=100, faults=Faults(small_caches=1.0, until_s=20.0))
    assert "does not replay" in str(found)


def test_a_broken_store_is_found_and_its_run_made_smaller() -> None:
    found = failure(LOADS, engine=programs, seeds=range(200), backend=broken.EarlyTimers.kind)
    assert "the store does not say what it should" in str(found)
    assert len(found.shrunk.loads) < len(found.run.loads)
    assert len(found.shrunk.faults) < len(found.run.faults)


@pytest.mark.parametrize(
    "name",
    [
        "FenceIgnored",
        "VersionIgnored",  # a batch that comes twice
        "Watermark",
        "Forgetful",
        "AttemptsInTheProcess",  # a handle for each process
        "FreesWhatItDoesNotDeclare",
        "HistoryWithoutTheRest",  # the stranger
        "PagesByOffset",
        "NoNul",
        "Mute",
    ],
)
def test_a_broken_store_is_found(name: str) -> None:
    """A sample: ``make simulate-teeth`` has them all."""
    assert hunt(f"{broken.__name__}:{name}", 200).seed is not None


def test_a_broken_engine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "complete_through_inbox", lambda *_: None)
    assert "did not come to an end" in str(failure(LOADS[:2], engine=programs, seeds=range(20), limit_s=80, faults=Faults(until_s=30.0)))


def test_synchronous_activities_run_and_processes_need_fakes() -> None:
    assert simulate(engine, counted, seeds=range(3)).seeds == 3
    with_process = DurableEngine()
    with_process.activity(executor="process")(sorted_here)
    with pytest.raises(UsageError, match="pass a fake"):
        simulate(with_process, counted, seeds=[0])


def sorted_here(numbers: list[int]) -> list[int]:
    return sorted(numbers)


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_process(loop: SimulatedLoop, process: Process, function: Callable[[], Any]) -> asyncio.Task[Any]:
    context = copy_context()
    context.run(PROCESS.set, process)
    task: asyncio.Task[Any] = loop.create_task(function(), context=context)
    return task


@pytest.fixture
def loop() -> SimulatedLoop:
    return new_loop(Random(1))


def test_time_is_virtual_and_callbacks_of_a_process_keep_their_order(loop: SimulatedLoop) -> None:
    seen: list[tuple[str, int]] = []

    async def main() -> float:
        here = [Process("a"), Process("b")]

        async def note(name: str, number: int) -> None:
            await asyncio.sleep(3600)
            seen.append((name, number))

        tasks = [in_process(loop, process, lambda p=process, n=n: note(p.name, n)) for n in range(20) for process in here]  # type: ignore[misc]
        await asyncio.wait(tasks)
        return loop.time()

    assert loop.run(main()) == 3600
    for name in "ab":
        assert [number for who, number in seen if who == name] == list(range(20))
    assert Counter(who for who, _ in seen) == {"a": 20, "b": 20}
    assert [who for who, _ in seen] != ["a", "b"] * 20


def test_the_dead_do_nothing_more_and_the_frozen_catch_up(loop: SimulatedLoop) -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        try:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append(f"{name} {loop.time():.1f}")
        finally:
            seen.append(f"{name} over")

    async def main() -> list[str]:
        doomed, frozen = Process("doomed"), Process("frozen")
        in_process(loop, doomed, lambda: work("doomed"))
        slow = in_process(loop, frozen, lambda: work("frozen"))
        await asyncio.sleep(1.5)
        loop.kill(doomed)
        loop.freeze(frozen)
        await asyncio.sleep(10)
        loop.thaw(frozen)
        await slow
        return list(seen)

    assert sorted(loop.run(main())) == ["doomed 1.0", "frozen 1.0", "frozen 11.5", "frozen 12.5", "frozen over"]


def test_waiting_for_nothing_is_told(loop: SimulatedLoop) -> None:
    async def main() -> None:
        await loop.create_future()

    with pytest.raises(NothingIsDueError):
        loop.run(main())
