"""Leases: registering incarnations, granting turns and tasks to them, and giving the dead ones up.

A worker *incarnation* registers with its first ``Beat`` and lives while it beats. One whose time is over is given up by a beat of
somebody else (its own late beat still saves it), or at once by ``AbandonWorker``: its leases are freed, epochs staying as they are, so
that what it still commits is accepted until somebody claims the instance. Its id is remembered as dead for the dedup window: a beat says
``alive=False`` and registers nothing. (After the window a sleeper would register anew: it owns nothing then, and its fences are as stale
as before.)

Time in which nobody could reach the store counts against nobody. Whoever beats judges by itself (``_judge``): if its own time is over
too, everybody gets a new lease; otherwise it gives up only those whose time had been over already when it beat last, since between two
of its beats there may have been an outage that was shorter than a lease.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from durable_core.backend import AbandonWorker, Claim, ClaimedTask, ClaimedTurn, Heartbeat, OutcomeStatus, Selectors
from durable_core.hub import effects as fx
from durable_core.hub.eligibility import (
    admits,
    claimable_since,
    is_free,
    is_own,
    is_suspect,
    is_suspect_task,
    page,
    runnable,
    without_suspects,
)
from durable_core.hub.rows import InstanceRow, MessageRow, TaskRow, WorkerRow, facts_of
from durable_core.hub.transaction import Transaction


class Grant(Struct, frozen=True, gc=False):
    """Lease these instances and tasks, which the store chose among the eligible ones, to a worker. Those that are not eligible are passed
    over."""

    worker: str
    claim_id: str
    selectors: Selectors
    turns: tuple[str, ...]
    tasks: tuple[str, ...]


class Beat(Struct, frozen=True, gc=False):
    """Register the worker, or keep it alive for ``ttl_us``; give up those whose time is over, outages of the store apart."""

    worker: str
    ttl_us: int


def tombstone(worker: str) -> str:
    """Under which id a dead incarnation is remembered."""
    return f"dead worker {worker}"


def grant(tx: Transaction, command: Grant) -> Claim:
    """Lease what is eligible, in the given order; an unknown worker gets nothing.

    A repeated ``claim_id`` leases nothing new: it returns those items of the worker's last claim that are still out with it. A suspect is
    leased only if it is first, and then alone; a suspect task that is first among the tasks goes before all turns. ``Claim.next_due_us`` is left to the store, who asks ``next_due`` or its own index.
    """
    state, selectors, worker = tx.state, command.selectors, tx.state.workers.get(command.worker)
    if worker is None:
        return Claim((), (), tx.now_us)
    if worker.claim_id == command.claim_id:
        rows = [row for row in map(tx.instance, worker.turns) if row is not None and row.claimed and row.holder == worker.id]
        tasks = [row for row in map(state.tasks.get, worker.tasks) if row is not None and row.worker == worker.id and not row.cancelled]
        return _claim(tx, rows, tasks, selectors)
    ids = [id for id in dict.fromkeys(command.turns) if claimable_since(state, id, worker.id, selectors, tx.now_us) is not None]
    plain = [id for id in ids if not is_suspect(state.instances[id], worker.id, tx.now_us)]
    free = [row for row in map(state.tasks.get, dict.fromkeys(command.tasks)) if row is not None and is_free(row, selectors)]
    if free and is_suspect_task(free[0]):
        ids = plain = []
    rows = [lease(tx, state.instances[id], worker.id) for id in (plain if plain[:1] == ids[:1] else ids[:1])]
    tasks = [structs.replace(row, worker=worker.id, attempt=row.attempt + 1) for row in without_suspects(free)]
    tx.effects += map(fx.PutTask, tasks)
    if rows or tasks:
        leased = tuple(row.instance for row in rows), tuple(task.id for task in tasks)
        tx.effects.append(fx.PutWorker(WorkerRow(worker.id, worker.until_us, command.claim_id, *leased)))
    return _claim(tx, rows, tasks, selectors)


def lease(tx: Transaction, row: InstanceRow, worker: str) -> InstanceRow:
    """Mark a turn of the instance as out with ``worker``, under a new epoch and attempt unless it is the holder's own."""
    if not is_own(row, worker, tx.now_us):
        tx.epoch += 1
        row = structs.replace(row, holder=worker, epoch=tx.epoch, attempt=row.attempt + 1)
    row = structs.replace(row, claimed=True, hold_until_us=0)
    tx.put(row)
    return row


