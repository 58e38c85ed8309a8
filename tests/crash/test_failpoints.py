"""Killed at the worst moments: just before a COMMIT, and just after one, when nobody has had the reply. At every commit of a small program.

What the killed process had already let out is then checked against a store that does not have the commit (before), or
has it although no reply came (after); started again, the program must come to the same result.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.crash.audit import audit_round
from tests.crash.children import Place
from tests.crash.program import Shape

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0)]

SHAPE = Shape(children=2, width=2, depth=1, generations=2)
AT_ONCE = os.cpu_count() or 1
ALL = int(os.environ.get("DURABLE_KILLS") or 0) >= 100
"""Both sides of each commit in the long run; otherwise one of them, in turn."""
OPTIONS = "--shape", ",".join(str(n) for n in (SHAPE.children, SHAPE.width, SHAPE.depth, SHAPE.generations))


def run_undisturbed(place: Place) -> int:
    """How many commits there are to be killed at."""
    answer = place.start("run", *OPTIONS, "--check-durable", str(place.store)).finish()
    asyncio.run(audit_round(place, SHAPE))
    return int(answer["commits"])


def run_with(place: Place, point: str) -> bool:
    """Killed at this point and started again; False if it came to its end before the point (its number of commits varies a little)."""
    child = place.start("run", *OPTIONS, "--check-durable", str(place.store), "--point", point)
    status = child.wait_for_death()
    assert status in (0, -signal.SIGKILL), f"{point}: ended with {status}: {place.errors()}"
    place.start("run", *OPTIONS, "--check-durable", str(place.store)).finish()
    try:
        asyncio.run(audit_round(place, SHAPE))
    except AssertionError as error:
        raise AssertionError(f"killed {point}: {error}") from error
    return status != 0


def test_killed_just_before_and_just_after_each_commit(
    new_place: Callable[[str], Place], dice: random.Random, report: Callable[[str], None]
) -> None:
    commits = run_undisturbed(new_place("undisturbed"))
    sides = ["before", "after"]
    dice.shuffle(sides)
    points = [f"{side}:{number}" for number in range(1, commits + 1) for side in (sides if ALL else sides[number % 2 :][:1])]

    def run(point: str) -> bool:
        place = new_place(point.replace(":", "-"))
        reached = run_with(place, point)
        shutil.rmtree(place.folder)  # of one that failed it stays
        return reached

    with ThreadPoolExecutor(AT_ONCE) as threads:
        reached = list(threads.map(run, points))
    report(f"killed at {sum(reached)} of {len(points)} points of a program of {commits} commits")
    assert sum(reached) >= 0.7 * len(points)
