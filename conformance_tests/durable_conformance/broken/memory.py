"""The store in memory behind a thin layer of mistakes.

A layer changes commands before the store sees them, answers after it has, or the rows themselves (``self.state``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec.structs import replace

from durable_conformance.broken.edited import without_fence
from durable_conformance.broken.flaw import breaks
from durable_conformance.memory import MemoryHarness
from durable_conformance.properties import Property
from durable_core.backend import (
    AbandonWorker,
    Backend,
    Capabilities,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CreateInstance,
    Heartbeat,
    HistoryPage,
    HistoryRange,
    HistoryRow,
    InstanceFilter,
    InstanceStatus,
    Outcome,
    OutcomeStatus,
    Page,
    Purge,
    Release,
    ReleaseTask,
    Selectors,
    SendMessage,
    Wakeup,
)
from durable_core.errors import StoreUnavailableError, UsageError
from durable_core.hub import InstanceRow, State, TaskRow
from durable_core.testing.memory import MemoryBackend

__all__ = ["Twin", "TwinWithAClock", "Unreachable"]


class _Layer(MemoryBackend):
    """Does nothing to what passes through it."""

    kept: dict[str, TaskRow]
    number = 0

    @property
    def state(self) -> State:
        return self._store.state

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for command in commands:
            command = self.before(command)
            outcomes.append(self.after(command, (await super().apply([command]))[0]))
        return outcomes

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        return self.handed_out(await super().claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors))

    def before(self, command: Command) -> Command:
        return command

    def after(self, command: Command, outcome: Outcome) -> Outcome:
        return outcome

    def handed_out(self, claim: Claim) -> Claim:
        return claim

    def change(self, instance: str, **fields: Any) -> None:
        """A row that the rules did not write."""
        row = self.state.instances.get(instance)
        if row is not None:
            self.state.instances[instance] = replace(row, **fields)


class Twin(MemoryHarness):
    """The layer without a mistake: it passes."""

    kind = _Layer


class TwinWithAClock(MemoryHarness):
    """The twin of ``WorkerClock``: a clock that nobody else has."""

    features = frozenset({"many_handles", "server_clock"})

    def _new(self) -> MemoryBackend:
        return _Layer(self._name, clock_us=lambda: time.monotonic_ns() // 1_000)


class Unreachable(MemoryHarness):
    async def open(self) -> Backend:
        raise ConnectionRefusedError("nobody answers")


# ── 1: the fence ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Unfenced(_Layer):
    def before(self, command: Command) -> Command:
        found: Command = without_fence(self.state, command)
        return found


@breaks(Property.FENCE, "test_commit and fence")
class FenceIgnored(MemoryHarness):
    """Accepts every commit to an instance that is there."""

    kind = _Unfenced


class _EpochAlone(_Layer):
    def before(self, command: Command) -> Command:
        row = self.state.instances.get(command.instance) if isinstance(command, CommitTurn) else None
        if isinstance(command, CommitTurn) and row is not None and row.last_commit != command.commit_id and row.epoch == command.epoch:
            return replace(command, version=row.version)
        return command


@breaks(Property.FENCE, "test_commit and fence")
class VersionIgnored(MemoryHarness):
    """Compares the epoch and not the version: a slow turn's copy is accepted beside the one that took its place."""

    kind = _EpochAlone


