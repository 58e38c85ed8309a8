"""Each example is killed just before and just after its commits, started again, and gives the same result.

Afterwards the store is audited as for the program of the other tests. The commits at which it is killed are drawn: DURABLE_POINTS says how
many an example (6; on PostgreSQL 2); ``all`` (`make crash-examples`) is every commit, before and after.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import frozen

from examples.catalogue import EXAMPLES
from tests.crash.audit import audit, read_orchestrations
from tests.crash.children import PATIENCE_S, Child, Place
from tests.crash.example import REST, WORKER, WORKER_ENDED

_tries = itertools.count(1)
POINTS = os.environ.get("DURABLE_POINTS", "")
DRAWN = {"sqlite": "6", "postgres": "2"}
AT_ONCE = os.cpu_count() or 1
CASES = [*(name for name in EXAMPLES if name != "parallel_processing"), WORKER]
"""The README's example chooses no id: each start is a run of its own."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0 if POINTS == "all" else 300)]


@frozen
class Case:
    """One of the processes of an example is killed."""

    name: str
    new_place: Callable[[str], Place]

    @property
    def of_rest(self) -> bool:
        return self.name in (REST, WORKER)

    def start(self, place: Place, point: str | None = None) -> Child:
        more = ["--commits", str(place.folder / "commits")]
        if point is not None:
            more += ["--worker-point" if self.name == WORKER else "--point", point]
        return place.start(REST if self.of_rest else self.name, *more, program="tests.crash.example")

    def run_undisturbed(self) -> int:
        """How many commits there are to be killed at."""
        place = self.new_place("undisturbed")
        answer = self.start(place).finish()
        self.audit(place)
        return int((place.folder / "commits").read_text() if self.name == WORKER else answer["commits"])

    def survive(self, point: str) -> bool:
        """It is killed there and started again; False if it came to its end before (the number of its commits varies)."""
        place = self.new_place(f"{point.replace(':', '-')}.{next(_tries)}")  # two points may end at the same one
        status = self.start(place, point).wait_for_death()
        assert status in (0, WORKER_ENDED if self.name == WORKER else -signal.SIGKILL), f"ended with {status}: {place.errors()}"
        if place.store.exists():
            assert place.copy().faults() == []
        self.start(place).finish()
        self.audit(place)
        place.remove()
        return status != 0

    def audit(self, place: Place) -> None:
        if self.of_rest:
            wait_for_workers(place)
        orchestrations, _ = asyncio.run(read_orchestrations(place.url))
        assert orchestrations
        # Of two processes, the one whose other half was killed may work for a moment beside its successor.
        audit(place, orchestrations, [], paused=self.of_rest, may_fail=True)


def wait_for_workers(place: Place) -> None:
    """A worker whose parent was killed ends by itself, but is nobody's child any more."""
    deadline = time.monotonic() + PATIENCE_S
    while place.store.has_workers():
        assert time.monotonic() < deadline, f"a worker stays behind: {place.errors()}"
        time.sleep(0.02)


@pytest.mark.parametrize("name", CASES)
def test_killed_just_before_and_just_after_its_commits(
    name: str, kind: str, new_place: Callable[[str], Place], dice: random.Random, report: Callable[[str], None]
) -> None:
    case = Case(name, new_place)
    commits = case.run_undisturbed()
    points = [(side, number) for number in range(1, commits + 1) for side in ("before", "after")]
    if POINTS != "all":
        points = dice.sample(points, min(len(points), int(POINTS or DRAWN[kind])))

    def run(side: str, number: int) -> None:
        while not case.survive(f"{side}:{number}"):
            assert number > 1, "it was not killed at its first commit"
            number //= 2

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in threads.map(run, *zip(*points, strict=True)):
            pass
    report(f"killed at {len(points)} points of {commits} commits")
