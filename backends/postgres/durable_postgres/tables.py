"""What became of the loaded rows, as arguments of the SQL function ``write``: one statement a table, whatever the batch.

Rows are immutable, so a row that is another object than before has changed. Only what effects may do to rows that nobody loaded is
noted while they are absorbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from durable_core.backend import ENDED
from durable_core.hub import DetailKind, InstanceRow, MessageRow, TaskRow, WorkerRow
from durable_core.hub import effects as fx
from durable_postgres.rows import NUMBERS_PER_TICKET, Partial

__all__ = ["Changes"]


class Changes:
    """Made when everything is loaded and before anything is decided; ``absorb`` then takes the effects, ``arguments`` says what to
    write."""

    def __init__(self, part: Partial) -> None:
        state = part.state
        self._part = part
        self._state = state
        self._instances = dict(state.instances)
        self._details = dict(state.details)
        self._inbox = {target: dict(rows) for target, rows in state.inbox.items()}
        self._tasks = dict(state.tasks)
        self._seen = dict(state.seen)
        self._workers = dict(state.workers)
        self._removed: set[str] = set()
        self._dropped: dict[tuple[str, str], None] = {}
        self._no_details: dict[tuple[str, DetailKind], None] = {}
        self._no_inboxes: list[tuple[str, str | None]] = []
        self._no_tasks: list[tuple[str, str | None]] = []
        self._no_histories: set[str] = set()
        self._forget_us: int | None = None
        self.anything = False
        """Whether there is something to write."""
        self.work = False
        """Whether a worker may find something to claim that it did not find before; after ``arguments``."""
        self.ended = False
        """Whether somebody may have waited for this; after ``arguments``."""

    def absorb(self, effects: list[fx.Effect]) -> None:
        self.anything = self.anything or bool(effects)
        for effect in effects:
            effect.absorb(self._state)
            note = _NOTE.get(type(effect))
            if note is not None:
                note(self, effect)

    def arguments(self) -> tuple[Any, ...]:
        """In the order of the function's parameters."""
        state, part = self._state, self._part
        assert state.position - part.ticket * NUMBERS_PER_TICKET < NUMBERS_PER_TICKET, "a batch outgrew its ticket"
        written = [row for id, row in state.instances.items() if row is not self._instances.get(id)]
        tasks = [row for id, row in state.tasks.items() if row is not self._tasks.get(id)]
        workers = [row for id, row in state.workers.items() if row is not self._workers.get(id)]
        messages = [row for target, rows in state.inbox.items() for row in self._new_messages(target, rows)]
        gone = [(target, id) for target, id in self._dropped if target in self._instances and id not in state.inbox.get(target, ())]
        dying = [row for id, row in self._workers.items() if id not in state.workers]
        removed = [id for id in self._instances if id not in state.instances]
        touched = {row.message.target for row in messages} | {target for target, _ in gone}
        touched |= {target for target, _ in self._no_inboxes} | self._removed
        self._number(written)
        self._tell(written, tasks, bool(messages or dying), bool(removed))
        return (
            part.ticket,
            state.now_us,
            self._alive(written, tasks, workers),
            [_raw(row.id) for row in dying],
            [row.until_us for row in dying],
            list(part.instances),
            list(part.instances.values()),
            list(part.tasks),
            list(part.tasks.values()),
            [_raw(id) for id in part.wanted if id not in self._instances],
            self._ranges(self._no_inboxes),
            self._ranges(self._no_tasks),
            self._keys(self._no_histories),
            self._keys(removed),
            self._keys(self._removed),
            [(part.keys[id], kind, b"") for id, kind in self._no_details if (id, kind) not in state.details and id in self._instances],
            self._changed_details(),
            [part.keys[target] for target, _ in gone],
            [_raw(id) for _, id in gone],
            [self._message(row) for row in messages],
            [row.position for id, row in self._tasks.items() if id not in state.tasks],
            [self._task(row) for row in tasks if row.id not in self._tasks],
            [self._task(row) for row in tasks if row.id in self._tasks],
            [self._instance(row, touched) for row in written if row.instance not in self._instances],
            [self._instance(row, touched) for row in written if row.instance in self._instances],
            self._keys(touched.intersection(state.instances).difference(row.instance for row in written)),
            [(part.keys[id], row.first, row.count, row.payload) for id, rows in state.history.items() for row in rows],
            [self._worker(row) for row in workers],
            [(_raw(id), until_us) for id, until_us in state.seen.items() if self._seen.get(id) != until_us],
            self._forget_us,
        )

    def _new_messages(self, target: str, rows: dict[str, MessageRow]) -> Iterable[MessageRow]:
        before = self._inbox.get(target, {})
        return (row for id, row in rows.items() if row is not before.get(id))

    def _number(self, written: list[InstanceRow]) -> None:
        """An id that is new gets a key; one that was removed and created again keeps its own."""
        keys, next_key = self._part.keys, self._part.ticket * NUMBERS_PER_TICKET
        for row in written:
            if row.instance not in keys:
                next_key += 1
                keys[row.instance] = next_key

    def _tell(self, written: list[InstanceRow], tasks: list[TaskRow], work: bool, ended: bool) -> None:
        self.work = work or any(row.holder is None for row in written) or any(row.worker is None for row in tasks)
        self.ended = ended or any(row.status in ENDED for row in written)

    def _alive(self, written: list[InstanceRow], tasks: list[TaskRow], workers: list[WorkerRow]) -> list[bytes]:
        """Who is to own something from now on: must not be given up while this is written, or nobody would ever free it."""
        owners = {row.holder for row in written} | {row.worker for row in tasks}
        owners.update(row.id for row in workers if row.id in self._workers)
        return sorted(_raw(owner) for owner in owners if owner is not None)

    def _changed_details(self) -> list[tuple[int, str, bytes]]:
        keys, before, removed = self._part.keys, self._details, self._removed
        details = self._state.details.items()
        return [(keys[id], kind, data) for (id, kind), data in details if id in removed or data is not before.get((id, kind))]

    def _keys(self, ids: Iterable[str]) -> list[int]:
        return [self._part.keys[id] for id in ids]

    def _ranges(self, ranges: list[tuple[str, str | None]]) -> list[tuple[int, bytes | None]]:
        """Of instances that were there: nothing else can have rows that nobody loaded."""
        return [(self._part.keys[id], _raw_or_none(execution)) for id, execution in ranges if id in self._instances]

    def _instance(self, row: InstanceRow, touched: set[str]) -> tuple[Any, ...]:
        parent = row.parent
        return (
            self._part.keys[row.instance], None, None, None, _raw(row.instance), _raw(row.execution), _raw(row.name), row.status.value,
            row.created_us, row.updated_us, None if parent is None else _raw(parent.instance), None if parent is None else _raw(parent.execution),
            row.epoch, row.version, row.history_length, _raw_or_none(row.holder), row.claimed, row.hold_until_us, row.not_before_us,
            row.attempt, row.parked, _raw_or_none(row.problem), _raw(row.last_commit), row.instance in touched,
        )  # fmt: skip

    def _message(self, row: MessageRow) -> tuple[Any, ...]:
        message = row.message
        return (
            self._part.keys[message.target], row.position, row.visible_us, _raw(message.id), _raw_or_none(message.execution), _raw(message.sender),
            message.due_us, message.control, _raw_or_none(message.creates), message.payload, None,
        )  # fmt: skip

    def _task(self, row: TaskRow) -> tuple[Any, ...]:
        return (
            row.position, None, self._part.keys.get(row.instance), None, _raw(row.id), _raw(row.execution), _raw(row.name), row.created_us,
            _raw_or_none(row.worker), row.attempt, row.cancelled, b"" if row.id in self._tasks else row.payload,
        )  # fmt: skip

    def _worker(self, row: WorkerRow) -> tuple[Any, ...]:
        """A beat moves ``until_us`` alone, a claim the rest."""
        before = self._workers.get(row.id)
        beats = before is None or before.claim_id == row.claim_id
        return _raw(row.id), row.until_us, _raw(row.claim_id), list(map(_raw, row.turns)), list(map(_raw, row.tasks)), beats


