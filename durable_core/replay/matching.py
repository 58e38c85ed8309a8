"""Holding the code against its history.

While a message of the history is applied again, the history also says which commands followed it. Each command that the code asks for must
be the next one of its *kind* (task, child, timer, entity): same id, same name, same child id. Payloads and due times are not compared,
since both may change with harmless edits. Matching is first in, first out per kind, not over all kinds: Python versions differ in whether
``wait_for`` starts its timer before or after the call it guards, and with one queue for all kinds every such history would fail to replay
on the next Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter

from msgspec import Struct, field

from durable_core import events as ev
from durable_core.replay.source import innermost_line, user_line

Command = ev.CommandEvent
Versions = tuple[str, int]
"""Of Python, and of the engine's logic."""


class _Rule(Struct, frozen=True):
    """Commands of one ``queue`` are matched in order among themselves; ``identity`` is what must be equal, beside the class, for the code's
    command to be the history's; ``wording`` is what people read."""

    queue: str
    identity: Callable[[Command], object]
    wording: str


_CALL, _CHILD, _CLASS = attrgetter("id", "name"), attrgetter("id", "name", "instance_id"), attrgetter("__class__")
_OPERATION = _Rule("entity", attrgetter("id", "entity", "operation"), "entity operation {0.entity}.{0.operation} (call {0.id})")
_RULES: dict[type[Command], _Rule] = {
    ev.TaskScheduled: _Rule("task", _CALL, "activity {0.name!r} (call {0.id})"),
    ev.SubOrchestrationStarted: _Rule("child", _CHILD, "sub-orchestration {0.name!r} as {0.instance_id!r} (child {0.id})"),
    ev.TimerCreated: _Rule("timer", attrgetter("id"), "timer {0.id} (a create_timer, sleep or timeout)"),
    ev.EntityCalled: _OPERATION,
    ev.EntitySignaled: _OPERATION,
    ev.EntityLockRequested: _Rule("entity", attrgetter("id", "entity"), "locking entity {0.entity} (call {0.id})"),
    ev.EntityUnlocked: _Rule("unlock", attrgetter("id", "entity"), "unlocking entity {0.entity} (locked by call {0.id})"),
    ev.EventSent: _Rule("entity", _CHILD, "event {0.name!r} to {0.instance_id!r} (call {0.id})"),
    ev.CommandCancelled: _Rule("cancel", attrgetter("kind", "id"), "cancelling {0.kind} {0.id}"),
    ev.ExecutionCompleted: _Rule("end", _CLASS, "a return"),
    ev.ExecutionFailed: _Rule("end", _CLASS, "the exception {0.failure!s:.500}"),
    ev.ExecutionContinuedAsNew: _Rule("end", _CLASS, "continue_as_new"),
}


def _queue(command: Command) -> str:
    return f"cancel {command.kind}" if isinstance(command, ev.CommandCancelled) else _RULES[type(command)].queue


class Expected(Struct):
    """The commands that the history says followed the message being applied, with their positions in the history."""

    queues: dict[str, deque[tuple[int, Command]]] = field(default_factory=dict)

    def add(self, position: int, command: Command) -> None:
        self.queues.setdefault(_queue(command), deque()).append((position, command))

    def take(self, asked: Command) -> tuple[int | None, Command | None, bool]:
        """The history's command in the place of ``asked``: (position, command, whether it is the same)."""
        queue = self.queues.get(_queue(asked))
        if not queue:
            position, command = self.first() or (None, None)
            return position, command, False
        position, command = queue.popleft()
        identity = _RULES[type(asked)].identity
        return position, command, type(command) is type(asked) and identity(command) == identity(asked)

    def first(self) -> tuple[int, Command] | None:
        """The earliest command that the code has not asked for (yet)."""
        left = [queue[0] for queue in self.queues.values() if queue]
        return min(left, key=itemgetter(0)) if left else None


def recorded_turns(history: Iterable[ev.Event]) -> Iterator[tuple[ev.MessageEvent, Expected]]:
    """Each message with the commands that followed it."""
    message, expected = None, Expected()
    for position, event in enumerate(history):
        if isinstance(event, Command):
            expected.add(position, event)
        else:
            if message is not None:
                yield message, expected
            message, expected = event, Expected()
    if message is not None:
        yield message, expected


def mismatch_message(
    who: str, position: int | None, recorded: Command | None, asked: Command | None, recorded_on: Versions, running_on: Versions
) -> str:
    """For somebody who has never heard of replay."""
    where = f"history event {position}" if position is not None else "this point of the history"
    history_says = f"it {_describe(recorded)}" if recorded is not None else "it asked for nothing more"
    code_asks = _describe(asked) + _place(asked) if asked is not None else "did not"
    changed = "the code was changed while the instance was running (put the old code back, or let the old instances end first)"
    varying = "iteration over a set of strings, random, uuid4, the wall clock, an environment variable, a global"
    causes = f"{changed}; it decides by something that differs from run to run: {varying}"
    if recorded_on[0] and recorded_on != running_on:
        there, here = (f"Python {python} (engine logic {logic})" for python, logic in (recorded_on, running_on))
        causes = f"the history was recorded on {there} and this is {here}; {causes}"
    rule = "After a restart its code is run again from the start and must ask for the same things in the same order as recorded"
    found = f"At {where} the history says {history_says}, but now the code {code_asks}"
    return f"{who} does not do what it did before. {rule}. {found}. Likely causes: {causes}. The instance is kept as it is and tried again; nothing is lost."


def _describe(command: Command) -> str:
    """What was done, after "it" or "the code"."""
    rule = _RULES[type(command)]
    return f"{'ended with' if rule.queue == 'end' else 'asked for'} {rule.wording.format(command)}"


def _place(asked: Command) -> str:
    """Of an exception, where it was raised; of a return there is none to name."""
    if isinstance(asked, ev.ExecutionFailed):
        return innermost_line(asked.failure.stack)
    return "" if _RULES[type(asked)].queue == "end" else f" at {user_line()}"
