"""One command in the making: its effects so far, and what its later steps must see of the earlier ones."""

from __future__ import annotations

from itertools import chain

from durable_core.backend import ENDED, CreateInstance, InstanceStatus, Message, OutcomeStatus
from durable_core.errors import PayloadTooLargeError
from durable_core.hub import effects as fx
from durable_core.hub.rows import DetailKind, InstanceRow, MessageRow, State, decode_messages, encode_messages


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
        self.effects: list[fx.Effect] = []
        self.rows: dict[str, InstanceRow | None] = {}
        self.arrived: list[MessageRow] = []
        self.dropped: set[str] = set()

    def write(self, effect: fx.Effect, payload: bytes) -> None:
        """An effect that stores a payload, unless that is over the limit: then the whole command is rejected."""
        size, limit = len(payload), self.state.limits.max_payload_bytes
        if size > limit:
            text = f"a payload of {size:,} bytes ({type(effect).__name__}) is over the store's limit of {limit:,} bytes"
            raise PayloadTooLargeError(f"{text}: store it elsewhere and pass a reference")
        self.effects.append(effect)

    def put(self, row: InstanceRow) -> None:
        self.rows[row.instance] = row
        self.effects.append(fx.PutInstance(row))

    def put_detail(self, id: str, kind: DetailKind, data: bytes | None) -> None:
        """None leaves it as it is."""
        if data is not None:
            self.write(fx.PutDetail(id, kind, data), data)

    def drop_message(self, target: str, id: str) -> None:
        self.dropped.add(id)
        self.effects.append(fx.DropMessage(target, id))

    def instance(self, id: str) -> InstanceRow | None:
        return self.rows[id] if id in self.rows else self.state.instances.get(id)

    def inbox(self, row: InstanceRow) -> list[MessageRow]:
        """The messages for an instance's current execution, those included that this command sent, those left out that it ``dropped``."""
        arrived = (arrival for arrival in self.arrived if arrival.message.target == row.instance)
        rows = chain(self.state.inbox.get(row.instance, {}).values(), arrived)
        return [each for each in rows if each.message.id not in self.dropped and each.message.execution in (None, row.execution)]

    def remembers(self, id: str) -> bool:
        """Whether an id was seen within the dedup window."""
        return self.state.seen.get(id, 0) > self.now_us

    def remember(self, id: str) -> None:
        self.effects.append(fx.Remember(id, self.now_us + self.state.limits.dedup_window_us))

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
        self.position += 1
        row = MessageRow(max(self.now_us, message.due_us), self.position, message)
        self.arrived.append(row)
        self.write(fx.PutMessage(row), message.payload)
        return OutcomeStatus.OK

    def create(self, command: CreateInstance, *, may_replace: bool = True) -> InstanceRow | None:
        """Create the instance, in place of one that may be replaced; None, and the bounce sent, if the id is taken otherwise.

        A child replaces an ended child of the same parent instance and nothing else; ``reuse`` decides for what has no parent. Replacing
        deletes the tasks of the execution that is replaced, unless its own ending kept them.
        """
        id, taken = command.instance, self.instance(command.instance)
        if taken is not None:
            ended = taken.status in ENDED
            replaceable = command.reuse == "terminate_and_replace" or (command.reuse == "replace_ended" and ended)
            if command.parent is not None:
                replaceable = ended and taken.parent is not None and taken.parent.instance == command.parent.instance
            if not (replaceable and may_replace):
                if command.bounce is not None:
                    self.send(command.bounce)
                return None
            self.remove(taken, ended_keeps_tasks=True)
        facts = id, command.execution, command.name, InstanceStatus.PENDING, self.now_us, self.now_us
        not_before_us = self.now_us + command.delay_us if command.delay_us > 0 else 0
        row = InstanceRow(*facts, parent=command.parent, not_before_us=not_before_us)
        self.put(row)
        self.put_detail(id, "start", command.start)
        self.put_detail(id, "obituaries", encode_messages(command.obituaries) if command.obituaries else None)
        return row

    def remove(self, row: InstanceRow, *, ended_keeps_tasks: bool = False) -> None:
        """Remove every trace of an instance, and deliver its obituaries if it had not ended.

        ``ended_keeps_tasks``: leave the tasks that an earlier ending kept on purpose; they run as orphans.
        """
        id, ended = row.instance, row.status in ENDED
        self.rows[id] = None
        self.effects += (fx.DropInbox(id, None), fx.DropHistory(id), fx.DropInstance(id))
        if not (ended and ended_keeps_tasks):
            self.effects.append(fx.DropTasks(id, row.execution if ended_keeps_tasks else None))
        obituaries = None if ended else self.state.details.get((id, "obituaries"))
        for message in decode_messages(obituaries or b"[]"):
            self.send(message)
