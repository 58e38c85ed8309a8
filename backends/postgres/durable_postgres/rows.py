"""Rows of the database into a partial ``hub.State``, in one round trip.

``load`` and ``find`` return rows of every kind, each in the column of its kind (arrays of rows take the driver four times as long). Each is
a snapshot, and everything in it has a stamp or is compared in some other way when the batch is written. Ids and names travel as UTF-8
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define, field

from durable_core.backend import Capabilities, InstanceStatus, Message, ParentRef
from durable_core.hub import DetailKind, InstanceRow, MessageRow, Needs, State, TaskRow, WorkerRow

__all__ = ["NUMBERS_PER_TICKET", "Found", "Partial", "detail_of", "instance_row", "load_arguments"]

NUMBERS_PER_TICKET = 1 << 22
_STATUS = {status.value: status for status in InstanceStatus}


def load_arguments(wanted: Needs, clock_us: int | None, floor_us: int) -> tuple[Any, ...]:
    """The parameters of the query ``load``."""
    inboxes = {_raw(id): many for id, many in wanted.inboxes.items()}
    return (
        clock_us,
        floor_us,
        _raws(wanted.instances),
        _raws(wanted.tasks),
        _raws(wanted.cancelled_tasks_of),
        list(inboxes),
        list(inboxes.values()),
        _raws(wanted.inbox_heads),
        _raws(target for target, _ in wanted.messages),
        _raws(id for _, id in wanted.messages),
        _raws(id for id, _ in wanted.details),
        [kind for _, kind in wanted.details],
        _raws(wanted.seen),
        _raws(wanted.workers),
        wanted.all_workers,
    )


class Found:
    """What ``load`` or ``find`` returned, by kind. The fields of ``head_row`` are attributes."""

    def __init__(self, rows: list[Any]) -> None:
        self.instances: list[Any] = []
        self.tasks: list[Any] = []
        self.messages: list[Any] = []
        self.details: list[Any] = []
        self.seen: list[Any] = []
        self.workers: list[Any] = []
        self.lifeless: list[str] = []
        head: Any = None
        for first, instance, task, message, detail, seen, worker, lifeless in rows:
            if instance is not None:
                self.instances.append(instance)
            elif task is not None:
                self.tasks.append(task)
            elif message is not None:
                self.messages.append(message)
            elif detail is not None:
                self.details.append(detail)
            elif seen is not None:
                self.seen.append(seen)
            elif worker is not None:
                self.workers.append(worker)
            elif lifeless is not None:
                self.lifeless.append(lifeless.decode())
            else:
                head = first
        self.version: int = head["version"]
        self.now_us: int = head["now_us"]
        self.ticket: int | None = head["ticket"]
        self.others: int = head["others"]
        self.next_due_us: int | None = head["next_due_us"]


@define
class Partial:
    """The part of the hub that one batch works on.

    ``keys``: the database's number of each instance. ``instances`` and ``tasks``: stamps of the rows as they were loaded. ``wanted``: ids
    of instances that were asked for, there or not. ``unread``: messages whose payload is still in the database, by (target, id), with
    their size.
    """

    state: State
    ticket: int
    keys: dict[str, int] = field(factory=dict)
    instances: dict[int, int] = field(factory=dict)
    tasks: dict[int, int] = field(factory=dict)
    wanted: set[str] = field(factory=set)
    unread: dict[tuple[str, str], int] = field(factory=dict)

    @classmethod
    def begin(cls, found: Found, limits: Capabilities) -> Partial:
        """From what was found first: its ticket numbers what is new in the batch."""
        assert found.ticket is not None
        first = found.ticket * NUMBERS_PER_TICKET
        part = cls(State(found.now_us, epoch=first, position=first, limits=limits), found.ticket)
        part.add(found)
        return part

    def add(self, found: Found) -> None:
        """What was found later; an instance that is there already stays."""
        names = self._add_instances(found.instances)
        self._add_tasks(found.tasks)
        self._add_messages(found.messages, names)
        for key, kind, data in found.details:
            self.state.details[names[key], kind] = data
        for id, until_us in found.seen:
            self.state.seen[id.decode()] = until_us
        for row in found.workers:
            worker = worker_row(row)
            self.state.workers[worker.id] = worker

    def _add_instances(self, rows: Iterable[Any]) -> dict[int, str]:
        names: dict[int, str] = {}
        for row in rows:
            instance = instance_row(row)
            names[row[0]] = instance.instance
            if instance.instance not in self.keys:
                self.keys[instance.instance] = row[0]
                self.instances[row[0]] = row[1]
                self.state.instances[instance.instance] = instance
        return names

    def _add_tasks(self, rows: Iterable[Any]) -> None:
        for position, stamp, _key, instance, id, execution, name, created_us, worker, attempt, cancelled, payload in rows:
            owner, text = instance.decode(), id.decode()
            self.tasks[position] = stamp
            self.state.tasks[text] = TaskRow(
                text, owner, execution.decode(), name.decode(), payload, attempt, position, created_us, _text(worker), cancelled
            )

    def _add_messages(self, rows: Iterable[Any], names: dict[int, str]) -> None:
        for key, position, visible_us, id, execution, sender, due_us, control, creates, payload, size in rows:
            target, text = names[key], id.decode()
            if payload is None:
                self.unread[target, text] = size
            message = Message(text, target, payload or b"", _text(execution), sender.decode(), due_us, control, _text(creates))
            self.state.inbox.setdefault(target, {})[text] = MessageRow(visible_us, position, message)


def instance_row(row: Any) -> InstanceRow:
    """From the SQL type of the same name."""
    (
        _key, _stamp, _touched_us, _first_due_us, id, execution, name, status, created_us, updated_us, parent, parent_execution,
        epoch, version, history_length, holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit, _refresh,
    ) = row  # fmt: skip
    return InstanceRow(
        id.decode(),
        execution.decode(),
        name.decode(),
        _STATUS[status],
        created_us,
        updated_us,
        version,
        history_length,
        attempt,
        parked,
        _text(problem),
        None if parent is None else ParentRef(parent.decode(), parent_execution.decode()),
        epoch,
        _text(holder),
        claimed,
        hold_until_us,
        not_before_us,
        last_commit.decode(),
    )


def worker_row(row: Any) -> WorkerRow:
    """From the SQL type of the same name."""
    id, until_us, claim_id, turns, tasks, _beats = row
    return WorkerRow(
        id.decode(), until_us, claim_id.decode(), tuple(turn.decode() for turn in turns), tuple(task.decode() for task in tasks)
    )


def detail_of(rows: Iterable[Any] | None, id: str) -> Iterable[tuple[tuple[str, DetailKind], bytes]]:
    """((instance id, kind), data) of one instance."""
    return (((id, kind), data) for _, kind, data in rows or ())


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()


def _raw(text: str) -> bytes:
    return text.encode()


def _raws(texts: Iterable[str]) -> list[bytes]:
    return [text.encode() for text in texts]
