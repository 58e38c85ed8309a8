"""Killed at the worst moments: just before a COMMIT, and just after one, when nobody has had the reply. At every commit of a small program.

What the killed process had already let out is then checked against a store that does not have the commit (before), or
has it although no reply came (after); started again, the program must come to the same result.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.crash.audit import audit_promises, audit_round
from tests.crash.children import LONG, TIMEOUT_S, Child, Place, strace_works
from tests.crash.program import Shape

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S)]

SHAPE = Shape(children=2, width=2, depth=1, generations=2)
AT_ONCE = os.cpu_count() or 1
WRITES = 300
"""Of pages and their headers, in the log; there are some more."""
OPTIONS = "--shape", ",".join(str(n) for n in (SHAPE.children, SHAPE.width, SHAPE.depth, SHAPE.generations))


def start(place: Place, *more: str, wrapper: tuple[str, ...] = ()) -> Child:
    return place.start("run", *OPTIONS, "--check-durable", *more, wrapper=wrapper)


def run_undisturbed(place: Place) -> int:
    """How many commits there are to be killed at."""
    answer = start(place).finish()
    asyncio.run(audit_round(place, SHAPE))
    return int(answer["commits"])


def survive(place: Place, child: Child) -> bool:
    """It kills itself and is started again; False if it came to its end before (the number of its commits varies a little)."""
    status = child.wait_for_death()
    assert status in (0, -signal.SIGKILL), f"ended with {status}: {place.errors()}"
    if status and place.store.exists():
        audit_promises(place.copy(), child)
    start(place).finish()
    asyncio.run(audit_round(place, SHAPE))
    place.remove()
    return status != 0


def test_killed_just_before_and_just_after_each_commit(
    new_place: Callable[[str], Place], dice: random.Random, report: Callable[[str], None]
) -> None:
    commits = run_undisturbed(new_place("undisturbed"))
    sides = ["before", "after"]  # both in the long run, otherwise one of them in turn
    dice.shuffle(sides)
    points = [f"{side}:{number}" for number in range(1, commits + 1) for side in (sides if LONG else sides[number % 2 :][:1])]

    def run(point: str) -> bool:
        place = new_place(point.replace(":", "-"))
        return survive(place, start(place, "--point", point))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        reached = list(threads.map(run, points))
    report(f"killed at {sum(reached)} of {len(points)} points of a program of {commits} commits")
    assert sum(reached) >= 0.7 * len(points)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_killed_in_the_middle_of_writing(new_place: Callable[[str], Place], dice: random.Random, report: Callable[[str], None]) -> None:
    """At some write of a page, so that half a transaction lies in the log. Needs strace to aim."""
    if not strace_works():
        report("no strace here: nobody was killed in the middle of writing")
        return
    writes = sorted(dice.sample(range(1, WRITES), 40 if LONG else 6))

    def run(number: int) -> bool:
        place = new_place(f"write-{number}")
        inject = "-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=KILL:when={number}"
        return survive(place, start(place, wrapper=("strace", "-f", "-o", str(place.folder / "strace"), *inject)))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        reached = list(threads.map(run, writes))
    report(f"killed at {sum(reached)} of the writes {writes}")
    assert sum(reached) >= 0.7 * len(writes)