class _HalfFenced(_Layer):
    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().apply(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(command, CommitTurn) and outcome.status is OutcomeStatus.FENCED:
                await super().apply([SendMessage(message) for message in command.messages])
        return outcomes


@breaks(Property.FENCE, "test_commit and fence")
class MessagesBeforeTheFence(MemoryHarness):
    """Sends a turn's messages before it looks whether the turn is accepted."""

    kind = _HalfFenced


# ── 2: history ───────────────────────────────────────────────────────────────────────────────────────────────────


class _LastRowOnly(_Layer):
    def after(self, command: Command, outcome: Outcome) -> Outcome:
        rows = self.state.history.get(command.instance, []) if isinstance(command, CommitTurn) else []
        if len(rows) > 2:
            del rows[1]
        return outcome


@breaks(Property.HISTORY, "test_commit and history")
class HoleInHistory(MemoryHarness):
    """Loses a row in the middle of a history."""

    kind = _LastRowOnly


class _Unsorted(_Layer):
    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        pages = await super().read_history(ranges)
        return [replace(page, rows=tuple(HistoryRow(row.first, row.count, last.payload) for row, last in _swapped(page))) for page in pages]


def _swapped(page: HistoryPage) -> list[tuple[HistoryRow, HistoryRow]]:
    return list(zip(page.rows, reversed(page.rows), strict=True))


@breaks(Property.HISTORY, "test_commit and accepted_turn")
class HistoryWithoutOrder(MemoryHarness):
    """Reads the payloads of a history in another order than they were written."""

    kind = _Unsorted


# ── 3: conservation ──────────────────────────────────────────────────────────────────────────────────────────────


class _Watermark(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn):
            inbox = self.state.inbox.get(command.instance, {})
            last = max((inbox[id].position for id in command.consumes if id in inbox), default=0)
            upto = tuple(id for id, row in inbox.items() if row.position <= last)
            return replace(command, consumes=(*command.consumes, *upto))
        return command


@breaks(Property.CONSERVATION, "watermark")
class Watermark(MemoryHarness):
    """Consumes everything up to the last message that a turn names."""

    kind = _Watermark


class _EventsDie(_Layer):
    """The row of a completion takes its neighbour with it."""

    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn) and command.settles:
            return replace(command, consumes=(*command.consumes, *self.state.inbox.get(command.instance, {})))
        return command


@breaks(Property.CONSERVATION, "test_messages or test_tasks")
class SettlingDropsTheInbox(MemoryHarness):
    """A settled completion takes live events with it."""

    kind = _EventsDie


class _TasksLive(_Layer):
    def before(self, command: Command) -> Command:
        return replace(command, keep_tasks=True) if isinstance(command, CommitTurn) else command


@breaks(Property.CONSERVATION, "test_commit")
class TasksOutliveTheEnd(MemoryHarness):
    """The activities of a terminated instance run again and again."""

    kind = _TasksLive


class _NoBounce(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn):
            return replace(command, creates=tuple(replace(child, bounce=None) for child in command.creates))
        return command


@breaks(Property.CONSERVATION, "test_create")
class NoBounce(MemoryHarness):
    """A child whose id is taken is dropped silently: its parent waits for ever."""

    kind = _NoBounce


# ── 4: leases ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Generous(_Layer):
    def handed_out(self, claim: Claim) -> Claim:
        for turn in claim.turns:
            self.change(turn.instance, claimed=False, holder=None)
        return claim


@breaks(Property.LEASE, "handed_to_nobody_else or handles_share")
class LeaseNotKept(MemoryHarness):
    """Hands out what is handed out already."""

    kind = _Generous


class _TaskForAll(_Layer):
    def handed_out(self, claim: Claim) -> Claim:
        for task in claim.tasks:
            self.state.tasks[task.id] = replace(self.state.tasks[task.id], worker=None)
        return claim


@breaks(Property.LEASE, "test_tasks")
class TaskLeaseNotKept(MemoryHarness):
    """Two workers run one activity at once."""

    kind = _TaskForAll


# ── 5: atomicity ─────────────────────────────────────────────────────────────────────────────────────────────────


