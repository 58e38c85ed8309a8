"""One command in the making: its effects so far, and what its later steps must see of the earlier ones."""

from __future__ import annotations

from itertools import chain

from durable_core.backend import ENDED, InstanceStatus, Message, Outcome, OutcomeStatus
from durable_core.errors import DurableError, PayloadTooLargeError
from durable_core.hub.effects import (
    Advance,
    DropHistory,
    DropInbox,
    DropInstance,
    DropTasks,
    Effect,
    PutInstance,
    PutMessage,
    Remember,
    payload_size,
)
from durable_core.hub.messages import decode_messages
from durable_core.hub.rows import InstanceRow, MessageRow, State

Decision = tuple[Outcome, list[Effect]]

ANSWER = {status: Outcome(status) for status in OutcomeStatus}
"""The outcomes that say no more than their status."""


def rejected(error: DurableError) -> Outcome:
    return Outcome(OutcomeStatus.REJECTED, error=error)


class Transaction:
    """Reads a state through what one command has done to it. The state itself stays as it is.

    Only two tables are read again after a write within one command: instances (``rows``, None for a removed one) and, for what a commit
    leaves in its own inbox, messages (``arrived`` and ``dropped``).
    """

    __slots__ = ("arrived", "dropped", "effects", "epoch", "now_us", "position", "rows", "state")

    def __init__(self, state: State, now_us: int) -> None:
        self.state = state
        self.now_us = max(state.now_us, now_us)
        self.epoch = state.epoch
        self.position = state.position
        self.effects: list[Effect] = []
        self.rows: dict[str, InstanceRow | None] = {}
        self.arrived: list[MessageRow] = []
        self.dropped: set[str] = set()

    def done(self, outcome: Outcome) -> Decision:
        """The decision, unless it would write a payload over the limit: then nothing is written."""
        for effect in self.effects:
            size, limit = payload_size(effect), self.state.max_payload_bytes
            if size > limit:
                text = f"a payload of {size:,} bytes ({type(effect).__name__}) is over the store's limit of {limit:,} bytes"
                return rejected(PayloadTooLargeError(f"{text}: store it elsewhere and pass a reference")), []
        return outcome, self.close()

    def close(self) -> list[Effect]:
        """All effects. A command without any leaves the counters and the clock alone too."""
        if self.effects:
            self.effects.append(Advance(self.epoch, self.position, self.now_us))
        return self.effects

    def instance(self, id: str) -> InstanceRow | None:
        return self.rows[id] if id in self.rows else self.state.instances.get(id)

    def put(self, row: InstanceRow) -> None:
        self.rows[row.id] = row
        self.effects.append(PutInstance(row))

    def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def next_position(self) -> int:
        self.position += 1
        return self.position

    def inbox(self, row: InstanceRow) -> list[MessageRow]:
        """The messages for an instance's current execution, those included that this command sent, those left out that it ``dropped``."""
        stored = self.state.inbox.get(row.id)
        if not stored and not self.arrived:
            return []
        return [
            arrival
            for arrival in chain(stored.values() if stored else (), self.arrived)
            if arrival.message.target == row.id
            and arrival.message.id not in self.dropped
            and arrival.message.execution in (None, row.execution)
        ]

    def remembers(self, id: str) -> bool:
        """Whether an id was seen within the dedup window."""
        return self.state.seen.get(id, 0) > self.now_us

    def remember(self, id: str) -> None:
        self.effects.append(Remember(id, self.now_us + self.state.dedup_window_us))

    def send(self, message: Message) -> OutcomeStatus:
        """Put a message into its target's inbox, unless there is no such target, it has ended, or its current execution is another one.

        A missing target is created, RUNNING and without a ``start``, if the message ``creates`` an entity. Its execution id is the
        message's id: fresh, since message ids are, and the same whoever decides.
        """
        target = self.instance(message.target)
        if target is None:
            if message.creates is None or message.execution is not None:
                return OutcomeStatus.GONE
            target = InstanceRow(message.target, message.id, message.creates, InstanceStatus.RUNNING, self.now_us, self.now_us)
            self.put(target)
        if target.status in ENDED:
            return OutcomeStatus.ENDED
        if message.execution not in (None, target.execution):
            return OutcomeStatus.GONE
        row = MessageRow(self.next_position(), max(self.now_us, message.due_us), message)
        self.arrived.append(row)
        self.effects.append(PutMessage(row))
        return OutcomeStatus.OK

    def remove(self, row: InstanceRow, *, ended_keeps_tasks: bool = False) -> None:
        """Remove every trace of an instance, and deliver its obituaries if it had not ended.

        ``ended_keeps_tasks``: leave the tasks that an earlier ending kept on purpose; they run as orphans.
        """
        ended = row.status in ENDED
        self.rows[row.id] = None
        self.effects += (DropInbox(row.id, None), DropHistory(row.id, None), DropInstance(row.id))
        if not ended_keeps_tasks:
            self.effects.append(DropTasks(row.id, None))
        elif not ended:
            self.effects.append(DropTasks(row.id, row.execution))
        obituaries = None if ended else self.state.details.get((row.id, "obituaries"))
        if obituaries is not None:
            for message in decode_messages(obituaries):
                self.send(message)
