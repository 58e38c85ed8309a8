"""Holding the code against its history.

While a message of the history is applied again, the history also says which commands followed it. Each command that the code asks for must
be the next one of its *kind* (task, child, timer, entity): same id, same name, same child id. Payloads and due times are not compared,
since both may change with harmless edits. Matching is first in, first out per kind, not over all kinds: Python versions differ in whether
``wait_for`` starts its timer before or after the call it guards, and with one queue for all kinds every such history would fail to replay
on the next Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import define, field

from durable_core.events import (
    CommandCancelled,
    CommandEvent,
    EntityCalled,
    EntitySignaled,
    EventSent,
    ExecutionStarted,
    SubOrchestrationStarted,
    TaskScheduled,
    TimerCreated,
)

__all__ = ["Expected", "describe_command", "mismatch_message"]


def matching_kind(command: CommandEvent) -> str:
    """Commands of one kind are matched in order among themselves."""
    match command:
        case TaskScheduled():
            return "task"
        case SubOrchestrationStarted():
            return "child"
        case TimerCreated():
            return "timer"
        case EntityCalled() | EntitySignaled() | EventSent():
            return "entity"
        case CommandCancelled():
            return f"cancel {command.kind}"
        case _:
            return "end"


def identity(command: CommandEvent) -> tuple[object, ...]:
    """What must be equal for the code's command to be the history's."""
    match command:
        case TaskScheduled():
            return ("task", command.id, command.name)
        case SubOrchestrationStarted():
            return ("child", command.id, command.name, command.instance_id)
        case TimerCreated():
            return ("timer", command.id)
        case EntityCalled() | EntitySignaled():
            return (type(command), command.id, command.entity, command.operation)
        case EventSent():
            return ("event", command.id, command.instance_id, command.name)
        case CommandCancelled():
            return ("cancel", command.kind, command.id)
        case _:
            return (type(command),)


def describe_command(command: CommandEvent) -> str:
    match command:
        case TaskScheduled():
            return f"activity {command.name!r} (call {command.id})"
        case SubOrchestrationStarted():
            return f"sub-orchestration {command.name!r} as {command.instance_id!r} (child {command.id})"
        case TimerCreated():
            return f"timer {command.id} (a create_timer, sleep or timeout)"
        case EntityCalled() | EntitySignaled():
            return f"entity operation {command.entity}.{command.operation} (call {command.id})"
        case EventSent():
            return f"event {command.name!r} to {command.instance_id!r} (call {command.id})"
        case CommandCancelled():
            return f"cancelling {command.kind} {command.id}"
        case _:
            return {"ExecutionCompleted": "a return", "ExecutionFailed": "an exception", "ExecutionContinuedAsNew": "continue_as_new"}[
                type(command).__name__
            ]


@define
class Expected:
    """The commands that the history says followed the message being applied, with their positions in the history."""

    by_kind: dict[str, deque[tuple[int, CommandEvent]]] = field(factory=dict)

    @classmethod
    def of(cls, commands: Iterable[tuple[int, CommandEvent]]) -> Expected:
        expected = cls()
        for position, command in commands:
            expected.by_kind.setdefault(matching_kind(command), deque()).append((position, command))
        return expected

    def take(self, asked: CommandEvent) -> tuple[int | None, CommandEvent | None, bool]:
        """The history's command in the place of ``asked``: (position, command, whether it is the same)."""
        queue = self.by_kind.get(matching_kind(asked))
        if not queue:
            position, command = self.first()
            return position, command, False
        position, command = queue.popleft()
        return position, command, identity(command) == identity(asked)

    def first(self) -> tuple[int | None, CommandEvent | None]:
        """The earliest command that the code has not asked for (yet)."""
        left = [queue[0] for queue in self.by_kind.values() if queue]
        return min(left, key=lambda entry: entry[0]) if left else (None, None)


def mismatch_message(
    *,
    name: str,
    instance_id: str,
    position: int | None,
    recorded: CommandEvent | None,
    asked: CommandEvent | None,
    line: str,
    started: ExecutionStarted | None,
    python: str,
    logic: int,
) -> str:
    """For somebody who has never heard of replay."""
    where = f"history event {position}" if position is not None else "this point of the history"
    history_says = (
        f"the history says it asked for {describe_command(recorded)}"
        if recorded is not None
        else "the history says it asked for nothing more"
    )
    code_asks = f"asked for {describe_command(asked)} at {line}" if asked is not None else "did not"
    causes = [
        "the code was changed while the instance was running (put the old code back, or let the old instances end first)",
        "it decides by something that differs from run to run: iteration over a set of strings, random, uuid4, the wall clock, an environment variable, a global",
    ]
    if started is not None and (started.python, started.logic) != (python, logic) and started.python:
        causes.insert(
            0,
            f"the history was recorded on Python {started.python} (engine logic {started.logic}) and this is Python {python} (engine logic {logic})",
        )
    return (
        f"orchestrator {name!r} of instance {instance_id!r} does not do what it did before. After a restart its code is run again from the start and must ask for the same things in the "
        f"same order as recorded. At {where} {history_says}, but now the code {code_asks}. Likely causes: {'; '.join(causes)}. "
        f"The instance is kept as it is and tried again; nothing is lost."
    )
