"""The random programs reach what matters, and find stores that break a promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from durable_conformance.broken import memory as broken
from durable_conformance.machine import HubMachine
from durable_conformance.memory import MemoryHarness
from durable_conformance.worlds import World, those_that_say
from durable_core.backend import Outcome
from durable_core.hub import State, decide

GENERATE = settings(
    phases=[Phase.generate],  # no shrinking: that something is found is all that is asked
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def run(new_harness: Any) -> None:
    run_state_machine_as_test(type("Machine", (HubMachine,), {"new_harness": staticmethod(new_harness)}), settings=GENERATE)


@pytest.mark.parametrize("harness", [broken.FenceIgnored, broken.Watermark, broken.EarlyTimers, broken.Forgetful, broken.RecordAfterwards])
def test_a_broken_store_is_found(harness: type[MemoryHarness]) -> None:
    with pytest.raises(AssertionError):
        run(harness)


def test_the_programs_reach_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a machine that only ever hears FENCED and GONE would look like a good one."""
    seen: Counter[tuple[str, str]] = Counter()

    def counting(state: Any, command: Any, now_us: int) -> Any:
        answer, effects = decide(state, command, now_us)
        if hasattr(answer, "status"):
            seen[type(command).__name__, answer.status.name] += 1
        for turn in getattr(answer, "turns", ()):
            seen["claim", "own" if turn.attempt == 0 else "suspect" if turn.attempt > 1 else "first"] += 1
        seen["claim", "task"] += len(getattr(answer, "tasks", ()))
        seen.update(("effect", type(effect).__name__) for effect in effects)
        return answer, effects

    def counting_deaths(outcomes: Sequence[Outcome], possible: Sequence[World]) -> list[State]:
        seen.update(("after a death", outcome.status.name) for outcome in outcomes)
        return those_that_say(outcomes, possible)

    monkeypatch.setattr("durable_conformance.machine.decide", counting)
    monkeypatch.setattr("durable_conformance.machine.those_that_say", counting_deaths)
    run(MemoryHarness)
    for command, statuses in {
        "CreateInstance": "OK EXISTS ALREADY_APPLIED",
        "SendMessage": "OK ENDED ALREADY_APPLIED",
        "CommitTurn": "OK FENCED GONE ALREADY_APPLIED",
        "CompleteTask": "OK GONE",
        "Release": "OK FENCED ALREADY_APPLIED",
        "ReleaseTask": "OK FENCED ALREADY_APPLIED GONE",
        "Purge": "OK GONE REJECTED",
        "AbandonWorker": "OK",
        "after a death": "OK ALREADY_APPLIED GONE FENCED",
        "claim": "own first suspect task",
        "effect": "DropInbox DropTasks DropHistory DropWorker DropMessage DropTask Forget AppendHistory PutDetail",
    }.items():
        for status in statuses.split():
            assert seen[command, status] >= 1, f"{command} {status}: {seen[command, status]}"