class _InSteps(_Layer):
    """A commit in two transactions; the second one may be refused, or never come."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for command in commands:
            outcome = (await super().apply([command]))[0]
            if isinstance(command, CommitTurn) and outcome.status is OutcomeStatus.REJECTED:
                outcome = (await super().apply([replace(command, messages=(), timers=(), creates=(), tasks=())]))[0]
                outcome = replace(outcome, status=OutcomeStatus.REJECTED, error=StoreUnavailableError("the second half failed"))
            outcomes.append(outcome)
        return outcomes


@breaks(Property.ATOMICITY, "test_atomicity")
class HistoryWithoutTheRest(MemoryHarness):
    """Saves history and status first, then what the turn sends: what fails in between leaves half a turn."""

    kind = _InSteps


class _RecordBehind(_Layer):
    def after(self, command: Command, outcome: Outcome) -> Outcome:
        if isinstance(command, CommitTurn) and outcome.status is OutcomeStatus.OK:
            self.change(command.instance, history_length=0 if len(self.state.history.get(command.instance, [])) == 1 else 1)
        return outcome


@breaks(Property.ATOMICITY, "test_atomicity")
class StatusRowNotSaved(MemoryHarness):
    """Saves the history and not the row that says how long it is."""

    kind = _RecordBehind


class _RecordAfterwards(_Layer):
    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for command in commands:
            before = self.state.instances.get(command.instance) if isinstance(command, CommitTurn) else None
            outcomes += await super().apply([command])
            if before is not None and outcomes[-1].status is OutcomeStatus.OK:
                length = self.state.instances[before.instance].history_length
                self.change(before.instance, history_length=before.history_length)
                await asyncio.sleep(0)
                self.change(before.instance, history_length=length)
        return outcomes


@breaks(Property.ATOMICITY, "test_atomicity")
class RecordAfterwards(MemoryHarness):
    """Saves the row a moment after the history: who is cancelled or dies between them leaves them apart."""

    kind = _RecordAfterwards


# ── 6: batching ──────────────────────────────────────────────────────────────────────────────────────────────────


class _AllOrNone(_Layer):
    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number, command in enumerate(commands):
            outcomes += await super().apply([command])
            if outcomes[-1].status is OutcomeStatus.REJECTED:
                return outcomes + [replace(outcomes[-1]) for _ in commands[number + 1 :]]
        return outcomes


@breaks(Property.BATCHING, "test_commit or test_create")
class OneSpoilsTheBatch(MemoryHarness):
    """What follows a rejected command in its batch is rejected with it."""

    kind = _AllOrNone


class _CreatesLast(_Layer):
    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        order = sorted(range(len(commands)), key=lambda number: isinstance(commands[number], CreateInstance))
        answers = dict(zip(order, await super().apply([commands[number] for number in order]), strict=True))
        return [answers[number] for number in range(len(commands))]


@breaks(Property.BATCHING, "test_batching")
class BatchSortedByKind(MemoryHarness):
    """Carries a batch out table by table instead of command by command."""

    kind = _CreatesLast


# ── 7: submitting again ──────────────────────────────────────────────────────────────────────────────────────────


class _Forgetful(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, SendMessage):
            self.state.seen.pop(command.message.id, None)
        return command


@breaks(Property.RETRY, "test_messages")
class Forgetful(MemoryHarness):
    """Takes every message for a new one."""

    kind = _Forgetful


class _InboxDedup(_Layer):
    def before(self, command: Command) -> Command:
        message = command.message if isinstance(command, SendMessage) else None
        if message is not None and message.id not in self.state.inbox.get(message.target, {}):
            self.state.seen.pop(message.id, None)
        return command


@breaks(Property.RETRY, "test_messages or test_entities")
class RemembersTheInboxOnly(MemoryHarness):
    """Recognises a message as long as it lies there: a lock request that is delivered again after it was consumed locks for ever."""

    kind = _InboxDedup


class _ReplyLost(_Layer):
    """The outbox of the first reply is not there any more when the commit is submitted again."""

    def after(self, command: Command, outcome: Outcome) -> Outcome:
        again = isinstance(command, CommitTurn) and outcome.status is OutcomeStatus.ALREADY_APPLIED
        return replace(outcome, messages=()) if again else outcome


@breaks(Property.RETRY, "test_commit")
class RepeatedCommitWithoutMessages(MemoryHarness):
    """What came with a commit's reply is lost with the reply."""

    kind = _ReplyLost


class _NewClaim(_Layer):
    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        self.number += 1
        return await super().claim(worker, claim_id=f"{claim_id} {self.number}", turns=turns, tasks=tasks, selectors=selectors)


@breaks(Property.RETRY, "test_claim")
class ClaimNotRepeatable(MemoryHarness):
    """A claim whose reply is lost strands what it leased."""

    kind = _NewClaim


# ── 8: timers ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Early(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn):
            return replace(command, timers=tuple(replace(timer, due_us=max(1, timer.due_us - 5)) for timer in command.timers))
        return command


@breaks(Property.TIMERS, "test_timers")
class EarlyTimers(MemoryHarness):
    """Its timers fire a little before they are due."""

    kind = _Early


class _Pulled(_Layer):
    def before(self, command: Command) -> Command:
        inbox = self.state.inbox.get(command.message.target, {}) if isinstance(command, SendMessage) else {}
        for id, row in inbox.items():
            inbox[id] = replace(row, visible_us=min(row.visible_us, self._store.now_us))
        return command


