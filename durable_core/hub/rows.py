"""What a task hub holds: immutable rows, and the tables they live in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Literal, get_args

from msgspec import Struct, field, json

from durable_core.backend import ENTITY_PREFIX, Capabilities, ClaimedTask, HistoryRow, InstanceFacts, InstanceStatus, Message, ParentRef

DetailKind = Literal["start", "custom_status", "output", "failure", "snapshot", "obituaries"]
"""The large or rarely read parts of an instance, kept apart from the row that every commit rewrites."""

DETAIL_KINDS: tuple[DetailKind, ...] = get_args(DetailKind)

Facts = tuple[str, str, str, InstanceStatus, int, int, int, int, int, bool, str | None, ParentRef | None]
facts_of: Callable[[InstanceFacts], Facts] = attrgetter(*InstanceFacts.__struct_fields__)
"""The fields that a claimed turn, a record and a row have in common, in order."""


class InstanceRow(InstanceFacts, frozen=True):
    """``claimed``: a turn is out (with ``holder``). ``hold_until_us`` counts only when it is not. ``not_before_us``: delayed start or
    back-off. ``last_commit``: the id of the last accepted commit.
    """

    epoch: int = 0
    holder: str | None = None
    claimed: bool = False
    hold_until_us: int = 0
    not_before_us: int = 0
    last_commit: str = ""

    @property
    def is_entity(self) -> bool:
        return self.instance.startswith(ENTITY_PREFIX)

    @property
    def awaits_start(self) -> bool:
        """Whether its ``start`` is still to be handed out: an orchestration with an empty history."""
        return self.history_length == 0 and not self.is_entity


class MessageRow(Struct, frozen=True, order=True, gc=False):
    """``visible_us``: its due time, or its arrival if that was later. ``position``: the hub-wide order of arrival.

    An inbox is handed out in this order: what became visible first comes first, so that a completion which arrived before a timer fell
    due also reaches the instance before it. Undelayed messages therefore keep their order of arrival.
    """

    visible_us: int
    position: int
    message: Message


class TaskRow(ClaimedTask, frozen=True):
    """``cancelled``: gone for its instance; the row waits for the heartbeat of the worker that runs it."""

    position: int
    created_us: int
    worker: str | None = None
    cancelled: bool = False


class WorkerRow(Struct, frozen=True, gc=False):
    """An incarnation. ``claim_id``, ``turns`` and ``tasks`` are its last claim, so that a repeated one returns the same items."""

    id: str
    until_us: int
    claim_id: str = ""
    turns: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class State(Struct):
    """A hub, or the part of one that a store has loaded. Only effects change it; a store loads a row by assigning it to its table.

    ``epoch`` and ``position`` are the last ones given out. ``inbox`` is by target and message id; ``history`` is that of the current
    execution. ``seen`` holds remembered ids and when each may be forgotten. ``limits`` are the store's.
    """

    now_us: int = 0
    epoch: int = 0
    position: int = 0
    instances: dict[str, InstanceRow] = {}
    details: dict[tuple[str, DetailKind], bytes] = {}
    inbox: dict[str, dict[str, MessageRow]] = {}
    tasks: dict[str, TaskRow] = {}
    history: dict[str, list[HistoryRow]] = {}
    seen: dict[str, int] = {}
    workers: dict[str, WorkerRow] = {}
    limits: Capabilities = field(default_factory=lambda: Capabilities("none", multi_process=False, proves_death=False))


def encode_messages(messages: Iterable[Message]) -> bytes:
    """Obituaries as bytes: a JSON list that a person can read, payloads in base64."""
    return json.encode(tuple(messages))


def decode_messages(data: bytes) -> tuple[Message, ...]:
    return json.decode(data, type=tuple[Message, ...])
