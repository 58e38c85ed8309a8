"""Effects: plain facts about rows, and what each means for a ``State`` (``absorb``).

They know no rules, so that a log of effects can be replayed for ever, whatever becomes of the rules. Putting replaces a whole row;
dropping what is not there does nothing. Their order counts: a ``DropInbox`` spares what is put after it. What concerns nothing that a
partial state holds does nothing to it.
"""

from __future__ import annotations

from itertools import takewhile

from msgspec import Struct, structs

from durable_core.backend import HistoryRow
from durable_core.hub.rows import DETAIL_KINDS, DetailKind, InstanceRow, MessageRow, State, TaskRow, WorkerRow


class Effect(Struct, frozen=True, gc=False):
    """One fact."""

    def absorb(self, state: State) -> None:
        """Carry it out."""
        raise NotImplementedError


class PutInstance(Effect, frozen=True):
    row: InstanceRow

    def absorb(self, state: State) -> None:
        state.instances[self.row.instance] = self.row


class DropInstance(Effect, frozen=True):
    """The row and its details."""

    id: str

    def absorb(self, state: State) -> None:
        state.instances.pop(self.id, None)
        for kind in DETAIL_KINDS:
            state.details.pop((self.id, kind), None)


class PutDetail(Effect, frozen=True):
    """None deletes. ``obituaries`` are encoded by ``encode_messages``."""

    instance: str
    kind: DetailKind
    data: bytes | None

    def absorb(self, state: State) -> None:
        if self.data is None:
            state.details.pop((self.instance, self.kind), None)
        else:
            state.details[self.instance, self.kind] = self.data


class PutMessage(Effect, frozen=True):
    row: MessageRow

    def absorb(self, state: State) -> None:
        state.inbox.setdefault(self.row.message.target, {})[self.row.message.id] = self.row


class DropMessage(Effect, frozen=True):
    target: str
    id: str

    def absorb(self, state: State) -> None:
        inbox = state.inbox.get(self.target)
        if inbox is not None and inbox.pop(self.id, None) is not None and not inbox:
            del state.inbox[self.target]


class DropInbox(Effect, frozen=True):
    """All messages of an instance, or those scoped to one execution."""

    target: str
    execution: str | None

    def absorb(self, state: State) -> None:
        for id, row in list(state.inbox.get(self.target, {}).items()):
            if self.execution in (None, row.message.execution):
                DropMessage(self.target, id).absorb(state)


class PutTask(Effect, frozen=True):
    row: TaskRow

    def absorb(self, state: State) -> None:
        state.tasks[self.row.id] = self.row


class DropTask(Effect, frozen=True):
    id: str

    def absorb(self, state: State) -> None:
        state.tasks.pop(self.id, None)


class DropTasks(Effect, frozen=True):
    """All tasks of an instance, or of one execution."""

    instance: str
    execution: str | None

    def absorb(self, state: State) -> None:
        for task in list(state.tasks.values()):
            if task.instance == self.instance and self.execution in (None, task.execution):
                del state.tasks[task.id]


class AppendHistory(Effect, frozen=True):
    instance: str
    row: HistoryRow

    def absorb(self, state: State) -> None:
        rows = state.history.setdefault(self.instance, [])
        assert not rows or rows[-1].first + rows[-1].count == self.row.first, f"a hole in the history of {self.instance!r}"
        rows.append(self.row)


class DropHistory(Effect, frozen=True):
    instance: str

    def absorb(self, state: State) -> None:
        state.history.pop(self.instance, None)


class Remember(Effect, frozen=True):
    """An id of a client's message or create, or of a dead incarnation, against repeated submissions."""

    id: str
    until_us: int

    def absorb(self, state: State) -> None:
        state.seen.pop(self.id, None)
        state.seen[self.id] = self.until_us


class Forget(Effect, frozen=True):
    """All remembered ids whose time is over (``until_us`` <= ``now_us``). A partial state holds its ids in the order in which they expire."""

    now_us: int

    def absorb(self, state: State) -> None:
        # Ids are in the order in which they expire: the clock never goes back and the window is one for all.
        for id, _ in list(takewhile(lambda entry: entry[1] <= self.now_us, state.seen.items())):
            del state.seen[id]


class PutWorker(Effect, frozen=True):
    row: WorkerRow

    def absorb(self, state: State) -> None:
        state.workers[self.row.id] = self.row


class DropWorker(Effect, frozen=True):
    """Forget the incarnation; free its leases on instances (epochs stay) and tasks; delete its cancelled tasks."""

    id: str

    def absorb(self, state: State) -> None:
        state.workers.pop(self.id, None)
        for row in [row for row in state.instances.values() if row.holder == self.id]:
            state.instances[row.instance] = structs.replace(row, holder=None, claimed=False, hold_until_us=0)
        for task in [task for task in state.tasks.values() if task.worker == self.id]:
            if task.cancelled:
                del state.tasks[task.id]
            else:
                state.tasks[task.id] = structs.replace(task, worker=None)


class Advance(Effect, frozen=True):
    """The hub's counters: the last epoch and the last position given out, and the clock."""

    epoch: int
    position: int
    now_us: int

    def absorb(self, state: State) -> None:
        assert self.epoch >= state.epoch, "an epoch would be given out again"
        assert self.position >= state.position, "a position would be given out again"
        assert self.now_us >= state.now_us, "the hub's clock would run backwards"
        state.epoch, state.position, state.now_us = self.epoch, self.position, self.now_us