@breaks(Property.TIMERS, "test_timers")
class EventPullsTimerForward(MemoryHarness):
    """A message for an instance makes all that lies there visible."""

    kind = _Pulled


class _NotCancelled(_Layer):
    def before(self, command: Command) -> Command:
        return replace(command, cancel_timers=()) if isinstance(command, CommitTurn) else command


@breaks(Property.TIMERS, "test_timers")
class CancelledTimersFire(MemoryHarness):
    """A timer that a commit cancelled fires all the same."""

    kind = _NotCancelled


class _NoFirstTimer(_Layer):
    def before(self, command: Command) -> Command:
        row = self.state.instances.get(command.instance) if isinstance(command, CommitTurn) else None
        if isinstance(command, CommitTurn) and row is not None and row.history_length == 0 and row.version > 0:
            return replace(command, timers=())
        return command


@breaks(Property.GENERATIONS, "test_timers")
class FirstTimerLost(MemoryHarness):
    """A timer that is the first act after continue-as-new is never set."""

    kind = _NoFirstTimer


class _OwnClock(_Layer):
    def __init__(self, name: str, *, capabilities: Capabilities | None = None, **_clock: Any) -> None:
        super().__init__(name, capabilities=capabilities)


@breaks(Property.TIMERS, "server_clock or worker_clock or clocks")
class WorkerClock(MemoryHarness):
    """The clock of a worker decides, although the store claims a clock of its own."""

    features = frozenset({"many_handles", "server_clock"})
    kind = _OwnClock


# ── 9: progress ──────────────────────────────────────────────────────────────────────────────────────────────────


class _LimitFirst(_Layer):
    """Looks at as many of the oldest instances as are asked for, and only then whether they may be handed out."""

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        oldest = sorted(self.state.instances.values(), key=lambda row: row.created_us)[:turns]
        wanted = frozenset(row.name for row in oldest)
        few = Selectors(selectors.orchestrators & wanted, selectors.activities, selectors.entities & wanted)
        return await super().claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=few)


@breaks(Property.PROGRESS, "known_names or block")
class QueueBlocked(MemoryHarness):
    """What nobody can run blocks everything behind it."""

    kind = _LimitFirst


class _ById(_Layer):
    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        hidden = dict(sorted(self.state.instances.items())[turns:]) if turns < 50 else {}
        for id in hidden:
            del self.state.instances[id]
        claim = await super().claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)
        self.state.instances.update(hidden)
        return claim


@breaks(Property.PROGRESS, "longest or block")
class NoOrder(MemoryHarness):
    """Claims in the order of the ids: what has waited longest is passed over for as long as something else comes first."""

    kind = _ById


class _HeldForEver(_Layer):
    def after(self, command: Command, outcome: Outcome) -> Outcome:
        if isinstance(command, CommitTurn) and outcome.status is OutcomeStatus.OK and command.hold_us and not outcome.messages:
            self.change(command.instance, claimed=True)
        return outcome


@breaks(Property.PROGRESS, "test_claim")
class HeldIsDeaf(MemoryHarness):
    """A held instance does not receive its inbox."""

    kind = _HeldForEver


class _OrphansStay(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, AbandonWorker):
            self.kept = {id: row for id, row in self.state.tasks.items() if row.worker == command.worker}
        return command

    def after(self, command: Command, outcome: Outcome) -> Outcome:
        if isinstance(command, AbandonWorker):
            for id, row in self.kept.items():
                self.state.tasks[id] = row
        return outcome


@breaks(Property.PROGRESS, "test_claim")
class WorkOfTheDeadStranded(MemoryHarness):
    """The activities of a worker that was given up are nobody's."""

    kind = _OrphansStay


class _ControlIsATurn(_Layer):
    def before(self, command: Command) -> Command:
        return replace(command, control_only=False) if isinstance(command, CommitTurn) else command


@breaks(Property.PROGRESS, "test_claim and control")
class ControlUnparks(MemoryHarness):
    """Control messages alone end parking and back-off, as a turn does."""

    kind = _ControlIsATurn


# ── 10: order ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Shuffled(_Layer):
    def handed_out(self, claim: Claim) -> Claim:
        return replace(claim, turns=tuple(replace(turn, messages=_by_id(turn)) for turn in claim.turns))


