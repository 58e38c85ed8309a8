"""kill -9 at random moments, again and again, until the work is done all the same.

A *round* is a fresh store on which the program is started, killed and started again until it has its result; every third one has two
processes. Kills are aimed: most of them wait until this process's first commit is durable (or its first activity has
started) and then some random time, so that they fall into the middle of the work; some fall into the start.

DURABLE_KILLS says how many (12; `make crash`: 300), DURABLE_SEED repeats the dice.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from attrs import define, field

from tests.crash.audit import Figures, audit_promises, audit_round
from tests.crash.children import KILLS, LONG, TIMEOUT_S, Child, Place
from tests.crash.program import Shape

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S)]

SHAPE = Shape(children=6, width=8, depth=40, generations=12)
LIFE_S = 0.7
"""A process lives at most so long after its first commit; undisturbed, a round takes about twice that."""
OFF_TARGET = 8
"""Every eighth kill is aimed at the start of a process."""
RESTART_S = 1.0
"""From the engine's opening to the first activity: nearly always (a few processes may meet a busy moment of the machine)."""
RESTART_S_MAX = 5.0
"""Always. A lease that has to run out takes 15."""
BEFORE, BETWEEN, AFTER = "before the first commit", "between first and last commit", "after the last commit"


@define
class Campaign:
    """What has been seen in all rounds."""

    dice: random.Random
    fallen: Counter[str] = field(factory=Counter)
    commits: list[int] = field(factory=list)
    "How many commits a killed process had made."
    first_commit_s: list[float] = field(factory=lambda: [0.3])
    from_start_s: list[float] = field(factory=list)
    from_open_s: list[float] = field(factory=list)
    rounds: list[Figures] = field(factory=list)

    @property
    def kills(self) -> int:
        return sum(self.fallen.values())

    def run_round(self, place: Place, processes: int, most: int) -> None:
        """Until every process has the result; at most so many kills."""
        running = [self._start(place) for _ in range(processes)]
        while running:
            victim = self.dice.choice(running)
            if most > 0 and self._let_live(victim) and victim.kill():
                most -= 1
                self._note(place, victim, others=processes > 1)
                if processes == 1:
                    self._note_start(place, victim)
                running[running.index(victim)] = self._start(place)
                continue
            # There was the last kill, or this process came to its end before its time.
            victim.finish()
            running.remove(victim)
            if processes == 1:
                self._note_start(place, victim)
        self.rounds.append(asyncio.run(audit_round(place, SHAPE)))

    def _start(self, place: Place) -> Child:
        shape = ",".join(str(n) for n in (SHAPE.children, SHAPE.width, SHAPE.depth, SHAPE.generations))
        return place.start("run", "--shape", shape, "--check-durable")

    def _let_live(self, child: Child) -> bool:
        """Until the moment that the dice choose; False if it ends before."""
        if self.kills % OFF_TARGET == OFF_TARGET - 1:
            return child.wait_until(child.started + self.dice.uniform(0, statistics.median(self.first_commit_s)))
        if not child.wait_for(self.dice.choice(["commit", "commit", "effect"])):
            return False
        return child.wait_until(time.time() + self.dice.uniform(0, LIFE_S))

    def _note(self, place: Place, killed: Child, others: bool) -> None:
        commits = killed.times("commit")
        self.commits.append(len(commits))
        if commits:
            self.first_commit_s.append(commits[0] - killed.started)
        self.fallen[self._where(place, killed, others)] += 1

    def _where(self, place: Place, killed: Child, others: bool) -> str:
        if not killed.times("commit"):
            return BEFORE
        # Beside a living process it would be no copy of one moment.
        return AFTER if audit_promises(place.store if others else place.copy(), killed) else BETWEEN

    def _note_start(self, place: Place, child: Child) -> None:
        """How soon a process that follows a killed one has an activity started. Not beside another one: it may have all the work."""
        effects, opened = child.times("effect"), child.times("open")
        if effects and place.deaths and place.deaths[0].at < child.started:
            self.from_start_s.append(effects[0] - child.started)
            self.from_open_s.append(effects[0] - opened[0])

    def tell(self, report: Callable[[str], None]) -> None:
        kills = max(self.kills, 1)
        for where in (BEFORE, BETWEEN, AFTER):
            report(f"{self.fallen[where]:4} kills {where:32} {'#' * round(50 * self.fallen[where] / kills)}")
        for low, high in pairwise([0, 1, 10, 20, 40, 80, 160, 10_000]):
            many = sum(low <= commits < high for commits in self.commits)
            report(f"{many:4} kills after {low:3} to {high - 1:4} commits of the process {'#' * round(50 * many / kills)}")
        rounds = self.rounds
        events, tasks, effects, repeated = (sum(getattr(r, name) for r in rounds) for name in ("events", "tasks", "effects", "repeated"))
        report(
            f"{len(rounds)} rounds: {events} events and {tasks} tasks in the histories kept, {effects} effects, {repeated} of them repeated"
        )
        report(f"first activity after the restarted process's start: {_spread(self.from_start_s)}")
        report(f"first activity after the restarted engine's opening: {_spread(self.from_open_s)}")


def _part(seconds: Sequence[float], part: float) -> float:
    """What this part of them stays within."""
    return sorted(seconds)[min(len(seconds) - 1, int(part * len(seconds)))]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "never seen"
    named = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "most": 1.0}
    return ", ".join(f"{name} {_part(seconds, part) * 1_000:.0f} ms" for name, part in named.items()) + f" of {len(seconds)}"


def test_killed_at_random_moments(new_place: Callable[[str], Place], dice: random.Random, report: Callable[[str], None]) -> None:
    campaign = Campaign(dice)
    try:
        while campaign.kills < KILLS:
            number = len(campaign.rounds) + 1
            place = new_place(f"round{number}")
            campaign.run_round(place, processes=2 if number % 3 == 0 else 1, most=KILLS - campaign.kills)
            place.remove()
    finally:
        campaign.tell(report)
    assert campaign.fallen[BETWEEN] >= KILLS * (2 / 3 if LONG else 1 / 3), "of a dozen, chance may take some more"
    assert campaign.from_open_s
    assert _part(campaign.from_open_s, 0.99 if LONG else 0.5) <= RESTART_S
    assert max(campaign.from_open_s) <= RESTART_S_MAX
