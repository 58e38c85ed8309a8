"""The audit behind the benchmarks has teeth: a history with any one thing wrong is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from benchmarks.audit import AuditError, audit
from durable_core.events import Event, ExecutionCompleted, ExecutionStarted, TaskCompleted, TaskScheduled, TimerFired

SOUND: tuple[Event, ...] = (
    ExecutionStarted("fanout", "2", 1),
    TaskScheduled(1, "noop", "0", 1),
    TaskScheduled(2, "noop", "1", 1),
    TaskCompleted(2, "1"),
    TaskCompleted(1, "0"),
    ExecutionCompleted("1"),
)


def test_a_sound_history_passes() -> None:
    audit("a", SOUND, activities=2, result=1, expected=1)


def replaced(position: int, event: Event) -> Callable[[list[Event]], None]:
    def change(history: list[Event]) -> None:
        history[position] = event

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda history: history.pop(3), "never completed"),
        (lambda history: history.pop(1), "without being outstanding"),
        (lambda history: history.insert(4, TaskCompleted(2, "1")), "without being outstanding"),
        (lambda history: history.insert(1, TaskScheduled(2, "noop", "1", 1)), r"more than once: \[2\]"),
        (replaced(3, TaskCompleted(2, "9")), "for another input"),
        (replaced(3, TimerFired(1, 0)), "TimerFired"),
        (replaced(5, ExecutionCompleted("2")), "recorded result is 2"),
        (lambda history: history.pop(), "does not go from"),
        (lambda history: history.pop(0), "does not go from"),
        (lambda history: history.clear(), "does not go from"),
        (lambda history: history.append(ExecutionCompleted("1")), "ExecutionCompleted in it"),
    ],
)
def test_a_wrong_history_is_refused(change: Callable[[list[Event]], object], says: str) -> None:
    history = list(SOUND)
    change(history)
    with pytest.raises(AuditError, match=says):
        audit("a", history, activities=2, result=1, expected=1)


def test_a_gap_in_the_ids_is_refused() -> None:
    history = [replace(event, id=event.id + 1) if isinstance(event, TaskScheduled | TaskCompleted) else event for event in SOUND]
    with pytest.raises(AuditError, match="instead of 1 to 2"):
        audit("a", history, activities=2, result=1, expected=1)


def test_a_wrong_result_is_refused() -> None:
    with pytest.raises(AuditError, match="the result is 7"):
        audit("a", SOUND, activities=2, result=7, expected=1)
