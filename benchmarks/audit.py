"""A figure counts only if the work was done: every history is checked, event by event, after the clock has stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from durable_core.events import Event, ExecutionCompleted, ExecutionStarted, TaskCompleted, TaskScheduled


class AuditError(Exception):
    """A history that does not show what the benchmark claims to have run."""


def audit(instance_id: str, history: Sequence[Event], activities: int, result: int, expected: int) -> None:
    """The history of one ended run of no-op activities: one start, each activity scheduled once and completed once, in that
    order, under the ids 1 to ``activities``, with what went in coming out; one end, with the expected result; nothing else.
    """
    problems: list[str] = []
    if result != expected:
        problems.append(f"the result is {result}, not {expected}")
    if not history or not isinstance(history[0], ExecutionStarted) or not isinstance(history[-1], ExecutionCompleted):
        problems.append("it does not go from ExecutionStarted to ExecutionCompleted")
    elif history[-1].result != str(expected):
        problems.append(f"the recorded result is {history[-1].result}, not {expected}")
    outstanding: dict[int, str | None] = {}
    scheduled: list[int] = []
    for event in history[1:-1]:
        match event:
            case TaskScheduled(id=number, input=payload):
                scheduled.append(number)
                outstanding[number] = payload
            case TaskCompleted(id=number, result=payload):
                if number not in outstanding:
                    problems.append(f"task {number} completed without being outstanding")
                elif outstanding.pop(number) != payload:
                    problems.append(f"task {number} gave {payload} for another input")
            case _:
                problems.append(f"there is a {type(event).__name__} in it")
    if outstanding:
        problems.append(f"{len(outstanding)} tasks never completed")
    if sorted(scheduled) != list(range(1, activities + 1)):
        twice = [number for number, times in Counter(scheduled).items() if times > 1]
        problems.append(f"{len(scheduled)} tasks were scheduled instead of 1 to {activities}; more than once: {twice[:5]}")
    if problems:
        raise AuditError(f"{instance_id}: " + "; ".join(problems[:5]))
