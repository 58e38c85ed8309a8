"""An instance as this worker has it in hand: its fence, its execution in memory, and what has arrived for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from attrs import define, field

from durable_core.backend import Message
from durable_core.events import MessageEvent, TaskCompleted, TaskFailed
from durable_core.replay.machine import Execution
from durable_core.runtime.activities import TaskLease
from durable_core.runtime.commits import Fence

__all__ = ["Arrival", "LiveInstance"]


class Arrival(NamedTuple):
    """Something to be applied: a message of the inbox (decoded when its turn comes), the start, or the result of a task that ran here."""

    message: Message | None = None
    event: MessageEvent | None = None
    lease: TaskLease | None = None


@define(eq=False)
class LiveInstance:
    """``busy``: being loaded, or a commit is queued or in flight; what arrives meanwhile forms the next turn. ``dead``: another claim has taken its place, or it was given up."""

    fence: Fence
    name: str
    attempt: int
    execution: Execution | None = None
    queue: deque[Arrival] = field(factory=deque)
    known: set[str] = field(factory=set)
    in_flight: list[Arrival] = field(factory=list)
    busy: bool = False
    scheduled: bool = False
    dead: bool = False
    started: bool = False
    local_tasks: int = 0
    size: int = 0

    def deliver(self, messages: Iterable[Message]) -> None:
        """Messages may be handed over more than once (by a claim and by a commit's outcome): each is taken once."""
        for message in messages:
            if message.id not in self.known:
                self.known.add(message.id)
                self.queue.append(Arrival(message))

    @property
    def idle(self) -> bool:
        return not (self.busy or self.queue or self.local_tasks)

    def results(self) -> list[tuple[TaskLease, TaskCompleted | TaskFailed]]:
        """Results of local tasks that are not committed yet."""
        return [(a.lease, a.event) for a in (*self.in_flight, *self.queue) if a.lease is not None and isinstance(a.event, TaskCompleted | TaskFailed)]
