"""What a task hub holds: immutable rows, and the tables they live in."""

from __future__ import annotations

from typing import Literal, get_args

from attrs import define, field
from msgspec import Struct

from durable_core.backend import ENTITY_PREFIX, HistoryRow, InstanceStatus, Message, ParentRef

DetailKind = Literal["start", "custom_status", "output", "failure", "snapshot", "obituaries"]
"""The large or rarely read parts of an instance, kept apart from the row that every commit rewrites."""

DETAIL_KINDS: tuple[DetailKind, ...] = get_args(DetailKind)


class InstanceRow(Struct, frozen=True, gc=False):
    """``claimed``: a turn is out (with ``holder``). ``hold_until_us`` counts only when it is not. ``not_before_us``: delayed start or
    back-off.

    ``updated_us`` is when something that its record shows last changed; ``last_commit`` the id of the last accepted commit.
    """

    id: str
    execution: str
    name: str
    status: InstanceStatus
    created_us: int
    updated_us: int
    parent: ParentRef | None = None
    epoch: int = 0
    version: int = 0
    history_length: int = 0
    holder: str | None = None
    claimed: bool = False
    hold_until_us: int = 0
    not_before_us: int = 0
    attempt: int = 0
    parked: bool = False
    problem: str | None = None
    last_commit: str = ""

    @property
    def is_entity(self) -> bool:
        return self.id.startswith(ENTITY_PREFIX)

    @property
    def awaits_start(self) -> bool:
        """Whether its ``start`` is still to be handed out: an orchestration with an empty history."""
        return self.history_length == 0 and not self.is_entity


class MessageRow(Struct, frozen=True, gc=False):
    """``position``: the hub-wide order of arrival. ``visible_us``: its due time, or its arrival if that was later.

    An inbox is handed out in order of (``visible_us``, ``position``): what became visible first comes first, so that a completion which
    arrived before a timer fell due also reaches the instance before it. Undelayed messages therefore keep their order of arrival.
    """

    position: int
    visible_us: int
    message: Message


class TaskRow(Struct, frozen=True, gc=False):
    """``cancelled``: gone for its instance; the row waits for the heartbeat of the worker that runs it."""

    id: str
    instance: str
    execution: str
    name: str
    payload: bytes
    position: int
    created_us: int
    worker: str | None = None
    attempt: int = 0
    cancelled: bool = False


class WorkerRow(Struct, frozen=True, gc=False):
    """An incarnation. ``claim_id``, ``turns`` and ``tasks`` are its last claim, so that a repeated one returns the same items."""

    id: str
    until_us: int
    claim_id: str = ""
    turns: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class TaskTable(dict[str, TaskRow]):
    """Tasks by id, with an index by instance that item assignment and ``discard`` keep (change it in no other way)."""

    def __init__(self) -> None:
        super().__init__()
        self.by_instance: dict[str, set[str]] = {}

    def __setitem__(self, id: str, row: TaskRow) -> None:
        super().__setitem__(id, row)
        self.by_instance.setdefault(row.instance, set()).add(id)

    def discard(self, id: str) -> None:
        row = super().pop(id, None)
        if row is not None:
            ids = self.by_instance[row.instance]
            ids.discard(id)
            if not ids:
                del self.by_instance[row.instance]


@define
class State:
    """A hub, or the part of one that a store has loaded. Only ``absorb`` changes it; a store loads a row by assigning it to its table.

    ``epoch`` and ``position`` are the last ones given out. ``inbox`` is by target and message id, ``history`` by instance and execution.
    ``seen`` holds remembered ids and when each may be forgotten. ``messages_per_claim`` and ``dedup_window_us`` are the store's
    ``Capabilities``.
    """

    now_us: int = 0
    epoch: int = 0
    position: int = 0
    instances: dict[str, InstanceRow] = field(factory=dict)
    details: dict[tuple[str, DetailKind], bytes] = field(factory=dict)
    inbox: dict[str, dict[str, MessageRow]] = field(factory=dict)
    tasks: TaskTable = field(factory=TaskTable)
    history: dict[str, dict[str, list[HistoryRow]]] = field(factory=dict)
    seen: dict[str, int] = field(factory=dict)
    workers: dict[str, WorkerRow] = field(factory=dict)
    messages_per_claim: int = 1_000
    dedup_window_us: int = 3_600_000_000
    max_payload_bytes: int = 64 << 20
