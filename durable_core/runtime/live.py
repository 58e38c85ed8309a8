"""An instance as this worker has it in hand: its fence, what runs it in memory, and what has arrived for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from attrs import define, field
from msgspec import Struct

from durable_core.backend import Message
from durable_core.events import MessageEvent, TaskCompleted, TaskFailed
from durable_core.runtime.activities import TaskLease


class Arrival(NamedTuple):
    """Something to be applied: a message of the inbox (decoded when its turn comes), the start, or the result of a task that ran here."""

    message: Message | None = None
    event: MessageEvent | None = None
    lease: TaskLease | None = None


class Fence(Struct):
    """Where an instance stands in the store, as this worker knows it."""

    instance: str
    execution: str
    epoch: int
    version: int


@define(eq=False)
class LiveInstance:
    """``pending``: no commit of the execution has been accepted yet. ``busy``: being loaded, or a turn is under way up to its commit's
    outcome; what arrives meanwhile forms the next turn. ``dead``: another claim has taken its place, or it was given up. ``in_flight``:
    what the turn under way has taken."""

    fence: Fence
    name: str
    queue: deque[Arrival] = field(factory=deque)
    in_flight: list[Arrival] = field(factory=list)
    busy: bool = False
    scheduled: bool = False
    dead: bool = False
    pending: bool = False
    local_tasks: int = 0
    size: int = 0
    _known: set[str] = field(factory=set)

    def deliver(self, messages: Iterable[Message]) -> None:
        """Messages may be handed over more than once (by a claim and by a commit's outcome): each is taken once."""
        for message in messages:
            if message.id not in self._known:
                self._known.add(message.id)
                self.queue.append(Arrival(message))

    def forget(self, ids: Iterable[str]) -> None:
        """Consumed, or left to the store for now."""
        self._known.difference_update(ids)

    @property
    def idle(self) -> bool:
        return not (self.busy or self.queue or self.local_tasks)

    def results(self) -> list[tuple[TaskLease, TaskCompleted | TaskFailed]]:
        """Results of local tasks that are not committed yet."""
        return [
            (a.lease, a.event)
            for a in (*self.in_flight, *self.queue)
            if a.lease is not None and isinstance(a.event, TaskCompleted | TaskFailed)
        ]
