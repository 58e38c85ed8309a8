"""What must hold of every step of a hub, whatever its rules: most of the sixteen properties that the conformance kit lists.

The rules of ``durable_core.hub`` cannot find their own errors. So these look at what a command has done (the state before and after, the answer)
and ask of each change whether it has a reason, and of each promise whether it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate, chain
from typing import Any

from durable_core.backend import (
    DELIVERIES_IN_COMPANY,
    ENDED,
    AbandonWorker,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Heartbeat,
    Message,
    Outcome,
    OutcomeStatus,
    Purge,
    Release,
    ReleaseTask,
    SendMessage,
)
from durable_core.hub import Beat, Grant, InstanceRow, MessageRow, State, TaskRow
from durable_core.hub.effects import Effect
from durable_core.hub.rows import decode_messages

OK = OutcomeStatus.OK


def snapshot(state: State) -> State:
    """A copy of the tables; rows never change."""
    return State(
        state.now_us,
        state.epoch,
        state.position,
        dict(state.instances),
        dict(state.details),
        {target: dict(inbox) for target, inbox in state.inbox.items()},
        dict(state.tasks),
        {id: list(rows) for id, rows in state.history.items()},
        workers=dict(state.workers),
        limits=state.limits,
    )


class Invariants:
    """Of the hub ``state``, which somebody else changes. ``done`` are the commands that were carried out, ``leased`` whose each epoch is."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.done: list[tuple[Command, int]] = []
        self.leased: dict[int, tuple[str, str]] = {}
        self._attempts: dict[str, int] = {}
        self._arrived: dict[str, int] = {}
        self._gone: set[str] = set()

    def check(self, before: State, command: Any, answer: Any, effects: list[Effect], now_us: int) -> None:
        """``command`` was answered and its effects carried out. Raises ``AssertionError``."""
        now_us = max(now_us, self._state.now_us)
        if not effects:
            self._check_refusals(command, answer, effects)
            self._check_fence(before, command, answer)
            self._check_handed(answer, now_us)
            return
        self._note(before, command, answer, effects)
        self._check_refusals(command, answer, effects)
        self._check_fence(before, command, answer)
        self._check_rows(before, command, answer)
        self._check_tasks(before, command, answer)
        self._check_history(before)
        self._check_messages(before, command, answer)
        self._check_leases(before, command, answer, effects)
        self._check_handed(answer, now_us)
        self._check_purged(command, answer)

    def _note(self, before: State, command: Any, answer: Any, effects: list[Effect]) -> None:
        match command, answer:
            case ((CreateInstance() | SendMessage() | CommitTurn() | CompleteTask()), Outcome(status=OutcomeStatus.OK)):
                self.done.append((command, self._state.now_us))
        self._note_attempts(before, command, answer, effects)
        for message in self._sent_by(command, before):
            if message.id in self._state.inbox.get(message.target, {}) and message.id not in before.inbox.get(message.target, {}):
                assert message.id not in self._gone, "RETRY: a message came back"
                self._arrived.setdefault(message.id, len(self._arrived))

    def _note_attempts(self, before: State, command: Any, answer: Any, effects: list[Effect]) -> None:
        """Property 13: counted by the book, command by command."""
        for id in [id for id in self._attempts if id not in self._state.instances]:
            del self._attempts[id]
        for id, row in self._state.instances.items():
            old = before.instances.get(id)
            if old is None or is_replaced(old, row):
                self._attempts[id] = 0
        match command, answer:
            case CreateInstance(), Outcome(status=OutcomeStatus.OK, turn=ClaimedTurn()):
                self._attempts[command.instance] = 1
            case CommitTurn(control_only=True), Outcome(status=OutcomeStatus.OK):
                kept = self._state.instances[command.instance].holder is not None
                self._attempts[command.instance] = max(0, self._attempts[command.instance] - (not kept))
            case CommitTurn(), Outcome(status=OutcomeStatus.OK):
                self._attempts[command.instance] = 0
            case Release(uncount=True), Outcome(status=OutcomeStatus.OK):
                self._attempts[command.instance] = max(0, self._attempts[command.instance] - 1)
            case Grant(), Claim(turns) if effects:
                for turn in turns:
                    old = before.instances[turn.instance]
                    own = old.holder == command.worker and not old.claimed and old.hold_until_us > answer.now_us
                    self._attempts[turn.instance] += not own
                    assert turn.attempt == self._attempts[turn.instance], "ATTEMPTS: counted wrongly"
        assert {id: row.attempt for id, row in self._state.instances.items()} == self._attempts, "ATTEMPTS: counted wrongly"

    def _sent_by(self, command: Any, before: State) -> list[Message]:
        match command:
            case SendMessage(message) | CompleteTask(_, message):
                return [message]
            case CommitTurn():
                bounces = [child.bounce for child in command.creates if child.bounce is not None]
                return [*bounces, *command.messages, *command.timers]
            case CreateInstance() | Purge():
                dead = (data for (_, kind), data in before.details.items() if kind == "obituaries")
                return list(chain.from_iterable(map(decode_messages, dead)))
        return []

    def _check_refusals(self, command: Any, answer: Any, effects: list[Effect]) -> None:
        """Property 1, and every other refusal: nothing is written."""
        if isinstance(answer, Outcome) and answer.status is not OK:
            was_cancelled = isinstance(command, CompleteTask | ReleaseTask) and answer.status is OutcomeStatus.GONE
            assert not effects or was_cancelled
        if isinstance(answer, Heartbeat) and not answer.alive:
            assert not effects

    def _check_fence(self, before: State, command: Any, answer: Any) -> None:
        """Property 1: accepted iff the fence is current and what is settled is there."""
        if not isinstance(command, CommitTurn):
            return
        row = before.instances.get(command.instance)
        if row is None:
            assert answer.status is OutcomeStatus.GONE
            return
        if row.last_commit == command.commit_id:
            assert answer.status is OutcomeStatus.ALREADY_APPLIED, "RETRY: a repeated commit is not recognised"
            return
        if answer.status is OutcomeStatus.REJECTED:
            return
        settled = all(
            (id in before.tasks and not before.tasks[id].cancelled and before.tasks[id].execution == command.execution)
            or id in before.inbox.get(command.instance, {})
            for id in command.settles
        )
        current = (row.execution, row.epoch, row.version) == (command.execution, command.epoch, command.version)
        valid = current and row.status not in ENDED and settled
        assert answer.status is (OK if valid else OutcomeStatus.FENCED), "FENCE: accepted iff the fence is current"

    def _check_rows(self, before: State, command: Any, answer: Any) -> None:
        assert self._state.now_us >= before.now_us
        places = [row.position for row in all_messages(self._state).values()] + [row.position for row in self._state.tasks.values()]
        assert len(set(places)) == len(places)
        assert all(0 < place <= self._state.position for place in places)
        for id, row in self._state.instances.items():
            old = before.instances.get(id)
            if row is old and before.workers.keys() == self._state.workers.keys():
                continue
            assert not row.claimed or row.holder in self._state.workers, "LEASE: claimed by nobody"
            assert row.holder is None or row.holder in self._state.workers
            assert row.status not in ENDED or (row.holder is None and id not in self._state.inbox)
            assert row.awaits_start <= ((id, "start") in self._state.details)
            if old is None or is_replaced(old, row):
                continue
            committed = isinstance(command, CommitTurn) and command.instance == id and answer.status is OK
            assert row.version == old.version + committed
            assert row.created_us == old.created_us
            assert row.epoch >= old.epoch
            assert old.status not in ENDED or row.status in ENDED
            assert row.execution == old.execution or (committed and command.next_execution is not None)
            if committed and command.control_only:
                assert not row.claimed, "LEASE: control messages alone leave nothing claimed"
                kept = (old.parked, old.problem, old.not_before_us) == (row.parked, row.problem, row.not_before_us)
                assert kept, "PROGRESS: a control message overrides what keeps an instance from being run"
            elif committed:
                assert not row.parked
                assert row.not_before_us in ((0, old.not_before_us) if row.awaits_start and row.execution == old.execution else (0,))
                assert row.not_before_us == old.not_before_us or not row.awaits_start or row.execution != old.execution
        for task in self._state.tasks.values():
            assert task.worker is None or task.worker in self._state.workers
            assert not task.cancelled or task.worker is not None
            self._check_deliveries(before, task, command)

    def _check_deliveries(self, before: State, task: TaskRow, command: Any) -> None:
        """Property 13, of tasks: a lease counts one, and only who has it takes it back."""
        old = before.tasks.get(task.id)
        if old is None or old == task or old.position != task.position:
            return
        named = isinstance(command, ReleaseTask) and (command.task, command.worker, command.delivery) == (task.id, old.worker, old.attempt)
        if isinstance(command, ReleaseTask):
            assert named, "LEASE: a task was given back under another lease"
        assert task.attempt == old.attempt + isinstance(command, Grant) - (named and command.uncount), (
            "ATTEMPTS: deliveries counted wrongly"
        )

    def _check_tasks(self, before: State, command: Any, answer: Any) -> None:
        """A task goes when it is completed, settled, cancelled, or its execution is over (unless that keeps it); a purge takes all."""
        committed = isinstance(command, CommitTurn) and answer.status is OK
        over = committed and (command.next_execution is not None or self._state.instances[command.instance].status in ENDED)
        if over and not command.keep_tasks:
            assert not [task for task in self._state.tasks.values() if task.execution == command.execution]
        for id in before.tasks.keys() - self._state.tasks.keys():
            task, row = before.tasks[id], self._state.instances.get(before.tasks[id].instance)
            if row is None or is_replaced(before.instances[task.instance], row):
                continue
            match command:
                case CompleteTask() | ReleaseTask():
                    assert command.task == id
                case CommitTurn():
                    dropped = over and not command.keep_tasks and task.execution == command.execution
                    assert committed
                    assert dropped or id in (*command.settles, *command.cancel_tasks)
                case Beat() | AbandonWorker():
                    assert task.cancelled
                case _:
                    raise AssertionError(f"{command} dropped a task")

    def _check_history(self, before: State) -> None:
        """Property 2: dense, immutable, in order."""
        assert self._state.history.keys() <= self._state.instances.keys()
        for id, row in self._state.instances.items():
            if row is before.instances.get(id):
                continue
            rows = self._state.history.get(id, [])
            assert [entry.first for entry in rows] == [0, *accumulate(entry.count for entry in rows)][:-1]
            assert sum(entry.count for entry in rows) == row.history_length
            old = before.history.get(id, []) if id in before.instances and before.instances[id].execution == row.execution else []
            assert rows[: len(old)] == old, "HISTORY: rows are immutable"

    def _check_messages(self, before: State, command: Any, answer: Any) -> None:
        """Property 3: what left an inbox was consumed or dropped for a stated reason, what is new was sent, and nothing is lost."""
        then, now = all_messages(before), all_messages(self._state)
        committed = isinstance(command, CommitTurn) and answer.status is OK
        for target, id in then.keys() - now.keys():
            self._gone.add(id)
            old, row = before.instances[target], self._state.instances.get(target)
            if row is None or row.status in ENDED or is_replaced(old, row):
                continue
            assert committed
            assert command.instance == target
            named = id in (*command.consumes, *command.settles, *command.cancel_timers, *command.cancel_tasks)
            assert named or (command.next_execution is not None and then[target, id].message.execution == old.execution)
        if committed:
            for id in (*command.consumes, *command.settles, *command.cancel_timers):
                assert (command.instance, id) not in now
            assert not set(command.settles) & self._state.tasks.keys()
        sent = {message.id: message for message in self._sent_by(command, before)}
        for _, id in now.keys() - then.keys():
            assert id in sent
        if committed or (isinstance(command, SendMessage) and answer.status is OK):
            self._check_arrivals(command, sent.values(), now)
        if isinstance(command, Purge) and answer.status is OK and before.instances[command.instance].status not in ENDED:
            for message in decode_messages(before.details.get((command.instance, "obituaries"), b"[]")):
                heir = self._state.instances.get(message.target)
                assert heir is None or heir.status in ENDED or (message.target, message.id) in now, "CONSERVATION: an obituary was lost"
        if isinstance(command, CommitTurn) and committed and self._state.instances[command.instance].status not in ENDED:
            for child in command.creates:
                created = self._state.instances[child.instance].execution == child.execution
                over = command.next_execution is not None  # and whoever asked for the child with it
                assert created or over or child.bounce is None or (child.bounce.target, child.bounce.id) in now, (
                    "CONSERVATION: a child neither started nor bounced"
                )
        for (target, _), arrival in now.items():
            assert arrival.message.execution in (None, self._state.instances[target].execution)

    def _check_arrivals(self, command: Any, sent: Iterable[Message], now: Mapping[tuple[str, str], MessageRow]) -> None:
        """Of an accepted commit or message."""
        unwanted, committed = set[str](), isinstance(command, CommitTurn)
        if committed:
            unwanted = {*command.cancel_timers, *(child.bounce.id for child in command.creates if child.bounce is not None)}
        for message in sent:
            target_row = self._state.instances.get(message.target)
            reachable = target_row is not None and target_row.status not in ENDED and message.execution in (None, target_row.execution)
            own = committed and message in command.timers
            if committed and message.control and not own and (target_row is None or not is_child_of(target_row, command.instance)):
                assert (message.target, message.id) not in now, "LEASE: a turn ends what is not its own"
            elif reachable and message.id not in unwanted:
                assert (message.target, message.id) in now, "CONSERVATION: a message was lost"

    def _check_leases(self, before: State, command: Any, answer: Any, effects: list[Effect]) -> None:
        """Property 4: an epoch is one worker's and one instance's; what is out is not handed out."""
        granted: list[ClaimedTurn] = []
        if isinstance(answer, Claim):
            granted = list(answer.turns)
        elif isinstance(answer, Outcome) and answer.turn is not None:
            granted = [answer.turn]
        for turn in granted:
            owner = turn.instance, command.worker
            assert self.leased.setdefault(turn.epoch, owner) == owner, "LEASE: an epoch is one worker's and one instance's"
            old = before.instances.get(turn.instance)
            if isinstance(command, Grant) and effects:
                assert old is not None
                assert not old.claimed
                assert len(granted) == 1 or turn.attempt <= 1, "PROGRESS: a suspect runs alone"
        if isinstance(answer, Claim) and effects:
            for task in answer.tasks:
                alone = len(answer.tasks) == 1 and not answer.turns
                assert alone or task.attempt <= DELIVERIES_IN_COMPANY, "PROGRESS: a suspect task runs alone"
                assert before.tasks[task.id].worker is None
                assert task.attempt == before.tasks[task.id].attempt + 1

    def _check_handed(self, answer: Any, now_us: int) -> None:
        """Properties 8 and 10: nothing early, in order of each sender."""
        pages: list[tuple[Message, ...]] = []
        if isinstance(answer, Claim):
            pages = [turn.messages for turn in answer.turns]
        elif isinstance(answer, Outcome):
            pages = [answer.messages, *([answer.turn.messages] if answer.turn is not None else [])]
        for page in pages:
            assert all(message.due_us <= now_us for message in page), "TIMERS: handed out early"
            for sender in {message.sender for message in page}:
                arrivals = [self._arrived[message.id] for message in page if message.sender == sender and not message.due_us]
                assert arrivals == sorted(arrivals), "ORDER: of one sender's messages"
            if page:
                limit = self._state.limits.messages_per_claim
                rows = self._state.inbox.get(page[0].target, {})
                due = [row.message for row in sorted(rows.values(), key=order) if row.visible_us <= now_us]
                assert list(page) == due[:limit] + [message for message in due[limit:] if message.control]

    def _check_purged(self, command: Any, answer: Any) -> None:
        """Property 12."""
        if isinstance(command, Purge) and answer.status is OK:
            id = command.instance
            assert id not in self._state.inbox.keys() | self._state.history.keys() | {key for key, _ in self._state.details}
            assert id not in {task.instance for task in self._state.tasks.values()}


def order(row: MessageRow) -> tuple[int, int]:
    return row.visible_us, row.position


def is_child_of(row: InstanceRow, instance: str) -> bool:
    return row.parent is not None and row.parent.instance == instance


def is_replaced(old: InstanceRow, row: InstanceRow) -> bool:
    return row.execution != old.execution and row.version == 0


def all_messages(state: State) -> dict[tuple[str, str], MessageRow]:
    return {(target, id): row for target, inbox in state.inbox.items() for id, row in inbox.items()}
