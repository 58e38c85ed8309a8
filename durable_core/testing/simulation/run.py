"""``simulate``: seed after seed, until one fails or all are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from durable_core.backend import Backend
from durable_core.runtime.engine import DurableEngine
from durable_core.testing.memory import MemoryBackend
from durable_core.testing.simulation.faults import Faults, kinds
from durable_core.testing.simulation.shrink import shrink
from durable_core.testing.simulation.world import Load, Run, Scenario, World

_FAULTS_TOLD_MAX = 40


@frozen
class Report:
    """Of seeds without a finding. ``counts``: how often what went wrong. ``least_commits``: those of the seed with the fewest."""

    seeds: int = 0
    steps: int = 0
    commits: int = 0
    least_commits: int = 0
    counts: Counter[str] = field(factory=Counter)

    def __add__(self, other: Report) -> Report:
        return Report(
            self.seeds + other.seeds,
            self.steps + other.steps,
            self.commits + other.commits,
            min(each.least_commits for each in (self, other) if each.seeds),
            self.counts + other.counts,
        )

    @property
    def missing(self) -> list[str]:
        """What never went wrong."""
        return [kind for kind in kinds() if not self.counts[kind]]

    def __str__(self) -> str:
        head = f"{self.seeds:,} seeds, {self.steps:,} steps, {self.commits:,} commits (at least {self.least_commits:,} a seed)"
        return "\n".join([head, *(f"  {kind:<18} {self.counts[kind]:>10,}" for kind in kinds())])


class SimulationFailure(AssertionError):
    """``run`` is the run as it failed, ``shrunk`` a smaller one. The message says what is wrong, what had gone wrong before, and how to repeat
    it."""

    def __init__(self, run: Run, shrunk: Run) -> None:
        super().__init__(run, shrunk)
        self.run = run
        self.shrunk = shrunk

    def __str__(self) -> str:
        run, small = self.run, self.shrunk
        faults = [f"  {fault}" for fault in small.faults[:_FAULTS_TOLD_MAX]]
        if len(small.faults) > _FAULTS_TOLD_MAX:
            faults.append(f"  and {len(small.faults) - _FAULTS_TOLD_MAX} more")
        return "\n".join(
            [
                f"seed {run.seed}, after {run.steps:,} steps, {run.commits:,} commits and {len(run.faults)} faults:",
                *(f"  {finding}" for finding in run.findings),
                f"shrunk to loads {list(small.loads)} and {len(small.faults)} faults, {small.steps:,} steps, {small.commits:,} commits:",
                *(f"  {finding}" for finding in small.findings),
                "faults:" if faults else "no faults",
                *faults,
                f"repeat it with: seeds=[{run.seed}]",
            ]
        )


def simulate(
    engine: DurableEngine,
    load: Load | Sequence[Load],
    *,
    seeds: Iterable[int] = range(100),
    workers: int = 3,
    faults: Faults | None = None,
    activities: Mapping[Any, Any] | None = None,
    backend: Callable[..., Backend] = MemoryBackend,
    limit_s: float = 3_600.0,
    shrinks: bool = True,
) -> Report:
    """Run the engine's orchestrations in a simulated world, once a seed; raises ``SimulationFailure`` for the first seed with a finding.

    ``load`` is ``async def load(client, random)``, or several of them, which run side by side: it starts orchestrations, and asserts what they give.
    ``activities`` are fakes, as in ``engine.testing``. ``backend`` makes a handle on the store of a name: it is called with the name, ``clock_us`` and
    ``capabilities`` for each process; every run has a name of its own.
    ``limit_s``: the virtual seconds within which every load has to come to its end. ``shrinks``: make a failing run smaller before it is told of.
    """
    loads = (load,) if callable(load) else tuple(load)
    scenario = Scenario(
        engine=engine,
        loads=loads,
        faults=faults if faults is not None else Faults(),
        workers=workers,
        backend=backend,
        activities=dict(activities or {}),
        limit_s=limit_s,
    )
    report = Report()
    for seed in seeds:
        run = World(scenario, seed).run()
        if run.findings:
            raise SimulationFailure(run, shrink(scenario, run) if shrinks else run)
        report += Report(1, run.steps, run.commits, run.commits, run.counts)
    return report
