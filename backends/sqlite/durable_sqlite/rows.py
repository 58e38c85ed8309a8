"""Rows of the database into a partial ``hub.State``.

Every query returns *one* text, a JSON array of rows: stepping through rows would give the GIL away once a row, and with a busy
thread in the process each of those costs up to 5 ms. Bytes travel as hex. Large payloads of messages (``_INLINE``) stay behind:
most are consumed unread, and the ones that are handed out are fetched at the end (``payloads.py``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
from attrs import define, field
from msgspec.structs import replace

from durable_core.backend import Capabilities, InstanceStatus, Message, ParentRef
from durable_core.errors import StoreVersionError
from durable_core.hub import DetailKind, InstanceRow, MessageRow, Needs, State, TaskRow, WorkerRow
from durable_sqlite.migrate import SCHEMA_VERSION
from durable_sqlite.queries import ROWS_PER_STATEMENT, Rows, query

__all__ = ["Partial", "detail_rows", "instance_row", "parse"]

_END_OF_TIME_US = (1 << 63) - 1
_STATUS = {status.value: status for status in InstanceStatus}

_BATCH = Rows("load_batch")
_INSTANCES, _TASKS, _TASKS_WITH_PAYLOAD = Rows("load_instances"), Rows("load_tasks"), Rows("load_tasks_with_payload")
_MESSAGES, _INBOXES, _DETAILS, _SEEN = Rows("load_messages"), Rows("load_inboxes"), Rows("load_details"), Rows("load_seen")
_LARGE_DETAILS, _LARGE_TASKS = Rows("load_large_details"), Rows("load_large_tasks")

parse = msgspec.json.decode
"""JSON text to lists, texts and numbers."""


@define
class Partial:
    """The part of the hub that one step of a transaction works on.

    ``keys``: the database's key of each loaded instance. ``before``: the rows as they were loaded. ``first_due``: for those
    loaded, when their first message is visible. ``unread``: messages whose payload is still in the database, by (target, id),
    with their position and size. ``asked``: ids that need not be asked for again, there or not.
    """

    connection: sqlite3.Connection
    state: State
    last_key: int
    keys: dict[str, int] = field(factory=dict)
    before: dict[str, InstanceRow] = field(factory=dict)
    first_due: dict[str, int] = field(factory=dict)
    tasks_before: set[str] = field(factory=set)
    unread: dict[tuple[str, str], tuple[int, int]] = field(factory=dict)
    asked: set[str] = field(factory=set)

    @classmethod
    def begin(cls, connection: sqlite3.Connection, capabilities: Capabilities) -> Partial:
        """The counters, and every worker (without its last claim). Raises ``StoreVersionError`` if the file was migrated under us."""
        return cls._from_hub(connection, capabilities, connection.execute(query("load_hub")).fetchone()[0])

    @classmethod
    def begin_with(cls, connection: sqlite3.Connection, capabilities: Capabilities, wanted: Needs) -> Partial:
        """And the instances and tasks that ``wanted`` names: most batches need nothing else, and then this is their only query."""
        ids = [*wanted.instances, *wanted.tasks]
        if not 0 < len(ids) <= ROWS_PER_STATEMENT:
            return cls.begin(connection, capabilities)
        ((text, parameters),) = _BATCH.chunks(ids)
        hub, instances, tasks = connection.execute(text, parameters).fetchone()
        part = cls._from_hub(connection, capabilities, hub)
        part._keep_instances(parse(instances))
        part._keep_tasks(parse(tasks))
        part.asked.update(wanted.instances, wanted.tasks)
        return part

    @classmethod
    def _from_hub(cls, connection: sqlite3.Connection, capabilities: Capabilities, hub: str) -> Partial:
        version, epoch, position, now_us, last_key, workers = parse(hub)
        if version > SCHEMA_VERSION:
            text = f"the store was migrated to schema version {version} by a newer durable-core"
            raise StoreVersionError(f"{text}: upgrade this program, too")
        state = State(now_us, epoch, position, limits=capabilities)
        for id, until_us in workers:
            state.workers[id] = WorkerRow(id, until_us)
        return cls(connection, state, last_key)

    def load(self, wanted: Needs, now_us: int, *, task_payloads: bool = False) -> None:
        """What ``wanted`` names, unless it is there already. Workers are there from the beginning."""
        self.load_instances(wanted.instances)
        self.load_tasks(wanted.tasks, payloads=task_payloads)
        self._load_messages(wanted.messages)
        self.load_inboxes(wanted.inboxes, max(now_us, self.state.now_us))
        self.load_inboxes(dict.fromkeys(wanted.inbox_heads, 1), _END_OF_TIME_US)
        self._load_details(wanted.details)
        self._load_seen(wanted.seen)
        for worker in wanted.cancelled_tasks_of:
            ids = self._rows(self.connection.execute(query("load_cancelled_tasks"), (worker,)).fetchone())
            self.load_tasks(ids, payloads=False)

    def load_last_claim(self, worker: str) -> None:
        """What a worker was handed last, so that a repeated claim returns the same."""
        if worker in self.state.workers:
            until_us, claim_id, turns, tasks = self.connection.execute(query("load_worker"), (worker,)).fetchone()
            self.state.workers[worker] = WorkerRow(worker, until_us, claim_id, tuple(parse(turns)), tuple(parse(tasks)))

    def load_instances(self, ids: Iterable[str]) -> None:
        missing = [id for id in ids if id not in self.keys and id not in self.asked]
        self._keep_instances(self._fetch(_INSTANCES, missing))

    def _keep_instances(self, rows: Iterable[Any]) -> None:
        for key, first_due_us, *columns in rows:
            row = instance_row(*columns)
            id = row.instance
            self.keys[id] = key
            self.before[id] = self.state.instances[id] = row
            if first_due_us is not None:
                self.first_due[id] = first_due_us

    def load_tasks(self, ids: Iterable[str], *, payloads: bool) -> None:
        missing = [id for id in ids if id not in self.tasks_before and id not in self.asked]
        large = self._keep_tasks(self._fetch(_TASKS_WITH_PAYLOAD if payloads else _TASKS, missing))
        if payloads and large:
            self._load_large_tasks(large)

    def _keep_tasks(self, rows: Iterable[Any]) -> list[str]:
        """Those whose payload was too large to come along."""
        large: list[str] = []
        for id, instance, execution, name, position, created_us, worker, attempt, cancelled, payload in rows:
            data = bytes.fromhex(payload) if payload else b""
            self.state.tasks[id] = TaskRow(id, instance, execution, name, data, attempt, position, created_us, worker, cancelled != 0)
            self.tasks_before.add(id)
            if payload is None:
                large.append(id)
        return large

    def _load_large_tasks(self, ids: Sequence[str]) -> None:
        for text, parameters in _LARGE_TASKS.chunks(list(ids)):
            for id, payload in self.connection.execute(text, parameters).fetchall():
                self.state.tasks[id] = replace(self.state.tasks[id], payload=payload)

    def _load_messages(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Completions that a commit settles. Where the task itself is there, they cannot be."""
        tasks, keys = self.state.tasks, self.keys
        pairs = [
            (keys[target], id)
            for target, id in wanted
            if target in keys and not ((task := tasks.get(id)) is not None and task.instance == target and not task.cancelled)
        ]
        self._keep_messages(self._fetch(_MESSAGES, list(chain.from_iterable(pairs))))

    def load_inboxes(self, wanted: dict[str, int], now_us: int) -> None:
        """Due messages: the first so many, and every control message. Where nothing is due, nothing is asked."""
        due = [target for target in wanted if self.first_due.get(target, now_us + 1) <= now_us]
        if due:
            many = max(wanted[target] for target in due)
            self._keep_messages(
                chain.from_iterable(
                    map(parse, _INBOXES.fetch(self.connection, [self.keys[target] for target in due], now_us, many, now_us))
                )
            )

    def _keep_messages(self, rows: Iterable[Any]) -> None:
        for position, target, visible_us, id, execution, sender, due_us, control, creates, payload in rows:
            if isinstance(payload, int):
                self.unread[target, id] = (position, payload)
            message = Message(
                id, target, b"" if isinstance(payload, int) else bytes.fromhex(payload), execution, sender, due_us, bool(control), creates
            )
            self.state.inbox.setdefault(target, {})[id] = MessageRow(visible_us, position, message)

    def _load_details(self, wanted: Iterable[tuple[str, DetailKind]]) -> None:
        missing = [pair for pair in wanted if pair[0] in self.keys and pair not in self.state.details]
        pairs: list[tuple[int, DetailKind]] = [(self.keys[id], kind) for id, kind in missing]
        self.state.details.update(detail_rows(self.connection, pairs))

    def _load_seen(self, ids: Iterable[str]) -> None:
        self.state.seen.update((id, until_us) for id, until_us in self._fetch(_SEEN, list(ids)))

    def _fetch(self, rows: Rows, parameters: list[Any]) -> Iterable[Any]:
        return chain.from_iterable(map(parse, rows.fetch(self.connection, parameters))) if parameters else ()

    @staticmethod
    def _rows(result: tuple[str]) -> list[str]:
        return list(parse(result[0]))


