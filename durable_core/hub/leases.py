"""Leases: registering incarnations, granting turns and tasks to them, and giving the dead ones up.

A worker *incarnation* registers with its first ``Beat`` and lives while it beats. One whose time is over is given up by the next beat of
anybody else (its own late beat still saves it), or at once by ``AbandonWorker``: its leases are freed, epochs staying as they are, so
that what it still commits is accepted until somebody claims the instance. Its id is remembered as dead for the dedup window: a beat says
``alive=False`` and registers nothing. (After the window a sleeper would register anew: it owns nothing then, and its fences are as stale
as before.)
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from durable_core.backend import AbandonWorker, Claim, ClaimedTask, ClaimedTurn, Heartbeat, OutcomeStatus, Selectors
from durable_core.hub.effects import DropTask, DropWorker, Effect, Forget, PutTask, PutWorker
from durable_core.hub.eligibility import admits, claimable_since, is_own, is_suspect, page, runnable
from durable_core.hub.rows import InstanceRow, MessageRow, State, TaskRow, WorkerRow
from durable_core.hub.transaction import ANSWER, Decision, Transaction


class Grant(Struct, frozen=True, gc=False):
    """Lease these instances and tasks, which the store chose among the eligible ones, to a worker. Those that are not eligible are passed
    over."""

    worker: str
    claim_id: str
    selectors: Selectors
    turns: tuple[str, ...]
    tasks: tuple[str, ...]


class Beat(Struct, frozen=True, gc=False):
    """Register the worker, or keep it alive for ``ttl_us``; give up those whose time is over."""

    worker: str
    ttl_us: int


def tombstone(worker: str) -> str:
    """Under which id a dead incarnation is remembered."""
    return f"dead worker {worker}"


def grant(state: State, command: Grant, now_us: int) -> tuple[Claim, list[Effect]]:
    """Lease what is eligible, in the given order; an unknown worker gets nothing.

    A repeated ``claim_id`` leases nothing new: it returns those items of the worker's last claim that are still out with it. A suspect is
    leased only if it is first, and then alone. ``Claim.next_due_us`` is left to the store, who asks ``next_due`` or its own index.
    """
    tx = Transaction(state, now_us)
    worker = state.workers.get(command.worker)
    if worker is None:
        return Claim((), (), tx.now_us), []
    if worker.claim_id == command.claim_id:
        return _repeated(tx, worker, command.selectors), []
    turns: list[ClaimedTurn] = []
    for id in command.turns:
        row = tx.instance(id)
        if row is None or claimable_since(row, state.inbox.get(id, {}).values(), worker.id, command.selectors, tx.now_us) is None:
            continue
        suspect = is_suspect(row, worker.id, tx.now_us)
        if suspect and turns:
            continue
        turns.append(_granted_turn(tx, _lease(tx, row, worker.id), command.selectors))
        if suspect:
            break
    tasks = [
        _lease_task(tx, task, worker.id)
        for task in map(state.tasks.get, dict.fromkeys(command.tasks))
        if task is not None and task.worker is None and task.name in command.selectors.activities
    ]
    if turns or tasks:
        ids = tuple(turn.instance for turn in turns), tuple(task.id for task in tasks)
        tx.effects.append(PutWorker(WorkerRow(worker.id, worker.until_us, command.claim_id, *ids)))
    return Claim(tuple(turns), tuple(tasks), tx.now_us), tx.close()


def _lease(tx: Transaction, row: InstanceRow, worker: str) -> InstanceRow:
    """Mark a turn of the instance as out with ``worker``, under a new epoch and attempt unless it is the holder's own."""
    if is_own(row, worker, tx.now_us):
        row = replace(row, claimed=True, hold_until_us=0)
    else:
        row = replace(row, holder=worker, claimed=True, hold_until_us=0, epoch=tx.next_epoch(), attempt=row.attempt + 1)
    tx.put(row)
    return row


def claimed_turn(
    tx: Transaction, row: InstanceRow, inbox: Iterable[MessageRow], start: bytes | None, *, admitted: bool = True
) -> ClaimedTurn:
    """The lease on a claimed instance, as its worker sees it."""
    messages, more = page(inbox, tx.now_us, tx.state.messages_per_claim)
    return ClaimedTurn(
        row.id,
        row.execution,
        row.name,
        row.epoch,
        row.version,
        row.history_length,
        row.attempt,
        row.status,
        messages,
        more,
        start if row.awaits_start else None,
        tx.state.details.get((row.id, "snapshot")) if row.is_entity else None,
        control_only=not (admitted and runnable(row, tx.now_us)),
    )


def _granted_turn(tx: Transaction, row: InstanceRow, selectors: Selectors) -> ClaimedTurn:
    return claimed_turn(tx, row, tx.inbox(row), tx.state.details.get((row.id, "start")), admitted=admits(selectors, row))


def _lease_task(tx: Transaction, row: TaskRow, worker: str) -> ClaimedTask:
    row = replace(row, worker=worker, attempt=row.attempt + 1)
    tx.effects.append(PutTask(row))
    return _claimed_task(row)


def _claimed_task(row: TaskRow) -> ClaimedTask:
    return ClaimedTask(row.id, row.instance, row.execution, row.name, row.payload, row.attempt)


def _repeated(tx: Transaction, worker: WorkerRow, selectors: Selectors) -> Claim:
    rows = [row for row in map(tx.instance, worker.turns) if row is not None and row.claimed and row.holder == worker.id]
    tasks = [row for row in map(tx.state.tasks.get, worker.tasks) if row is not None and row.worker == worker.id and not row.cancelled]
    return Claim(tuple(_granted_turn(tx, row, selectors) for row in rows), tuple(map(_claimed_task, tasks)), tx.now_us)


def beat(state: State, command: Beat, now_us: int) -> tuple[Heartbeat, list[Effect]]:
    """Keep an incarnation alive (see the module), give up those whose time is over, forget what need not be remembered, tell of cancelled
    tasks once."""
    tx = Transaction(state, now_us)
    worker = state.workers.get(command.worker)
    if worker is None and tx.remembers(tombstone(command.worker)):
        return Heartbeat(tx.now_us, alive=False), []
    for other in state.workers.values():
        if other.until_us <= tx.now_us and other.id != command.worker:
            _give_up(tx, other.id)
    last = worker or WorkerRow(command.worker, 0)
    tx.effects.append(PutWorker(replace(last, until_us=tx.now_us + command.ttl_us)))
    cancelled = tuple(row.id for row in state.tasks.values() if row.cancelled and row.worker == command.worker)
    tx.effects += map(DropTask, cancelled)
    tx.effects.append(Forget(tx.now_us))
    return Heartbeat(tx.now_us, alive=True, cancelled=cancelled), tx.close()


def abandon(state: State, command: AbandonWorker, now_us: int) -> Decision:
    """Give an incarnation up at once; ``GONE`` if it never registered."""
    tx = Transaction(state, now_us)
    if command.worker in state.workers:
        _give_up(tx, command.worker)
        return tx.done(ANSWER[OutcomeStatus.OK])
    repeated = tx.remembers(tombstone(command.worker))
    return tx.done(ANSWER[OutcomeStatus.ALREADY_APPLIED if repeated else OutcomeStatus.GONE])


def _give_up(tx: Transaction, worker: str) -> None:
    tx.effects.append(DropWorker(worker))
    tx.remember(tombstone(worker))
