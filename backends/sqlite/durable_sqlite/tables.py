"""Effects into the database: one statement a table and commit.

Effects are not written one by one. While a batch is decided, ``Changes`` only notes which rows they touched; the final rows are
then in the ``State`` that absorbed them, and each table gets at most: one statement for ranges that were dropped (they may
reach rows that nobody loaded), one for single deletions, and one for what is to be there. Deletions come first: what was put
after a drop is in the final state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import define, field

from durable_core.backend import ENDED
from durable_core.hub import InstanceRow, TaskRow
from durable_core.hub import effects as fx
from durable_sqlite.queries import Rows, query
from durable_sqlite.rows import Partial

__all__ = ["Changes"]

_FREE_INSTANCES, _FREE_TASKS, _DROP_CANCELLED = Rows("free_instances_of"), Rows("free_tasks_of"), Rows("drop_cancelled_tasks_of")
_DROP_INBOXES, _DROP_TASKS_OF, _DROP_HISTORIES = Rows("drop_inboxes"), Rows("drop_tasks_of"), Rows("drop_histories")
_DROP_INSTANCES, _DROP_DETAILS_OF, _DROP_DETAILS = Rows("drop_instances"), Rows("drop_details_of"), Rows("drop_details")
_DROP_MESSAGES, _DROP_TASKS, _DROP_WORKERS = Rows("drop_messages"), Rows("drop_tasks"), Rows("drop_workers")
_PUT_INSTANCES, _PUT_DETAILS, _PUT_MESSAGES = Rows("put_instances"), Rows("put_details"), Rows("put_messages")
_ADD_TASKS, _UPDATE_TASKS, _APPEND_HISTORY = Rows("add_tasks"), Rows("update_tasks"), Rows("append_history")
_PUT_WORKERS, _PUT_CLAIMS, _REMEMBER, _REFRESH_FIRST_DUE = (
    Rows("put_workers"),
    Rows("put_claims"),
    Rows("remember"),
    Rows("refresh_first_due"),
)

_encode = msgspec.json.Encoder().encode


def _text(value: object) -> str:
    return _encode(value).decode()


@define
class Changes:
    """What the effects of a batch touched. An ``instances`` entry is an id, whatever became of it; ``dropped``: those removed, if
    only for a moment."""

    part: Partial
    instances: dict[str, None] = field(factory=dict)
    dropped: dict[str, None] = field(factory=dict)
    details: dict[tuple[str, Any], None] = field(factory=dict)
    messages: dict[tuple[str, str], None] = field(factory=dict)
    inboxes: list[tuple[str, str | None]] = field(factory=list)
    tasks: dict[str, None] = field(factory=dict)
    tasks_of: list[tuple[str, str | None]] = field(factory=list)
    history: dict[str, list[fx.AppendHistory]] = field(factory=dict)
    histories: dict[str, None] = field(factory=dict)
    seen: dict[str, int] = field(factory=dict)
    forget_us: int | None = None
    workers: dict[str, None] = field(factory=dict)
    dead: dict[str, None] = field(factory=dict)
    advanced: bool = False

    def absorb(self, effects: list[fx.Effect]) -> None:
        """Carry effects out on the state, and note what they touch."""
        state = self.part.state
        for effect in effects:
            effect.absorb(state)
            _NOTE[type(effect)](self, effect)

    def write(self) -> None:
        """Bring the database to where the state is."""
        if not self.advanced:
            touched = bool(self.instances or self.messages or self.tasks or self.workers or self.seen)
            assert not touched, "effects without an Advance"
            return
        connection = self.part.connection
        keys = self._assign_keys()
        self._free_leases(connection)
        self._drop_ranges(connection, keys)
        self._write_instances(connection, keys)
        self._write_details(connection, keys)
        self._write_messages(connection, keys)
        self._write_tasks(connection, keys)
        self._write_history(connection, keys)
        self._write_workers(connection)
        self._write_seen(connection)
        self._refresh_first_due(connection, keys)
        state = self.part.state
        connection.execute(query("advance"), (state.epoch, state.position, state.now_us, self.part.last_key))

    def give_work(self) -> bool:
        """Whether a worker may find something to claim that it did not find before."""
        state = self.part.state
        return (
            bool(self.messages or self.dead)
            or any((row := state.instances.get(id)) is not None and row.holder is None for id in self.instances)
            or any((task := state.tasks.get(id)) is not None and task.worker is None for id in self.tasks)
        )

    def end_something(self) -> bool:
        """Whether somebody may have waited for this."""
        instances = self.part.state.instances
        return any((row := instances.get(id)) is None or row.status in ENDED for id in self.instances)

    def _assign_keys(self) -> dict[str, int]:
        """Every instance that is mentioned has a key by now: its own, or for a new one the next."""
        keys = self.part.keys
        for id in self.instances:
            if id not in keys:
                self.part.last_key += 1
                keys[id] = self.part.last_key
        return keys

    def _free_leases(self, connection: sqlite3.Connection) -> None:
        dead = list(self.dead)
        if dead:
            for rows in (_FREE_INSTANCES, _DROP_CANCELLED, _FREE_TASKS):
                rows.execute(connection, list(dead))

    def _drop_ranges(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        """Rows of instances that were there before: nothing else can have rows that nobody loaded."""
        before = self.part.before
        inboxes = [value for target, execution in self.inboxes if target in before for value in (keys[target], execution)]
        tasks = [value for instance, execution in self.tasks_of if instance in before for value in (keys[instance], execution)]
        _DROP_INBOXES.execute(connection, inboxes)
        _DROP_TASKS_OF.execute(connection, tasks)
        _DROP_HISTORIES.execute(connection, [keys[instance] for instance in self.histories if instance in before])

    def _write_instances(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        """A row that was dropped is deleted even if one of the same id follows: creation time, name and parent are never updated."""
        before = self.part.before
        dropped = [keys[id] for id in self.dropped if id in before]
        _DROP_INSTANCES.execute(connection, list(dropped))
        _DROP_DETAILS_OF.execute(connection, dropped)
        values: list[object] = []
        for id in self.instances:
            row = self.part.state.instances.get(id)
            if row is not None:
                _add_instance(values, keys[id], row)
        _PUT_INSTANCES.execute(connection, values)

    def _write_details(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        gone: list[object] = []
        values: list[object] = []
        for instance, kind in self.details:
            data = self.part.state.details.get((instance, kind))
            if data is not None:
                values += (keys[instance], kind, data)
            elif instance in self.part.before:
                gone += (keys[instance], kind)
        _DROP_DETAILS.execute(connection, gone)
        _PUT_DETAILS.execute(connection, values)

    def _write_messages(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        gone: list[object] = []
        values: list[object] = []
        inbox = self.part.state.inbox
        for target, id in self.messages:
            row = inbox.get(target, {}).get(id)
            if row is None:
                gone += (keys[target], id)
                continue
            message = row.message
            values += (row.position, keys[target], row.visible_us, id, message.execution, message.sender, message.due_us)
            values += (message.control, message.creates, message.payload)
        _DROP_MESSAGES.execute(connection, gone)
        _PUT_MESSAGES.execute(connection, values)

    def _write_tasks(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        gone: list[object] = []
        new: list[object] = []
        changed: list[object] = []
        for id in self.tasks:
            row = self.part.state.tasks.get(id)
            if row is None:
                gone.append(id)
            elif id in self.part.tasks_before:
                changed += (id, row.worker, row.attempt, row.cancelled)
            else:
                _add_task(new, keys[row.instance], row)
        _DROP_TASKS.execute(connection, gone)
        _UPDATE_TASKS.execute(connection, changed)
        _ADD_TASKS.execute(connection, new)

    def _write_history(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        values: list[object] = []
        for id, rows in self.history.items():
            for entry in rows:
                values += (keys[id], entry.row.first, entry.row.count, entry.row.payload)
        _APPEND_HISTORY.execute(connection, values)

    def _write_workers(self, connection: sqlite3.Connection) -> None:
        """A beat moves ``until_us`` alone; only a claim has its items loaded, and rewrites them."""
        workers = self.part.state.workers
        beats: list[object] = []
        claims: list[object] = []
        for id in self.workers:
            row = workers.get(id)
            if row is not None and (row.claim_id or row.turns or row.tasks):
                claims += (id, row.until_us, row.claim_id, _text(row.turns), _text(row.tasks))
            elif row is not None:
                beats += (id, row.until_us)
        _DROP_WORKERS.execute(connection, list(self.dead))
        _PUT_WORKERS.execute(connection, beats)
        _PUT_CLAIMS.execute(connection, claims)

    def _write_seen(self, connection: sqlite3.Connection) -> None:
        if self.forget_us is not None:
            connection.execute(query("forget"), (self.forget_us,))
        _REMEMBER.execute(connection, [value for pair in self.seen.items() for value in pair])

    def _refresh_first_due(self, connection: sqlite3.Connection, keys: dict[str, int]) -> None:
        """For every inbox that was touched, and every row that is new under its key, whatever else happened: it cannot be forgotten."""
        touched = {target for target, _ in self.messages}
        touched.update(target for target, _ in self.inboxes)
        touched.update(self.dropped)
        alive = self.part.state.instances
        _REFRESH_FIRST_DUE.execute(connection, [keys[id] for id in touched if id in alive])


def _add_instance(values: list[object], key: int, row: InstanceRow) -> None:
    parent = row.parent
    values += (
        key, row.instance, row.execution, row.name, row.status.value, row.created_us, row.updated_us,
        None if parent is None else parent.instance, None if parent is None else parent.execution,
        row.epoch, row.version, row.history_length, row.holder, row.claimed, row.hold_until_us, row.not_before_us, row.attempt, row.parked,
        row.problem, row.last_commit,
    )  # fmt: skip


def _add_task(values: list[object], key: int, row: TaskRow) -> None:
    values += (row.position, row.id, key, row.execution, row.name, row.created_us, row.worker, row.attempt, row.cancelled, row.payload)


# ── what each effect touches ─────────────────────────────────────────────────────────────────────────────────────


def _put_instance(changes: Changes, effect: fx.PutInstance) -> None:
    changes.instances[effect.row.instance] = None


def _drop_instance(changes: Changes, effect: fx.DropInstance) -> None:
    changes.instances[effect.id] = changes.dropped[effect.id] = None
    for key in [key for key in changes.details if key[0] == effect.id]:
        del changes.details[key]


def _put_detail(changes: Changes, effect: fx.PutDetail) -> None:
    changes.details[effect.instance, effect.kind] = None


def _put_message(changes: Changes, effect: fx.PutMessage) -> None:
    message = effect.row.message
    changes.messages[message.target, message.id] = None


def _drop_message(changes: Changes, effect: fx.DropMessage) -> None:
    changes.messages[effect.target, effect.id] = None


def _drop_inbox(changes: Changes, effect: fx.DropInbox) -> None:
    changes.inboxes.append((effect.target, effect.execution))


def _put_task(changes: Changes, effect: fx.PutTask) -> None:
    changes.tasks[effect.row.id] = None


def _drop_task(changes: Changes, effect: fx.DropTask) -> None:
    changes.tasks[effect.id] = None


def _drop_tasks(changes: Changes, effect: fx.DropTasks) -> None:
    changes.tasks_of.append((effect.instance, effect.execution))


def _append_history(changes: Changes, effect: fx.AppendHistory) -> None:
    changes.history.setdefault(effect.instance, []).append(effect)


def _drop_history(changes: Changes, effect: fx.DropHistory) -> None:
    """Only one execution's history is kept, so what lies in the database belongs to the execution that was loaded."""
    changes.history.pop(effect.instance, None)
    if effect.instance in changes.part.before:
        changes.histories[effect.instance] = None