def instance_row(
    id: str,
    execution: str,
    name: str,
    status: str,
    created_us: int,
    updated_us: int,
    parent: str | None,
    parent_execution: str | None,
    epoch: int,
    version: int,
    history_length: int,
    holder: str | None,
    claimed: int,
    hold_until_us: int,
    not_before_us: int,
    attempt: int,
    parked: int,
    problem: str | None,
    last_commit: str,
) -> InstanceRow:
    """The columns of ``load_instances``, in its order."""
    return InstanceRow(
        id,
        execution,
        name,
        _STATUS[status],
        created_us,
        updated_us,
        version,
        history_length,
        attempt,
        parked != 0,
        problem,
        None if parent is None else ParentRef(parent, parent_execution or ""),
        epoch,
        holder,
        claimed != 0,
        hold_until_us,
        not_before_us,
        last_commit,
    )


def detail_rows(connection: sqlite3.Connection, wanted: Iterable[tuple[int, DetailKind]]) -> Iterable[tuple[tuple[str, DetailKind], bytes]]:
    """((instance id, kind), data) of those that exist, by (key, kind)."""
    pairs = list(chain.from_iterable(wanted))
    if not pairs:
        return
    large: list[object] = []
    for text in _DETAILS.fetch(connection, pairs):
        for key, instance, kind, data in parse(text):
            if data is None:
                large += (key, kind)
            else:
                yield (instance, kind), bytes.fromhex(data)
    for sql, parameters in _LARGE_DETAILS.chunks(large):
        for instance, kind, data in connection.execute(sql, parameters).fetchall():
            yield (instance, kind), data
