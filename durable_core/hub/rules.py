"""``decide``: which rule answers which command, and the rules that are short.

A rule reads and writes through a ``Transaction`` and returns the answer, or just the status of an ``Outcome``. What it raises rejects the
command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from msgspec.structs import replace

from durable_core import backend
from durable_core.backend import ENDED, ENTITY_PREFIX, Outcome, OutcomeStatus
from durable_core.errors import DurableError, UsageError
from durable_core.hub.commit import commit
from durable_core.hub.effects import Advance, DropTask, Effect, PutTask
from durable_core.hub.leases import Beat, Grant, abandon, beat, claimed_turn, grant, lease
from durable_core.hub.rows import State
from durable_core.hub.transaction import Transaction


def create(tx: Transaction, command: backend.CreateInstance) -> Outcome | OutcomeStatus:
    """A client's create.

    A repeated one is recognised by its ``request_id`` (remembered when it was carried out or bounced), or by its execution id while that
    is there. If its turn is still out with ``worker``, it is handed over again: the first reply may have been lost.
    """
    if command.instance.startswith(ENTITY_PREFIX):
        raise UsageError(f"{command.instance!r} cannot be created: ids that start with {ENTITY_PREFIX!r} are entities")
    row = tx.instance(command.instance)
    if row is not None and row.execution == command.execution:
        out = row.claimed and row.holder == command.worker
        return Outcome(OutcomeStatus.ALREADY_APPLIED, turn=claimed_turn(tx, row, tx.inbox(row), command.start) if out else None)
    if command.request_id and tx.remembers(command.request_id):
        return OutcomeStatus.ALREADY_APPLIED
    row = tx.create(command)
    if command.request_id and tx.effects:
        tx.remember(command.request_id)
    if row is None:
        return OutcomeStatus.EXISTS
    if command.worker is None or command.worker not in tx.state.workers or command.delay_us:
        return OutcomeStatus.OK
    # Its inbox is empty: what lies in the state's was sent to an instance that it replaced.
    return Outcome(OutcomeStatus.OK, turn=claimed_turn(tx, lease(tx, row, command.worker), (), command.start))


def send(tx: Transaction, command: backend.SendMessage) -> OutcomeStatus:
    """A client's message: ``Transaction.send``, once per message id within the dedup window, whatever became of the message or its
    target."""
    if tx.remembers(command.message.id):
        return OutcomeStatus.ALREADY_APPLIED
    status = tx.send(command.message)
    if status is OutcomeStatus.OK:
        tx.remember(command.message.id)
    return status


def complete(tx: Transaction, command: backend.CompleteTask) -> OutcomeStatus:
    """The first completion counts, whoever it comes from. It deletes the task; its message reaches only the execution that scheduled the
    task."""
    task = tx.state.tasks.get(command.task)
    if task is None:
        return OutcomeStatus.GONE
    tx.effects.append(DropTask(task.id))
    if task.cancelled:
        return OutcomeStatus.GONE
    target = tx.instance(command.message.target)
    if target is not None and target.execution == task.execution:
        tx.send(command.message)
    return OutcomeStatus.OK


def release_task(tx: Transaction, command: backend.ReleaseTask) -> OutcomeStatus:
    """Free a task under the very lease that is named; a repeated one finds it free, or under a later lease. Of a cancelled one nobody else
    need be told."""
    task = tx.state.tasks.get(command.task)
    if task is None:
        return OutcomeStatus.GONE
    if task.worker is None:
        return OutcomeStatus.ALREADY_APPLIED
    if task.worker != command.worker or task.attempt != command.delivery:
        return OutcomeStatus.FENCED
    if task.cancelled:
        tx.effects.append(DropTask(task.id))
        return OutcomeStatus.GONE
    tx.effects.append(PutTask(replace(task, worker=None, attempt=task.attempt - command.uncount)))
    return OutcomeStatus.OK


def release(tx: Transaction, command: backend.Release) -> OutcomeStatus:
    """Free an instance under its current epoch; a repeated release finds it free (``ALREADY_APPLIED``).

    A back-off never shortens a delay that was set before. ``problem=None`` leaves an earlier problem shown. What a control message
    overrides (parking, back-off) it overrides at once, so a worker consumes the control messages it was handed before it releases.
    """
    row = tx.instance(command.instance)
    if row is None:
        return OutcomeStatus.GONE
    if row.execution != command.execution or row.epoch != command.epoch:
        return OutcomeStatus.FENCED
    if row.holder is None:
        return OutcomeStatus.ALREADY_APPLIED
    free = {"holder": None, "claimed": False, "hold_until_us": 0}
    after = replace(
        row,
        **free,
        not_before_us=max(row.not_before_us, tx.now_us + command.delay_us) if command.delay_us > 0 else row.not_before_us,
        parked=row.parked or command.park,
        problem=row.problem if command.problem is None else command.problem,
        attempt=max(0, row.attempt - 1) if command.uncount else row.attempt,
        updated_us=tx.now_us if command.problem is not None or command.park else row.updated_us,
    )
    tx.put(after)
    return OutcomeStatus.OK


def purge(tx: Transaction, command: backend.Purge) -> OutcomeStatus:
    """Remove an instance with all its tasks. What is remembered against repeated submissions (``seen``) stays."""
    row = tx.instance(command.instance)
    if row is None:
        return OutcomeStatus.GONE
    if command.idle_version is not None:
        if row.version != command.idle_version or tx.inbox(row):
            return OutcomeStatus.FENCED
    elif row.status not in ENDED and not command.force:
        raise UsageError(f"{row.instance!r} is {row.status}: only ended instances are purged. Terminate it first, or purge it by force.")
    tx.remove(row)
    return OutcomeStatus.OK


_RULES: dict[type, Callable[[Transaction, Any], Any]] = {
    backend.CreateInstance: create,
    backend.SendMessage: send,
    backend.CommitTurn: commit,
    backend.CompleteTask: complete,
    backend.ReleaseTask: release_task,
    backend.Release: release,
    backend.Purge: purge,
    backend.AbandonWorker: abandon,
    Grant: grant,
    Beat: beat,
}


@overload
def decide(state: State, command: Grant, now_us: int) -> tuple[backend.Claim, list[Effect]]: ...
@overload
def decide(state: State, command: Beat, now_us: int) -> tuple[backend.Heartbeat, list[Effect]]: ...
@overload
def decide(state: State, command: backend.Command, now_us: int) -> tuple[Outcome, list[Effect]]: ...
def decide(state: State, command: backend.Command | Grant | Beat, now_us: int) -> tuple[Any, list[Effect]]:
    """What a command does to a hub: its answer, and effects to be absorbed in order. Nothing is changed by asking.

    The hub's clock is ``now_us`` or, if that is behind, the time of the last effects. A refused command has no effects at all. A batch
    is decided one command at a time, the effects of each absorbed before the next.
    """
    tx = Transaction(state, now_us)
    try:
        answer = _RULES[type(command)](tx, command)
    except DurableError as error:
        return Outcome(OutcomeStatus.REJECTED, error=error.with_traceback(None)), []
    if tx.effects:
        tx.effects.append(Advance(tx.epoch, tx.position, tx.now_us))
    return Outcome(answer) if isinstance(answer, OutcomeStatus) else answer, tx.effects
