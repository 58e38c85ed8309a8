"""The rules of ``CommitTurn``."""

from __future__ import annotations

from msgspec.structs import replace

from durable_core.backend import ENDED, CommitTurn, HistoryRow, InstanceStatus, Outcome, OutcomeStatus, RecordUpdate
from durable_core.errors import UsageError
from durable_core.hub import effects as fx
from durable_core.hub.eligibility import due_since, page
from durable_core.hub.rows import InstanceRow, TaskRow, encode_messages
from durable_core.hub.transaction import Transaction


def commit(tx: Transaction, command: CommitTurn) -> Outcome | OutcomeStatus:
    """Check, then write in this order: settles, consumed messages, tasks, history, what ends, details, children, messages, timers, and
    last the row.

    The checks: the instance exists (``GONE``); the commit is not its last one (``ALREADY_APPLIED``); it has not ended and the fence is
    current (``FENCED``); the command makes sense (``REJECTED``); what is settled is there (``FENCED``). Up to here nothing is written.
    """
    row = tx.state.instances.get(command.instance)
    if row is None:
        return OutcomeStatus.GONE
    if row.last_commit == command.commit_id:
        return _answer(tx, row, command.worker, OutcomeStatus.ALREADY_APPLIED)
    current = row.execution == command.execution and row.epoch == command.epoch and row.version == command.version
    if not current or row.status in ENDED:
        return OutcomeStatus.FENCED
    ends = command.record is not None and command.record.status in ENDED
    _check_sense(command, row, ends)
    if not _settle(tx, command):
        tx.effects.clear()
        return OutcomeStatus.FENCED

    # A message that is not there is nobody's loss.
    for id in (*command.consumes, *command.cancel_timers):
        tx.drop_message(command.instance, id)
    _change_tasks(tx, command)
    if command.append is not None and command.next_execution is None:
        events = HistoryRow(row.history_length, command.append_count, command.append)
        tx.write(fx.AppendHistory(command.instance, events), command.append)
    if ends or command.next_execution is not None:
        _end_execution(tx, command, ends)
    _put_details(tx, command)
    after = _row_after(tx, row, command, ends) if not command.control_only else _row_after_control(tx, row, command)
    tx.rows[command.instance] = after
    for child in command.creates:
        # Its own id is taken by itself, even if this very commit ends it.
        tx.create(child, may_replace=child.instance != command.instance)
    for message in command.messages:
        # Whoever gives up a call does not know whether the id was taken, and by whom.
        target = tx.instance(message.target) if message.control else None
        if target is None or (target.parent is not None and target.parent.instance == command.instance):
            tx.send(message)
    cancelled = set(command.cancel_timers)
    for timer in command.timers:
        if timer.id not in cancelled:
            tx.send(timer)
    if command.control_only:
        tx.put(after)
        return OutcomeStatus.OK
    return _leave(tx, after, command.worker)


def _check_sense(command: CommitTurn, row: InstanceRow, ends: bool) -> None:
    error = None
    if (command.append is None) != (command.append_count == 0):
        error = f"append_count is {command.append_count}, and append {'missing' if command.append is None else 'given'}"
    elif command.next_execution is not None and ends:
        error = "it both ends the instance and continues it as new"
    elif any(timer.target != command.instance for timer in command.timers):
        error = "a timer is for another instance"
    elif command.control_only and (ends or command.next_execution is not None):
        error = "it ends an execution, and is to leave the instance as it is (control_only)"
    elif command.control_only and command.append is not None and row.awaits_start:
        error = "its history begins with the start, which control messages alone (control_only) cannot bring"
    if error is not None:
        raise UsageError(f"a turn of {command.instance!r} cannot be committed: {error}")


def _settle(tx: Transaction, command: CommitTurn) -> bool:
    """Delete each settled task, whoever leases it, or else its undelivered completion; False if there is neither. A cancelled task is
    none, and neither is one settled twice."""
    inbox = tx.state.inbox.get(command.instance, {})
    for id in command.settles:
        task = tx.state.tasks.get(id)
        if task is not None and not task.cancelled and task.execution == command.execution:
            tx.effects.append(fx.DropTask(id))
        elif id in inbox:
            tx.drop_message(command.instance, id)
        else:
            return False
    return len(set(command.settles)) == len(command.settles)


