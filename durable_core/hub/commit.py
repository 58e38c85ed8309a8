"""The rules of ``CommitTurn``."""

from __future__ import annotations

from msgspec.structs import replace

from durable_core.backend import ENDED, CommitTurn, InstanceStatus, Message, Outcome, OutcomeStatus
from durable_core.errors import UsageError
from durable_core.hub.commands import bounce, start_instance
from durable_core.hub.effects import AppendHistory, DropHistory, DropInbox, DropMessage, DropTask, DropTasks, PutDetail, PutTask
from durable_core.hub.eligibility import due_since, page
from durable_core.hub.messages import encode_messages
from durable_core.hub.rows import InstanceRow, State, TaskRow
from durable_core.hub.transaction import ANSWER, Decision, Transaction, rejected


def commit(state: State, command: CommitTurn, now_us: int) -> Decision:
    """Check, then write in this order: settles, consumed messages, tasks, history, what ends, details, children, messages, timers, and
    last the row.

    The checks: the instance exists (``GONE``); the commit is not its last one (``ALREADY_APPLIED``); it has not ended and the fence is
    current (``FENCED``); the command makes sense (``REJECTED``); what is settled is there (``FENCED``). Up to here nothing is written.
    """
    tx = Transaction(state, now_us)
    row = state.instances.get(command.instance)
    if row is None:
        return tx.done(ANSWER[OutcomeStatus.GONE])
    if row.last_commit == command.commit_id:
        return tx.done(_repeated(tx, row, command.worker))
    current = row.execution == command.execution and row.epoch == command.epoch and row.version == command.version
    if not current or row.status in ENDED:
        return tx.done(ANSWER[OutcomeStatus.FENCED])
    error = _nonsense(command)
    if error is not None:
        return tx.done(rejected(UsageError(f"a turn of {row.id!r} cannot be committed: {error}")))
    if not _settle(tx, command):
        return ANSWER[OutcomeStatus.FENCED], []

    ended = command.record is not None and command.record.status in ENDED
    _consume(tx, command)
    _change_tasks(tx, command)
    if command.append is not None and command.next_execution is None:
        tx.effects.append(AppendHistory(row.id, row.execution, row.history_length, command.append_count, command.append))
    if ended or command.next_execution is not None:
        _end_execution(tx, command, ended)
    _put_details(tx, command)
    after = _row_after(tx, row, command, ended)
    tx.rows[row.id] = after
    for child in command.creates:
        # Its own id is taken by itself, even if this very commit ends it.
        if child.instance == row.id:
            bounce(tx, child)
        else:
            start_instance(tx, child)
    for message in command.messages:
        tx.send(message)
    cancelled = set(command.cancel_timers)
    for timer in command.timers:
        if timer.id not in cancelled:
            tx.send(timer)
    return tx.done(_leave(tx, after, command.worker))


def _repeated(tx: Transaction, row: InstanceRow, worker: str) -> Outcome:
    """The first reply may have been lost, and with it the messages that a worker which counts as claiming the instance was to work on."""
    if not (row.claimed and row.holder == worker):
        return ANSWER[OutcomeStatus.ALREADY_APPLIED]
    messages, more = page(tx.inbox(row), tx.now_us, tx.state.messages_per_claim)
    return Outcome(OutcomeStatus.ALREADY_APPLIED, messages, more)


def _nonsense(command: CommitTurn) -> str | None:
    if (command.append is None) != (command.append_count == 0):
        return f"append_count is {command.append_count}, and append {'missing' if command.append is None else 'given'}"
    if command.next_execution is not None and command.record is not None and command.record.status in ENDED:
        return "it both ends the instance and continues it as new"
    if any(timer.target != command.instance for timer in command.timers):
        return "a timer is for another instance"
    return None


def _settle(tx: Transaction, command: CommitTurn) -> bool:
    """Delete each settled task, whoever leases it, or else its undelivered completion; False if there is neither. A cancelled task is
    none."""
    inbox = tx.state.inbox.get(command.instance, {})
    settled: set[str] = set()
    for id in command.settles:
        task = tx.state.tasks.get(id)
        if id in settled:
            return False
        if task is not None and not task.cancelled and task.execution == command.execution:
            tx.effects.append(DropTask(id))
        elif id in inbox:
            tx.effects.append(DropMessage(command.instance, id))
            tx.dropped.add(id)
        else:
            return False
        settled.add(id)
    return True


def _consume(tx: Transaction, command: CommitTurn) -> None:
    """Delete from its inbox what it consumed, and the timers that it cancelled: a message that is not there is nobody's loss."""
    gone = (*command.consumes, *command.cancel_timers)
    tx.effects += [DropMessage(command.instance, id) for id in gone]
    tx.dropped.update(gone)


