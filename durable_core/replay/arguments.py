"""Holding the arguments of commands against the history, where names and ids agree (``matching.py``).

Arguments may be changed while instances run: a new field with a default is a harmless edit. But a call that is asked for with what *another*
call of the history was asked for with would get the result of that other one, silently: the two have changed places. So arguments that differ
are looked up among all that were recorded for this callee (of a timer: its due time, among the timers of the same message). Nothing is looked
up before something differs.

Texts that differ may still be equal values: a converter that encrypts gives another text each time. So they are compared as the plain JSON
that the converter makes of them; where it makes nothing of them, nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from durable_core import events as ev
from durable_core.moments import to_datetime

Command = ev.CommandEvent
Key = tuple[object, ...]
"""Of commands with equal keys each could get the answer of the other."""

_SHOWN = 24  # characters: enough to find the call, little of what may be a secret

_OPERATION = attrgetter("entity", "operation")
_ADDRESSEES: dict[type[Command], Callable[[Any], object]] = {
    ev.TaskScheduled: attrgetter("name"),
    ev.SubOrchestrationStarted: attrgetter("name"),
    ev.EntityCalled: _OPERATION,
    ev.EntitySignaled: _OPERATION,
    ev.EventSent: attrgetter("instance_id", "name"),
}


class Arguments:
    """``decode`` makes plain JSON of a payload."""

    def __init__(self, history: Sequence[ev.Event], decode: Callable[[str | None], Any]) -> None:
        self._history = history
        self._decode = decode
        self._recorded: dict[Key, Command] | None = None
        self._displaced: dict[Key, Command] = {}

    def differ(self, recorded: Any, asked: Any) -> bool:
        """Of two commands that agree in all else."""
        if isinstance(asked, ev.TimerCreated):
            return bool(recorded.due_us != asked.due_us)
        if type(asked) not in _ADDRESSEES or _texts(recorded) == _texts(asked):
            return False
        key, other = self._key(asked), self._key(recorded)
        return key is not None and other is not None and key != other

    def owner(self, position: int, recorded: Command, asked: Command) -> Command | None:
        """Whose place ``asked`` would take that stands in the place of ``recorded``: the recorded command that has these arguments."""
        if isinstance(asked, ev.TimerCreated):
            return next((timer for timer in self._timers_beside(position) if timer.due_us == asked.due_us), None)
        if self._recorded is None:
            commands = [event for event in self._history if isinstance(event, Command) and type(event) in _ADDRESSEES]
            self._recorded = {key: command for command in commands if (key := self._key(command)) is not None}
        self._displaced[self._key(recorded) or ()] = recorded
        return self._recorded.get(self._key(asked) or ())

    def after_the_history(self) -> Arguments | None:
        """What is needed from then on: mostly nothing. The history itself is given back to the memory."""
        self._history, self._recorded = (), None
        return self if self._displaced else None

    def displaced(self, asked: Command) -> Command | None:
        """The recorded command whose arguments the code has replaced by others, and which it asks for only now, after the history."""
        if not self._displaced or type(asked) not in _ADDRESSEES:
            return None
        return self._displaced.get(self._key(asked) or ())

    def _key(self, command: Any) -> Key | None:
        try:
            plain = repr(self._decode(command.input)) if command.input is not None else None
        except Exception:  # the user's converter: a key that was lost, a format that it does not know without a type
            return None
        return type(command), _ADDRESSEES[type(command)](command), getattr(command, "arity", None), plain

    def _timers_beside(self, position: int) -> Iterator[ev.TimerCreated]:
        """Those of the message that ``position`` belongs to."""
        first, end = position, position
        while isinstance(self._history[first - 1], Command):
            first -= 1
        while end < len(self._history) and isinstance(self._history[end], Command):
            end += 1
        return (event for event in self._history[first:end] if isinstance(event, ev.TimerCreated))


def shown(recorded: Any, asked: Any) -> tuple[str, str]:
    """The two, shortened to where they begin to differ."""
    if isinstance(asked, ev.TimerCreated):
        return f"for {to_datetime(recorded.due_us)}", f"for {to_datetime(asked.due_us)}"
    one, other = recorded.input or "", asked.input or ""
    differ_at = next((index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other)))
    begin = max(0, differ_at - _SHOWN // 2)
    return _cut(one, begin), _cut(other, begin)


def _cut(text: str, begin: int) -> str:
    if not text:
        return "with no arguments"
    head, tail = "…" if begin else "", "…" if len(text) > begin + _SHOWN else ""
    return f"with {head}{text[begin : begin + _SHOWN]}{tail}"


def _texts(command: Any) -> tuple[object, object]:
    return command.input, getattr(command, "arity", None)
