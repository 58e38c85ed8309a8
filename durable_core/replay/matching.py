"""Holding the code against its history.

While a message of the history is applied again, the history also says which commands followed it. Each command that the code asks for must
be the next one of its *kind* (task, child, timer, entity): same id, same name, same child id. Payloads and due times may change with harmless
edits; what is compared of them is in ``arguments.py``. Matching is first in, first out per kind, not over all kinds: Python versions differ in whether
``wait_for`` starts its timer before or after the call it guards, and with one queue for all kinds every such history would fail to replay
on the next Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter

from msgspec import Struct, field

from durable_core import events as ev
from durable_core.replay.arguments import shown
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

    def take(self, asked: Command) -> tuple[int | None, Command | None]:
        """The history's command in the place of ``asked``, and its position."""
        queue = self.queues.get(_queue(asked))
        return queue.popleft() if queue else self.first() or (None, None)

    def first(self) -> tuple[int, Command] | None:
        """The earliest command that the code has not asked for (yet)."""
        left = [queue[0] for queue in self.queues.values() if queue]
        return min(left, key=itemgetter(0)) if left else None


def is_same(recorded: Command | None, asked: Command) -> bool:
    """But for its arguments."""
    identity = _RULES[type(asked)].identity
    return recorded is not None and type(recorded) is type(asked) and identity(recorded) == identity(asked)


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


class Sides(Struct, frozen=True):
    """Whose code and whose history do not fit, and what ran them."""

    who: str
    recorded_on: Versions
    running_on: Versions


def mismatch_message(sides: Sides, position: int | None, recorded: Command | None, asked: Command | None) -> str:
    where = f"history event {position}" if position is not None else "this point of the history"
    history_says = f"it {_describe(recorded)}" if recorded is not None else "it asked for nothing more"
    code_asks = _describe(asked) + _place(asked) if asked is not None else "did not"
    return _explained(sides, f"At {where} the history says {history_says}, but now the code {code_asks}")


def places_message(sides: Sides, position: int | None, recorded: Command, asked: Command, owner: Command) -> str:
    """``asked`` stands in the place of ``recorded``, or comes after the whole history, and has the arguments of ``owner``."""
    was, now = (f" {text}" for text in shown(recorded, asked)) if recorded is not owner else ("", "")
    where = f"At history event {position} the history says it {_describe(recorded)}{was}, but now" if position is not None else "Now"
    code_asks = f"the code {_describe(asked)}{now}{_place(asked)}, and the history has this for {_wording(owner)}"
    return _explained(sides, f"{where} {code_asks}: calls have changed places, and one would get the result of the other")


def arguments_message(who: str, recorded: Command, asked: Command) -> str:
    was, now = shown(recorded, asked)
    said = f"{who} once {_describe(recorded)} {was}, and its code now asks for it {now}{_place(asked)}"
    return f"{said}; what was recorded stands, and so does its result. Further changes like this one are not logged"


def _explained(sides: Sides, found: str) -> str:
    """For somebody who has never heard of replay."""
    changed = "the code was changed while the instance was running (put the old code back, or let the old instances end first)"
    varying = "iteration over a set of strings, random, uuid4, the wall clock, an environment variable, a global"
    causes = f"{changed}; it decides by something that differs from run to run: {varying}"
    if sides.recorded_on[0] and sides.recorded_on != sides.running_on:
        there, here = (f"Python {python} (engine logic {logic})" for python, logic in (sides.recorded_on, sides.running_on))
        causes = f"the history was recorded on {there} and this is {here}; {causes}"
    rule = "After a restart its code is run again from the start and must ask for the same things in the same order as recorded"
    said = f"{sides.who} does not do what it did before. {rule}. {found}"
    return f"{said}. Likely causes: {causes}. The instance is kept as it is and tried again; nothing is lost."


def _describe(command: Command) -> str:
    """What was done, after "it" or "the code"."""
    return f"{'ended with' if _RULES[type(command)].queue == 'end' else 'asked for'} {_wording(command)}"


def _wording(command: Command) -> str:
    return _RULES[type(command)].wording.format(command)


def _place(asked: Command) -> str:
    """Of an exception, where it was raised; of a return there is none to name."""
    if isinstance(asked, ev.ExecutionFailed):
        return innermost_line(asked.failure.stack)
    return "" if _RULES[type(asked)].queue == "end" else f" at {user_line()}"
