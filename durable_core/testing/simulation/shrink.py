"""From a failing run to a smaller one that fails too: fewer loads, then fewer faults (delta debugging)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from durable_core.testing.simulation.world import Run, Scenario, World

T = TypeVar("T")


def shrink(scenario: Scenario, failed: Run, tries_max: int = 200) -> Run:
    """The smallest failing run that was found. Leaving something out changes what happens next, so a part may fail for another reason: any
    failure counts."""
    best, tries = failed, 0

    def fails(loads: Sequence[int], faults: Sequence[str]) -> bool:
        nonlocal best, tries
        if tries >= tries_max:
            return False
        tries += 1
        run = World(scenario, failed.seed, frozenset(faults), tuple(loads)).run()
        if run.findings:
            best = run
        return bool(run.findings)

    loads, faults = list(failed.loads), [fault.key for fault in failed.faults]
    loads = _minimal(loads, lambda part: fails(part, faults))
    _minimal(faults, lambda part: fails(loads, part))
    return best


def _minimal(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Leave out ever smaller pieces as long as it still fails."""
    size = len(items)
    while size and items:
        at = 0
        while at < len(items):
            fewer = items[:at] + items[at + size :]
            if fails(fewer):
                items = fewer
            else:
                at += size
        size //= 2
    return items
