"""The rules of every command but ``CommitTurn`` and ``AbandonWorker``."""

from __future__ import annotations

from msgspec.structs import replace

from durable_core.backend import (
    ENDED,
    ENTITY_PREFIX,
    CompleteTask,
    CreateInstance,
    InstanceStatus,
    Outcome,
    OutcomeStatus,
    Purge,
    Release,
    SendMessage,
)
from durable_core.errors import UsageError
from durable_core.hub.effects import DropTask, PutDetail
from durable_core.hub.leases import claimed_turn
from durable_core.hub.messages import encode_messages
from durable_core.hub.rows import InstanceRow, State
from durable_core.hub.transaction import ANSWER, Decision, Transaction, rejected


def create(state: State, command: CreateInstance, now_us: int) -> Decision:
    """A client's create.

    A repeated one is recognised by its ``request_id`` (remembered when it was carried out or bounced), or by its execution id while that
    is there. If its turn is still out with ``worker``, it is handed over again: the first reply may have been lost.
    """
    tx = Transaction(state, now_us)
    if command.instance.startswith(ENTITY_PREFIX):
        return tx.done(rejected(UsageError(f"{command.instance!r} cannot be created: ids that start with {ENTITY_PREFIX!r} are entities")))
    row = tx.instance(command.instance)
    if row is not None and row.execution == command.execution:
        out = row.claimed and row.holder == command.worker
        return tx.done(Outcome(OutcomeStatus.ALREADY_APPLIED, turn=claimed_turn(tx, row, tx.inbox(row), command.start) if out else None))
    if command.request_id and tx.remembers(command.request_id):
        return tx.done(ANSWER[OutcomeStatus.ALREADY_APPLIED])
    row = start_instance(tx, command, command.worker)
    if command.request_id and tx.effects:
        tx.remember(command.request_id)
    if row is None:
        return tx.done(ANSWER[OutcomeStatus.EXISTS])
    # Its inbox is empty: what lies in the state's was sent to an instance that it replaced.
    return tx.done(Outcome(OutcomeStatus.OK, turn=claimed_turn(tx, row, (), command.start)) if row.claimed else ANSWER[OutcomeStatus.OK])


def start_instance(tx: Transaction, command: CreateInstance, worker: str | None = None) -> InstanceRow | None:
    """Create the instance, in place of one that may be replaced; None, and the bounce sent, if the id is taken otherwise.

    Replacing deletes the tasks of the execution that is replaced, unless its own ending kept them. ``worker`` claims the new instance if
    it is registered and nothing delays the start.
    """
    taken = tx.instance(command.instance)
    if taken is not None:
        if not _is_replaceable(taken, command):
            bounce(tx, command)
            return None
        tx.remove(taken, ended_keeps_tasks=True)
    claimed = worker is not None and worker in tx.state.workers and command.delay_us == 0
    row = InstanceRow(
        command.instance,
        command.execution,
        command.name,
        InstanceStatus.PENDING,
        created_us=tx.now_us,
        updated_us=tx.now_us,
        parent=command.parent,
        epoch=tx.next_epoch() if claimed else 0,
        holder=worker if claimed else None,
        claimed=claimed,
        not_before_us=tx.now_us + command.delay_us if command.delay_us > 0 else 0,
        attempt=1 if claimed else 0,
    )
    tx.put(row)
    tx.effects.append(PutDetail(row.id, "start", command.start))
    if command.obituaries:
        tx.effects.append(PutDetail(row.id, "obituaries", encode_messages(command.obituaries)))
    return row


def bounce(tx: Transaction, command: CreateInstance) -> None:
    if command.bounce is not None:
        tx.send(command.bounce)


def _is_replaceable(taken: InstanceRow, command: CreateInstance) -> bool:
    """A child replaces an ended child of the same parent instance and nothing else; ``reuse`` decides for what has no parent."""
    ended = taken.status in ENDED
    if command.parent is not None:
        return ended and taken.parent is not None and taken.parent.instance == command.parent.instance
    return command.reuse == "terminate_and_replace" or (command.reuse == "replace_ended" and ended)


def send(state: State, command: SendMessage, now_us: int) -> Decision:
    """A client's message: ``Transaction.send``, once per message id within the dedup window, whatever became of the message or its
    target."""
    tx = Transaction(state, now_us)
    if tx.remembers(command.message.id):
        return tx.done(ANSWER[OutcomeStatus.ALREADY_APPLIED])
    status = tx.send(command.message)
    if status is OutcomeStatus.OK:
        tx.remember(command.message.id)
    return tx.done(ANSWER[status])


def complete(state: State, command: CompleteTask, now_us: int) -> Decision:
    """The first completion counts, whoever it comes from. It deletes the task; its message reaches only the execution that scheduled the
    task."""
    tx = Transaction(state, now_us)
    task = state.tasks.get(command.task)
    if task is None:
        return tx.done(ANSWER[OutcomeStatus.GONE])
    tx.effects.append(DropTask(task.id))
    if task.cancelled:
        return tx.done(ANSWER[OutcomeStatus.GONE])
    target = tx.instance(command.message.target)
    if target is not None and target.execution == task.execution:
        tx.send(command.message)
    return tx.done(ANSWER[OutcomeStatus.OK])


def release(state: State, command: Release, now_us: int) -> Decision:
    """Free an instance under its current epoch; a repeated release finds it free (``ALREADY_APPLIED``).

    A back-off never shortens a delay that was set before. ``problem=None`` leaves an earlier problem shown. What a control message
    overrides (parking, back-off) it overrides at once, so a worker consumes the control messages it was handed before it releases.
    """
    tx = Transaction(state, now_us)
    row = tx.instance(command.instance)
    if row is None:
        return tx.done(ANSWER[OutcomeStatus.GONE])
    if row.execution != command.execution or row.epoch != command.epoch:
        return tx.done(ANSWER[OutcomeStatus.FENCED])
    if row.holder is None:
        return tx.done(ANSWER[OutcomeStatus.ALREADY_APPLIED])
    shown = command.problem is not None or command.park
    tx.put(
        replace(
            row,
            holder=None,
            claimed=False,
            hold_until_us=0,
            not_before_us=max(row.not_before_us, tx.now_us + command.delay_us) if command.delay_us > 0 else row.not_before_us,
            parked=row.parked or command.park,
            problem=row.problem if command.problem is None else command.problem,
            attempt=max(0, row.attempt - 1) if command.uncount else row.attempt,
            updated_us=tx.now_us if shown else row.updated_us,
        )
    )
    return tx.done(ANSWER[OutcomeStatus.OK])


def purge(state: State, command: Purge, now_us: int) -> Decision:
    """Remove an instance with all its tasks. What is remembered against repeated submissions (``seen``) stays."""
    tx = Transaction(state, now_us)
    row = tx.instance(command.instance)
    if row is None:
        return tx.done(ANSWER[OutcomeStatus.GONE])
    if row.status not in ENDED and not command.force:
        text = f"{row.id!r} is {row.status}: only ended instances are purged. Terminate it first, or purge it by force."
        return tx.done(rejected(UsageError(text)))
    tx.remove(row)
    return tx.done(ANSWER[OutcomeStatus.OK])