def _by_id(turn: ClaimedTurn) -> tuple[Any, ...]:
    return tuple(sorted(turn.messages, key=lambda message: message.id[::-1]))


@breaks(Property.ORDER, "test_messages or test_entities")
class InboxWithoutOrder(MemoryHarness):
    """Hands messages out by id."""

    kind = _Shuffled


# ── 11: generations ──────────────────────────────────────────────────────────────────────────────────────────────


class _NewInbox(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn) and command.next_execution is not None:
            return replace(command, consumes=(*command.consumes, *self.state.inbox.get(command.instance, {})))
        return command


@breaks(Property.GENERATIONS, "test_commit")
class EventsLostInContinueAsNew(MemoryHarness):
    """Continue-as-new begins with an empty inbox."""

    kind = _NewInbox


# ── 12: purge ────────────────────────────────────────────────────────────────────────────────────────────────────


class _LeavesTasks(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, Purge):
            self.kept = {id: row for id, row in self.state.tasks.items() if row.instance == command.instance}
        return command

    def after(self, command: Command, outcome: Outcome) -> Outcome:
        if isinstance(command, Purge) and outcome.status is OutcomeStatus.OK:
            for id, row in self.kept.items():
                self.state.tasks[id] = row
        return outcome


@breaks(Property.PURGE, "test_purge")
class PurgeLeavesRows(MemoryHarness):
    """A purge forgets the tasks."""

    kind = _LeavesTasks


class _EpochsAnew(_Layer):
    def after(self, command: Command, outcome: Outcome) -> Outcome:
        if isinstance(command, Purge) and outcome.status is OutcomeStatus.OK:
            self.state.epoch = max((row.epoch for row in self.state.instances.values()), default=0)
        return outcome


@breaks(Property.FENCE, "test_purge")
class EpochsStartAnew(MemoryHarness):
    """The next epoch is one more than the largest that is there: after a purge an old lease fits another claim."""

    kind = _EpochsAnew


class _Resurrecting(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, CommitTurn) and command.instance not in self.state.instances:
            row = InstanceRow(
                command.instance, command.execution, "orch", InstanceStatus.RUNNING, 1, 1, command.version, epoch=command.epoch
            )
            self.state.instances[command.instance] = row
        return command


@breaks(Property.PURGE, "test_commit or test_purge")
class CommitResurrects(MemoryHarness):
    """A late commit writes a purged instance anew."""

    kind = _Resurrecting


# ── 13: attempts ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Amnesia(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, Release):
            self.change(command.instance, attempt=0)
        return command


@breaks(Property.ATTEMPTS, "test_claim")
class AttemptsReset(MemoryHarness):
    """Forgets how often an instance was tried when it is given back: a poisonous one never stops."""

    kind = _Amnesia


class _LateRelease(_Layer):
    def before(self, command: Command) -> Command:
        task = self.state.tasks.get(command.task) if isinstance(command, ReleaseTask) else None
        if task is not None and task.worker is not None:
            return ReleaseTask(task.id, task.worker, task.attempt)
        return command


@breaks(Property.LEASE, "test_tasks")
class TaskReleaseIgnoresTheLease(MemoryHarness):
    """Gives a task back whoever leases it: the late word of one worker takes it from another."""

    kind = _LateRelease


class _Uncounting(_Layer):
    def before(self, command: Command) -> Command:
        return replace(command, uncount=True) if isinstance(command, ReleaseTask) else command


@breaks(Property.ATTEMPTS, "test_tasks")
class TaskReleaseNeverCounts(MemoryHarness):
    """Takes back every delivery: a poisonous activity never stops."""

    kind = _Uncounting


class _Together(_Layer):
    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        tried = {id: row.attempt for id, row in self.state.tasks.items() if row.worker is None}
        for id in tried:
            self.state.tasks[id] = replace(self.state.tasks[id], attempt=0)
        claim = await super().claim(worker, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)
        for id in tried:
            row = self.state.tasks[id]
            self.state.tasks[id] = replace(row, attempt=row.attempt + tried[id])
        handed = tuple(replace(task, attempt=self.state.tasks[task.id].attempt) for task in claim.tasks)
        return replace(claim, tasks=handed)