def _remember(changes: Changes, effect: fx.Remember) -> None:
    changes.seen.pop(effect.id, None)
    changes.seen[effect.id] = effect.until_us


def _forget(changes: Changes, effect: fx.Forget) -> None:
    changes.forget_us = effect.now_us


def _put_worker(changes: Changes, effect: fx.PutWorker) -> None:
    changes.workers[effect.row.id] = None


def _drop_worker(changes: Changes, effect: fx.DropWorker) -> None:
    changes.dead[effect.id] = None


def _advance(changes: Changes, _effect: fx.Advance) -> None:
    changes.advanced = True


_NOTE: dict[type, Callable[[Changes, Any], None]] = {
    fx.PutInstance: _put_instance,
    fx.DropInstance: _drop_instance,
    fx.PutDetail: _put_detail,
    fx.PutMessage: _put_message,
    fx.DropMessage: _drop_message,
    fx.DropInbox: _drop_inbox,
    fx.PutTask: _put_task,
    fx.DropTask: _drop_task,
    fx.DropTasks: _drop_tasks,
    fx.AppendHistory: _append_history,
    fx.DropHistory: _drop_history,
    fx.Remember: _remember,
    fx.Forget: _forget,
    fx.PutWorker: _put_worker,
    fx.DropWorker: _drop_worker,
    fx.Advance: _advance,
}