def _raw(text: str) -> bytes:
    return text.encode()


def _raw_or_none(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


# ── effects that reach rows which nobody loaded ──────────────────────────────────────────────────────────────────


def _remove(changes: Changes, effect: fx.DropInstance) -> None:
    if effect.id in changes._instances:
        changes._removed.add(effect.id)


def _put_detail(changes: Changes, effect: fx.PutDetail) -> None:
    if effect.data is None:
        changes._no_details[effect.instance, effect.kind] = None


def _drop_history(changes: Changes, effect: fx.DropHistory) -> None:
    if effect.instance in changes._instances:
        changes._no_histories.add(effect.instance)


def _forget(changes: Changes, effect: fx.Forget) -> None:
    changes._forget_us = effect.now_us


_NOTE: dict[type, Callable[[Changes, Any], None]] = {
    fx.DropInstance: _remove,
    fx.PutDetail: _put_detail,
    fx.DropMessage: lambda changes, effect: changes._dropped.update({(effect.target, effect.id): None}),
    fx.DropInbox: lambda changes, effect: changes._no_inboxes.append((effect.target, effect.execution)),
    fx.DropTasks: lambda changes, effect: changes._no_tasks.append((effect.instance, effect.execution)),
    fx.DropHistory: _drop_history,
    fx.Forget: _forget,
}