@breaks(Property.PROGRESS, "test_tasks")
class SuspectTasksTogether(MemoryHarness):
    """Hands out tasks whatever their workers died of: the killer takes its company down again and again."""

    kind = _Together


class _Counter(_Layer):
    """Keeps the count in the process."""

    async def open(self, *, create: bool = True) -> None:
        await super().open(create=create)
        for id in list(self.state.instances):
            self.change(id, attempt=0)


@breaks(Property.ATTEMPTS, "test_claim or attempts")
class AttemptsInTheProcess(MemoryHarness):
    """Attempts begin again when a handle is opened."""

    kind = _Counter


# ── 14: queries ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Offset(_Layer):
    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        if not (cursor or "0").isdigit():
            raise UsageError(f"{cursor!r} is not a cursor")
        skip = int(cursor or 0)
        page = await super().query_instances(filter, limit=skip + limit)
        return Page(page.records[skip:], str(skip + limit) if page.cursor else None)


@breaks(Property.QUERY, "test_query")
class PagesByOffset(MemoryHarness):
    """Counts how many records were given: what is purged meanwhile moves the others."""

    kind = _Offset


# ── 15: bytes ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Text(_Layer):
    def before(self, command: Command) -> Command:
        if isinstance(command, SendMessage):
            payload = command.message.payload.replace(b"\0", b"")
            return SendMessage(replace(command.message, payload=payload))
        return command


@breaks(Property.BYTES, "test_payloads and any")
class NoNul(MemoryHarness):
    """Payloads are text, and text ends at a NUL."""

    kind = _Text


class _Folding(_Layer):
    def before(self, command: Command) -> Command:
        return replace(command, instance=command.instance.lower()) if isinstance(command, CreateInstance) else command


@breaks(Property.BYTES, "test_payloads and any")
class CaseFolded(MemoryHarness):
    """Ids that differ in case are one."""

    kind = _Folding


# ── 16: wake-ups ─────────────────────────────────────────────────────────────────────────────────────────────────


class _NoTimes(_Layer):
    def handed_out(self, claim: Claim) -> Claim:
        return replace(claim, next_due_us=None)


@breaks(Property.DEAF, "test_progress or wake")
class NothingIsEverDue(MemoryHarness):
    """A claim does not say when something falls due: only a wake-up would tell."""

    kind = _NoTimes


class _Silent(_Layer):
    def wakeups(self) -> AsyncIterator[Wakeup]:
        return _nothing(super().wakeups())


async def _nothing(hints: AsyncIterator[Wakeup]) -> AsyncIterator[Wakeup]:
    quiet = True
    async for hint in hints:
        if not quiet:
            yield hint


@breaks(Property.DEAF, "wake")
class Mute(MemoryHarness):
    """Never sends a wake-up: its listening connection has died silently."""

    kind = _Silent


class _Harsh(_Layer):
    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        now_us = self._now_us(self._store)
        late = [row.id for row in self.state.workers.values() if row.until_us <= now_us and row.id != worker]
        await MemoryBackend.apply(self, [AbandonWorker(id) for id in late])
        return await super().heartbeat(worker, ttl_us=ttl_us)


@breaks(Property.LEASE, "counts_against_nobody")
class OutagesCount(MemoryHarness):
    """Gives up whoever is late, although nobody could reach the store."""

    kind = _Harsh


class _Standing(_Layer):
    def _now_us(self, store: Any) -> int:
        store.now_us = max(store.now_us, self._clock_us())
        return int(store.now_us)


@breaks(Property.TIMERS, "clock_is_set")
class TimeStandsStill(MemoryHarness):
    """Waits for the wall clock where that was ahead for a moment."""

    kind = _Standing


# ── what is not declared ─────────────────────────────────────────────────────────────────────────────────────────


class _Psychic(_Layer):
    workers: frozenset[str] = frozenset()

    async def close(self) -> None:
        if self._opened is not None:
            await MemoryBackend.apply(self, [AbandonWorker(worker) for worker in self.workers])
        await super().close()

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        self.workers |= {worker}
        return await super().heartbeat(worker, ttl_us=ttl_us)


@breaks(Property.LEASE, "test_capabilities")
class FreesWhatItDoesNotDeclare(MemoryHarness):
    """Frees leases when a handle goes, but does not declare that it can tell a death."""

    kind = _Psychic