def _change_tasks(tx: Transaction, command: CommitTurn) -> None:
    """Create and cancel tasks.

    Cancelling deletes the task, or the undelivered completion if it has ended; a task that another worker runs is only marked: that
    worker's next heartbeat tells it and deletes the task, as does the completion, which is then ``GONE``. Creating and cancelling, or
    settling and cancelling, leaves nothing.
    """
    cancelled = set(command.cancel_tasks)
    nothing_left = {*command.settles, *(new.id for new in command.tasks)}
    registered = command.worker in tx.state.workers
    for new in command.tasks:
        if new.id not in cancelled:
            worker = command.worker if new.claim and registered else None
            place = tx.next_position(), tx.now_us
            row = TaskRow(new.id, command.instance, command.execution, new.name, new.payload, *place, worker, 0 if worker is None else 1)
            tx.effects.append(PutTask(row))
    for id in dict.fromkeys(command.cancel_tasks):
        if id in nothing_left:
            continue
        task = tx.state.tasks.get(id)
        if task is None:
            tx.effects.append(DropMessage(command.instance, id))
            tx.dropped.add(id)
        elif task.worker in (None, command.worker):
            tx.effects.append(DropTask(id))
        else:
            tx.effects.append(PutTask(replace(task, cancelled=True)))


def _end_execution(tx: Transaction, command: CommitTurn, ended: bool) -> None:
    """Delete what belongs to the execution: its tasks (unless ``keep_tasks``), and its messages, timers among them.

    An end drops the whole inbox and keeps the history. Continue-as-new keeps the messages that are not scoped to the old execution, and
    drops its history.
    """
    if not command.keep_tasks:
        tx.effects.append(DropTasks(command.instance, command.execution))
    if ended:
        tx.effects.append(DropInbox(command.instance, None))
    else:
        tx.effects += (DropInbox(command.instance, command.execution), DropHistory(command.instance, command.execution))


def _put_details(tx: Transaction, command: CommitTurn) -> None:
    id, record = command.instance, command.record
    if record is not None:
        changed = (
            PutDetail(id, "custom_status", record.custom_status),
            PutDetail(id, "output", record.output),
            PutDetail(id, "failure", record.failure),
        )
        tx.effects += (detail for detail in changed if detail.data is not None)
    if command.snapshot is not None:
        tx.effects.append(PutDetail(id, "snapshot", command.snapshot or None))
    if command.obituaries is not None:
        tx.effects.append(PutDetail(id, "obituaries", encode_messages(command.obituaries) if command.obituaries else None))
    if command.next_execution is not None:
        tx.effects.append(PutDetail(id, "start", command.next_execution.start))


def _row_after(tx: Transaction, row: InstanceRow, command: CommitTurn, ended: bool) -> InstanceRow:
    """The row of an accepted turn, held for ``hold_us`` if the worker is still registered. (Written out: ``replace`` takes three times as
    long.)

    The version grows; attempt, problem and parking are reset. The first appended event makes a PENDING instance RUNNING. A delay or
    back-off is over, unless the delayed ``start`` is still to come (a control message may be served before it).
    """
    following = command.next_execution
    length = 0 if following is not None else row.history_length + command.append_count
    status = command.record.status if command.record is not None else None
    if status is None:
        status = row.status if following is None and (length == 0 or row.status is not InstanceStatus.PENDING) else InstanceStatus.RUNNING
    held = command.hold_us > 0 and not ended and command.worker in tx.state.workers
    return InstanceRow(
        row.id,
        row.execution if following is None else following.execution,
        row.name,
        status,
        row.created_us,
        tx.now_us,
        row.parent,
        row.epoch,
        row.version + 1,
        length,
        command.worker if held else None,
        False,
        tx.now_us + command.hold_us if held else 0,
        row.not_before_us if length == 0 and following is None and not row.is_entity else 0,
        0,
        False,
        command.problem,
        command.commit_id,
    )


def _leave(tx: Transaction, row: InstanceRow, worker: str) -> Outcome:
    """Put the row, and go on if there is more to do: the instance is then claimed again under the same fence, however short ``hold_us``
    is.

    More to do is what would make it claimable: a due message, a ``start`` still to come (that of a next execution is known to the
    worker), or for a suspended one a due control message. An incarnation that was given up claims nothing more: nobody would free it.
    """
    messages: tuple[Message, ...] = ()
    more = False
    if worker in tx.state.workers and row.status not in ENDED:
        inbox = tx.inbox(row)
        if (inbox or row.awaits_start) and due_since(row, inbox, tx.now_us) is not None:
            messages, more = page(inbox, tx.now_us, tx.state.messages_per_claim)
            row = replace(row, holder=worker, claimed=True, hold_until_us=0)
    tx.put(row)
    return Outcome(OutcomeStatus.OK, messages, more) if messages else ANSWER[OutcomeStatus.OK]
