"""An instance as this worker has it in hand: where it stands in the store, and what has arrived for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import Struct, field

from durable_core import events as ev
from durable_core.backend import ClaimedTask, Message
from durable_core.definitions.activity import Activity, ActivityContext
from durable_core.definitions.registry import Callee


class TaskLease(Struct, eq=False):
    """A task that is leased to this worker. ``cancelled``: its result is not wanted. ``cut_off``: because this worker ends or starts afresh,
    so that it is to run again. ``begun``: its coroutine has been entered, so that cancelling it ends in order. ``holder``: the instance, if
    it was in hand when the task started."""

    task: ClaimedTask
    scheduled: ev.TaskScheduled
    bound: Callee[Activity[..., Any]]
    holder: LiveInstance | None
    begun: bool = False
    cancelled: bool = False
    cut_off: bool = False
    running: asyncio.Task[None] | None = None
    context: ActivityContext | None = None


class Arrival(NamedTuple):
    """Something to be applied: a message of the inbox (decoded when its turn comes), the start, or the result of a task that ran here."""

    message: Message | None = None
    event: ev.ExecutionStarted | ev.TaskCompleted | ev.TaskFailed | None = None
    lease: TaskLease | None = None

    @property
    def size(self) -> int:
        """Roughly, in bytes."""
        if self.message is not None:
            return len(self.message.payload)
        return len(self.event.result or "") if isinstance(self.event, ev.TaskCompleted) else 0


class LiveInstance(Struct, eq=False):
    """``instance``, ``execution``, ``epoch`` and ``version`` are its fence. ``busy``: being loaded, or a turn is under way, from the moment
    it is due up to its commit's outcome; what arrives meanwhile is taken along or forms the next turn. ``dead``: another claim has taken its
    place, or it was given up. ``in_flight``: what the turn under way has taken."""

    instance: str
    execution: str
    epoch: int
    version: int
    name: str
    queue: deque[Arrival] = field(default_factory=deque)
    in_flight: list[Arrival] = []
    busy: bool = False
    dead: bool = False
    local_tasks: int = 0
    size: int = 0
    known: set[str] = set()

    def deliver(self, messages: Iterable[Message]) -> None:
        """Messages may be handed over more than once (by a claim and by a commit's outcome): each is taken once."""
        for message in messages:
            if message.id not in self.known:
                self.known.add(message.id)
                self.queue.append(Arrival(message))

    def forget(self, ids: Iterable[str]) -> None:
        """Consumed, or left to the store for now."""
        self.known.difference_update(ids)

    @property
    def idle(self) -> bool:
        return not (self.busy or self.queue or self.local_tasks)