def claimed_turn(tx: Transaction, row: InstanceRow, inbox: Iterable[MessageRow], start: bytes | None, admitted: bool = True) -> ClaimedTurn:
    """The lease on a claimed instance, as its worker sees it."""
    messages, more = page(inbox, tx.now_us, tx.state.limits.messages_per_claim)
    snapshot = tx.state.details.get((row.instance, "snapshot")) if row.is_entity else None
    control_only = not (admitted and runnable(row, tx.now_us))
    return ClaimedTurn(*facts_of(row), row.epoch, messages, more, start if row.awaits_start else None, snapshot, control_only)


def _claim(tx: Transaction, rows: Iterable[InstanceRow], tasks: Iterable[TaskRow], selectors: Selectors) -> Claim:
    starts = tx.state.details
    turns = [claimed_turn(tx, row, tx.inbox(row), starts.get((row.instance, "start")), admitted=admits(selectors, row)) for row in rows]
    leased = [ClaimedTask(row.id, row.instance, row.execution, row.name, row.payload, row.attempt) for row in tasks]
    return Claim(tuple(turns), tuple(leased), tx.now_us)


def beat(tx: Transaction, command: Beat) -> Heartbeat:
    """Keep an incarnation alive (see the module), give up those whose time is over, forget what need not be remembered, tell of cancelled
    tasks once."""
    state, worker = tx.state, tx.state.workers.get(command.worker)
    if worker is None and tx.remembers(tombstone(command.worker)):
        return Heartbeat(tx.now_us, alive=False)
    _judge(tx, command, worker)
    tx.effects.append(fx.PutWorker(structs.replace(worker or WorkerRow(command.worker, 0), until_us=tx.now_us + command.ttl_us)))
    cancelled = tuple(row.id for row in state.tasks.values() if row.cancelled and row.worker == command.worker)
    tx.effects += map(fx.DropTask, cancelled)
    tx.effects.append(fx.Forget(tx.now_us))
    return Heartbeat(tx.now_us, alive=True, cancelled=cancelled)


def _judge(tx: Transaction, command: Beat, own: WorkerRow | None) -> None:
    """Give up the others whose time is over, or after an outage of the store give everybody time to beat.

    A worker that registers has no earlier beat. It sees an outage where nobody has beaten within ``ttl_us``: but for the dead there is
    nobody then, and they cost it one lease more.
    """
    now_us, others = tx.now_us, [row for row in tx.state.workers.values() if row.id != command.worker]
    if own is not None:
        after_outage, over_us = own.until_us <= now_us, min(now_us, own.until_us - command.ttl_us)
    else:
        after_outage, over_us = not any(now_us < row.until_us <= now_us + command.ttl_us for row in others), now_us
    for row in others:
        if after_outage:
            if row.until_us < now_us + command.ttl_us:
                tx.effects.append(fx.PutWorker(structs.replace(row, until_us=now_us + command.ttl_us)))
        elif row.until_us <= over_us:
            _give_up(tx, row.id)


def abandon(tx: Transaction, command: AbandonWorker) -> OutcomeStatus:
    """Give an incarnation up at once; ``GONE`` if it never registered."""
    if command.worker in tx.state.workers:
        _give_up(tx, command.worker)
        return OutcomeStatus.OK
    return OutcomeStatus.ALREADY_APPLIED if tx.remembers(tombstone(command.worker)) else OutcomeStatus.GONE


def _give_up(tx: Transaction, worker: str) -> None:
    tx.effects.append(fx.DropWorker(worker))
    tx.remember(tombstone(worker))