def _change_tasks(tx: Transaction, command: CommitTurn) -> None:
    """Create and cancel tasks.

    Cancelling deletes the task, or the undelivered completion if it has ended; a task that another worker runs is only marked: that
    worker's next heartbeat tells it and deletes the task, as does the completion, which is then ``GONE``. Creating and cancelling, or
    settling and cancelling, leaves nothing.
    """
    cancelled = dict.fromkeys(command.cancel_tasks)
    nothing_left = {*command.settles, *(new.id for new in command.tasks)}
    registered = command.worker in tx.state.workers
    for new in command.tasks:
        if new.id not in cancelled:
            attempt, worker = (1, command.worker) if new.claim and registered else (0, None)
            task = new.id, command.instance, command.execution, new.name, new.payload, attempt
            tx.position += 1
            tx.write(fx.PutTask(TaskRow(*task, tx.position, tx.now_us, worker)), new.payload)
    for id in (id for id in cancelled if id not in nothing_left):
        row = tx.state.tasks.get(id)
        if row is None:
            tx.drop_message(command.instance, id)
        elif row.worker in (None, command.worker):
            tx.effects.append(fx.DropTask(id))
        else:
            tx.effects.append(fx.PutTask(replace(row, cancelled=True)))


def _end_execution(tx: Transaction, command: CommitTurn, ends: bool) -> None:
    """Delete what belongs to the execution: its tasks (unless ``keep_tasks``), and its messages, timers among them.

    An end drops the whole inbox and keeps the history. Continue-as-new keeps the messages that are not scoped to the old execution, and
    drops its history.
    """
    if not command.keep_tasks:
        tx.effects.append(fx.DropTasks(command.instance, command.execution))
    tx.effects.append(fx.DropInbox(command.instance, None if ends else command.execution))
    if command.next_execution is not None:
        tx.effects.append(fx.DropHistory(command.instance))
        tx.put_detail(command.instance, "start", command.next_execution.start)


def _put_details(tx: Transaction, command: CommitTurn) -> None:
    id, record = command.instance, command.record or RecordUpdate()
    tx.put_detail(id, "custom_status", record.custom_status)
    tx.put_detail(id, "output", record.output)
    tx.put_detail(id, "failure", record.failure)
    tx.put_detail(id, "obituaries", None if command.obituaries is None else encode_messages(command.obituaries))
    if command.snapshot is not None:
        tx.write(fx.PutDetail(id, "snapshot", command.snapshot or None), command.snapshot)


def _row_after(tx: Transaction, row: InstanceRow, command: CommitTurn, ends: bool) -> InstanceRow:
    """The row of an accepted turn, held for ``hold_us`` if the worker is still registered.

    The version grows; attempt, problem and parking are reset. The first appended event makes a PENDING instance RUNNING. A delay or
    back-off is over, unless the delayed ``start`` is still to come (a control message may be served before it).
    """
    following = command.next_execution
    length = 0 if following is not None else row.history_length + command.append_count
    status = command.record.status if command.record is not None else None
    if status is None:
        status = row.status if following is None and (length == 0 or row.status is not InstanceStatus.PENDING) else InstanceStatus.RUNNING
    held = command.hold_us > 0 and not ends and command.worker in tx.state.workers
    return replace(
        row,
        execution=row.execution if following is None else following.execution,
        status=status,
        updated_us=tx.now_us,
        version=row.version + 1,
        history_length=length,
        attempt=0,
        parked=False,
        problem=command.problem,
        holder=command.worker if held else None,
        claimed=False,
        hold_until_us=tx.now_us + command.hold_us if held else 0,
        not_before_us=row.not_before_us if length == 0 and following is None and not row.is_entity else 0,
        last_commit=command.commit_id,
    )


def _row_after_control(tx: Transaction, row: InstanceRow, command: CommitTurn) -> InstanceRow:
    """The row of an accepted ``control_only`` turn: whatever keeps the instance from being run stays as it is."""
    held = command.hold_us > 0 and command.worker in tx.state.workers
    status = command.record.status if command.record is not None else None
    return replace(
        row,
        status=row.status if status is None else status,
        updated_us=tx.now_us,
        version=row.version + 1,
        history_length=row.history_length + command.append_count,
        attempt=row.attempt if held else max(0, row.attempt - 1),
        holder=command.worker if held else None,
        claimed=False,
        hold_until_us=tx.now_us + command.hold_us if held else 0,
        last_commit=command.commit_id,
    )


def _leave(tx: Transaction, row: InstanceRow, worker: str) -> Outcome:
    """Put the row, and go on if there is more to do: the instance is then claimed again under the same fence, however short ``hold_us``
    is.

    More to do is what would make it claimable: a due message, a ``start`` still to come (that of a next execution is known to the
    worker), or for a suspended one a due control message. An incarnation that was given up claims nothing more: nobody would free it.
    """
    if worker in tx.state.workers and due_since(row, tx.inbox(row), tx.now_us) is not None:
        row = replace(row, holder=worker, claimed=True, hold_until_us=0)
    tx.put(row)
    return _answer(tx, row, worker, OutcomeStatus.OK)


def _answer(tx: Transaction, row: InstanceRow, worker: str, status: OutcomeStatus) -> Outcome:
    """With the messages that a worker which claims the instance is to work on (again: the first reply may have been lost)."""
    claimed = row.claimed and row.holder == worker
    return Outcome(status, *page(tx.inbox(row), tx.now_us, tx.state.limits.messages_per_claim)) if claimed else Outcome(status)
