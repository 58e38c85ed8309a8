"""The rules of the hub, one at a time. Each test's name begins with the property of the conformance kit that it belongs to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core.backend import (
    AbandonWorker,
    Capabilities,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Heartbeat,
    HistoryRange,
    InstanceFilter,
    InstanceStatus,
    Message,
    NewTask,
    NextExecution,
    Outcome,
    OutcomeStatus,
    ParentRef,
    Purge,
    RecordUpdate,
    Release,
    ReleaseTask,
    Selectors,
    SendMessage,
)
from durable_core.errors import PayloadTooLargeError, UsageError
from durable_core.hub import (
    STEAL_AFTER_US,
    Beat,
    Grant,
    InstanceRow,
    State,
    decide,
    eligible_tasks,
    eligible_turns,
    needs,
    next_due,
    query,
    read_cursor,
    read_history,
    record_of,
)
from durable_core.hub.rows import decode_messages, encode_messages, facts_of

OK, REPEATED, FENCED, EXISTS, ENDED, GONE, REJECTED = (
    OutcomeStatus.OK,
    OutcomeStatus.ALREADY_APPLIED,
    OutcomeStatus.FENCED,
    OutcomeStatus.EXISTS,
    OutcomeStatus.ENDED,
    OutcomeStatus.GONE,
    OutcomeStatus.REJECTED,
)
COMPLETED = RecordUpdate(InstanceStatus.COMPLETED, output=b"out")
SECOND = 1_000_000
ALL = Selectors(frozenset({"orch"}), frozenset({"act"}), frozenset({"counter"}))


class Hub:
    """A state with a clock. Every ``decide`` is checked to change nothing, every refusal to have no effects."""

    def __init__(self, **limits: Any) -> None:
        self.state = State(limits=Capabilities("none", multi_process=False, proves_death=False, **limits))
        self.now = 1_000 * SECOND
        self.ids = 0
        for worker in ("w1", "w2"):
            self.beat(worker)

    def _decide(self, command: Any) -> Any:
        before = copy.deepcopy(self.state)
        answer, effects = decide(self.state, command, self.now)
        assert self.state == before, "decide changed the state"
        for effect in effects:
            effect.absorb(self.state)
        if isinstance(answer, Outcome) and answer.status not in (OK, EXISTS, GONE):
            assert not effects, "a refusal has effects"
        return answer

    def do(self, command: Command) -> Outcome:
        outcome = self._decide(command)
        assert isinstance(outcome, Outcome)
        return outcome

    def status(self, command: Command) -> OutcomeStatus:
        return self.do(command).status

    def unchanged(self, command: Command) -> OutcomeStatus:
        before = copy.deepcopy(self.state)
        status = self.status(command)
        assert self.state == before
        return status

    def beat(self, worker: str = "w1", ttl_us: int = 10**12) -> Heartbeat:
        heartbeat = self._decide(Beat(worker, ttl_us))
        assert isinstance(heartbeat, Heartbeat)
        return heartbeat

    def grant(self, *turns: str, tasks: tuple[str, ...] = (), worker: str = "w1", selectors: Selectors = ALL, claim_id: str = "") -> Claim:
        claim = self._decide(Grant(worker, claim_id or self.id("claim"), selectors, turns, tasks))
        assert isinstance(claim, Claim)
        return claim

    def turn(self, id: str = "i", worker: str = "w1", selectors: Selectors = ALL) -> ClaimedTurn:
        (turn,) = self.grant(id, worker=worker, selectors=selectors).turns
        return turn

    def eligible(self, worker: str = "w1", selectors: Selectors = ALL) -> list[str]:
        return eligible_turns(self.state, worker, selectors, self.now)

    def id(self, kind: str) -> str:
        self.ids += 1
        return f"{kind}{self.ids}"

    def create(self, id: str = "i", **fields: Any) -> Outcome:
        fields.setdefault("execution", self.id("x"))
        fields.setdefault("request_id", self.id("request"))
        return self.do(CreateInstance(id, name="orch", start=b"start", **fields))

    def started(self, id: str = "i", worker: str = "w1", **fields: Any) -> ClaimedTurn:
        """A created instance whose first turn is committed: the fence of its second one."""
        self.create(id)
        return self.committed(self.turn(id, worker), worker, append=b"[1]", append_count=1, **fields)

    def commit(self, turn: ClaimedTurn, worker: str = "w1", **fields: Any) -> Outcome:
        return self.do(self.turn_of(turn, worker, **fields))

    def turn_of(self, turn: ClaimedTurn, worker: str = "w1", **fields: Any) -> CommitTurn:
        fields.setdefault("commit_id", self.id("commit"))
        return CommitTurn(turn.instance, turn.execution, turn.epoch, turn.version, worker, **fields)

    def committed(self, turn: ClaimedTurn, worker: str = "w1", **fields: Any) -> ClaimedTurn:
        assert self.commit(turn, worker, **fields).status is OK
        return replace(turn, version=turn.version + 1)

    def send(self, id: str, target: str = "i", **fields: Any) -> OutcomeStatus:
        return self.status(SendMessage(message(id, target, **fields)))

    def end(self, id: str = "i") -> None:
        assert self.commit(self.turn(id), append=b"[]", append_count=1, record=COMPLETED).status is OK

    def row(self, id: str = "i") -> InstanceRow:
        return self.state.instances[id]

    def inbox(self, id: str = "i") -> list[str]:
        return list(self.state.inbox.get(id, {}))


def message(id: str, target: str = "i", **fields: Any) -> Message:
    return Message(id, target, b"payload", **fields)


def ids(messages: tuple[Message, ...]) -> list[str]:
    return [message.id for message in messages]


@pytest.fixture
def hub() -> Hub:
    return Hub()


# ── 1: the fence ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stale", [{"epoch": 0}, {"epoch": 99}, {"version": 0}, {"version": 2}, {"execution": "other"}])
def test_fence_a_stale_commit_changes_nothing(hub: Hub, stale: dict[str, Any]) -> None:
    turn = hub.started()
    hub.send("m")
    command = replace(hub.turn_of(turn, append=b"[2]", append_count=1, consumes=("m",), record=COMPLETED), **stale)
    assert hub.unchanged(command) is FENCED
    assert hub.status(replace(command, execution=turn.execution, epoch=turn.epoch, version=turn.version)) is OK


def test_fence_a_missing_instance_is_gone(hub: Hub) -> None:
    turn = hub.started()
    assert hub.unchanged(replace(hub.turn_of(turn), instance="other")) is GONE


def test_fence_holds_after_the_lease_ended_until_somebody_takes_the_instance(hub: Hub) -> None:
    turn = hub.started(hold_us=SECOND)
    hub.now += 5 * SECOND
    turn = hub.committed(turn)
    hub.send("m")
    assert hub.turn(worker="w2").epoch > turn.epoch
    assert hub.commit(turn).status is FENCED


def test_fence_an_abandoned_workers_late_commit_counts_but_claims_nothing(hub: Hub) -> None:
    turn = hub.started()
    hub.send("m")
    turn = hub.turn()
    assert hub.status(AbandonWorker("w1")) is OK
    outcome = hub.commit(turn, tasks=(NewTask("t", "act", b"", claim=True),), hold_us=SECOND)
    assert (outcome.status, outcome.messages) == (OK, ())
    assert (hub.row().holder, hub.row().claimed, hub.state.tasks["t"].worker) == (None, False, None)
    assert hub.eligible("w2") == ["i"]


def test_fence_an_ended_instance_takes_no_commit(hub: Hub) -> None:
    turn = hub.committed(hub.started(), record=COMPLETED)
    assert hub.unchanged(hub.turn_of(turn, append=b"[3]", append_count=1)) is FENCED


def test_fence_a_settle_of_nothing_fences_the_whole_turn(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b"", claim=True),))
    for settles in (("t", "unknown"), ("t", "t")):
        assert hub.unchanged(hub.turn_of(turn, settles=settles, append=b"[2]", append_count=1)) is FENCED
    other = hub.started("j")
    assert hub.unchanged(hub.turn_of(other, settles=("t",))) is FENCED, "a task of another instance"


def test_fence_a_cancelled_task_cannot_be_settled(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),))
    hub.grant(tasks=("t",), worker="w2")
    turn = hub.committed(turn, cancel_tasks=("t",))
    assert hub.unchanged(hub.turn_of(turn, settles=("t",))) is FENCED


@pytest.mark.parametrize(
    "fields",
    [
        {"append": b"[]"},
        {"append_count": 1},
        {"record": COMPLETED, "next_execution": NextExecution("x2", b"")},
        {"timers": (message("t", "other"),)},
    ],
)
def test_fence_nonsense_is_rejected_and_says_why(hub: Hub, fields: dict[str, Any]) -> None:
    command = hub.turn_of(hub.started(), **fields)
    outcome = hub.do(command)
    assert outcome.status is REJECTED
    assert isinstance(outcome.error, UsageError)
    assert "'i'" in str(outcome.error)


# ── 2: history ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_history_is_the_accepted_rows_end_to_end(hub: Hub) -> None:
    turn = hub.started()
    turn = hub.committed(turn)
    turn = hub.committed(turn, append=b"[2,3]", append_count=2)
    assert hub.commit(replace(turn, version=0), append=b"[9]", append_count=1).status is FENCED
    hub.committed(turn, append=b"[4]", append_count=1, record=COMPLETED)
    rows = read_history(hub.state, HistoryRange("i")).rows
    assert [(row.first, row.count, row.payload) for row in rows] == [(0, 1, b"[1]"), (1, 2, b"[2,3]"), (3, 1, b"[4]")]
    assert hub.row().history_length == 4


def test_history_is_read_in_pages(hub: Hub) -> None:
    turn = hub.started()
    for n in range(4):
        turn = hub.committed(turn, append=b"x" * 10, append_count=n + 1)
    page = read_history(hub.state, HistoryRange("i", first=1, max_bytes=25))
    assert ([row.first for row in page.rows], page.next) == ([1, 2], 4)
    page = read_history(hub.state, HistoryRange("i", turn.execution, first=4, max_bytes=1))
    assert ([row.first for row in page.rows], page.next) == ([4], 7), "at least one row"
    assert read_history(hub.state, HistoryRange("i", first=11)).rows == ()
    assert read_history(hub.state, HistoryRange("i", "other")).rows == ()
    assert read_history(hub.state, HistoryRange("nobody")).rows == ()


# ── 3: conservation ───────────────────────────────────────────────────────────────────────────────────────────────


def test_conservation_send_answers_truthfully(hub: Hub) -> None:
    turn = hub.started()
    assert hub.send("a") is OK
    assert hub.send("b", execution=turn.execution) is OK
    assert hub.send("c", execution="older") is GONE
    assert hub.send("d", "nobody") is GONE
    hub.end()
    assert hub.send("e") is ENDED
    assert hub.unchanged(SendMessage(message("f"))) is ENDED


def test_conservation_only_what_is_consumed_goes(hub: Hub) -> None:
    hub.started()
    for id in "abc":
        hub.send(id)
    turn = hub.turn()
    assert ids(turn.messages) == ["a", "b", "c"]
    assert ids(hub.commit(turn, consumes=("b", "unknown")).messages) == ["a", "c"]
    assert hub.inbox() == ["a", "c"]


def test_conservation_a_settle_takes_the_task_from_whoever_leases_it(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),))
    hub.grant(tasks=("t",), worker="w2")
    hub.committed(turn, settles=("t",))
    assert not hub.state.tasks
    assert hub.status(CompleteTask("t", message("t"))) is GONE


def test_conservation_a_settle_takes_the_undelivered_completion(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),))
    assert hub.status(CompleteTask("t", message("t", execution=turn.execution))) is OK
    outcome = hub.commit(turn, settles=("t",))
    assert (outcome.status, outcome.messages, hub.inbox()) == (OK, (), [])


def test_conservation_completions_reach_the_execution_that_scheduled_the_task(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("a", "act", b""), NewTask("b", "act", b"")), hold_us=SECOND)
    assert hub.status(CompleteTask("a", message("a"))) is OK
    assert hub.inbox() == ["a"]
    assert hub.unchanged(CompleteTask("a", message("a"))) is GONE
    hub.committed(turn, record=COMPLETED, keep_tasks=True)
    assert hub.status(CompleteTask("b", message("b"))) is OK
    assert (hub.inbox(), list(hub.state.tasks)) == ([], [])


def test_conservation_a_commits_messages_reach_who_is_there(hub: Hub) -> None:
    turn = hub.started()
    other = hub.started("j")
    hub.started("k")
    hub.send("wake", "k")
    hub.end("k")
    sent = (
        message("a", "j"),
        message("b", "j", execution=other.execution),
        message("c", "j", execution="older"),
        message("d", "k"),
        message("e", "nobody"),
        message("f", "i"),
    )
    outcome = hub.commit(turn, messages=sent)
    assert (hub.inbox("j"), hub.inbox("k"), hub.inbox("nobody"), ids(outcome.messages)) == (["a", "b"], [], [], ["f"])


def test_conservation_within_one_commit_later_steps_see_earlier_ones(hub: Hub) -> None:
    turn = hub.started()
    child = CreateInstance("child", "cx", "orch", b"s", parent=ParentRef("i", turn.execution))
    hub.committed(turn, creates=(child,), messages=(message("m", "child", execution="cx"),))
    assert hub.inbox("child") == ["m"]
    assert hub.turn("child").start == b"s"


def test_conservation_a_commit_drops_its_messages_to_itself_if_it_ends(hub: Hub) -> None:
    hub.committed(hub.started(), record=COMPLETED, messages=(message("m"),), timers=(message("t", due_us=1),))
    assert hub.inbox() == []


def test_conservation_ending_leaves_the_record_and_the_history_only(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),), timers=(message("later", due_us=10**15),))
    hub.send("m")
    hub.committed(turn, append=b"[2]", append_count=1, record=COMPLETED, tasks=(NewTask("u", "act", b""),))
    assert (hub.inbox(), list(hub.state.tasks), hub.row().claimed, hub.row().holder) == ([], [], False, None)
    record = record_of(hub.state, "i")
    assert record is not None
    assert (record.status, record.output, record.history_length, record.start) == (InstanceStatus.COMPLETED, b"out", 2, b"start")
    assert hub.eligible() == []


def test_conservation_keep_tasks_lets_them_run_on(hub: Hub) -> None:
    hub.committed(hub.started(tasks=(NewTask("t", "act", b""),)), record=COMPLETED, tasks=(NewTask("u", "act", b""),), keep_tasks=True)
    assert eligible_tasks(hub.state, "w2", ALL) == ["t", "u"]
    assert hub.create(reuse="replace_ended").status is OK
    assert sorted(hub.state.tasks) == ["t", "u"], "orphans outlive a replacement"
    assert hub.status(Purge("i", force=True)) is OK
    assert not hub.state.tasks, "but no purge"


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("completed", [True, False])
def test_conservation_settle_and_cancel_leave_nothing(hub: Hub, cancels: bool, completed: bool) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),))
    if completed:
        hub.do(CompleteTask("t", message("t")))
    hub.committed(turn, settles=("t",), cancel_tasks=("t",) if cancels else ())
    assert (hub.inbox(), list(hub.state.tasks)) == ([], [])


def test_conservation_create_and_cancel_leaves_nothing(hub: Hub) -> None:
    hub.started(tasks=(NewTask("t", "act", b""),), cancel_tasks=("t",), timers=(message("m", due_us=1),), cancel_timers=("m",))
    assert (hub.inbox(), list(hub.state.tasks)) == ([], [])


@pytest.mark.parametrize("worker", [None, "w1"])
def test_conservation_cancelling_a_free_or_own_task_deletes_it(hub: Hub, worker: str | None) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b"", claim=worker is not None),))
    assert hub.state.tasks["t"].worker == worker
    hub.committed(turn, cancel_tasks=("t", "unknown"))
    assert not hub.state.tasks


def test_conservation_cancelling_a_completed_task_deletes_its_completion(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),))
    hub.do(CompleteTask("t", message("t")))
    outcome = hub.commit(turn, cancel_tasks=("t",))
    assert (outcome.messages, hub.inbox()) == ((), [])


def test_conservation_another_workers_task_is_marked_and_its_heartbeat_told_once(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""), NewTask("u", "act", b"")))
    hub.grant(tasks=("t", "u"), worker="w2")
    hub.committed(turn, cancel_tasks=("t", "u"))
    assert hub.status(CompleteTask("u", message("u"))) is GONE
    assert (hub.inbox(), list(hub.state.tasks)) == ([], ["t"])
    assert hub.beat("w1").cancelled == ()
    assert hub.beat("w2").cancelled == ("t",)
    assert (hub.beat("w2").cancelled, list(hub.state.tasks)) == ((), [])


def test_conservation_a_task_is_given_back_under_its_very_lease(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b"", claim=True), NewTask("u", "act", b"")))
    hub.grant(tasks=("u",), worker="w2")
    assert hub.unchanged(ReleaseTask("t", "w2", 1)) is FENCED
    assert hub.unchanged(ReleaseTask("t", "w1", 2)) is FENCED
    assert hub.status(ReleaseTask("t", "w1", 1)) is OK
    assert hub.unchanged(ReleaseTask("t", "w1", 1)) is REPEATED
    assert (hub.state.tasks["t"].worker, hub.state.tasks["t"].attempt) == (None, 1)
    hub.committed(turn, cancel_tasks=("u",))
    assert hub.status(ReleaseTask("u", "w2", 1)) is GONE
    assert list(hub.state.tasks) == ["t"]
    assert hub.unchanged(ReleaseTask("u", "w2", 1)) is GONE


def test_progress_a_task_that_died_twice_is_granted_alone_before_turns(hub: Hub) -> None:
    hub.started(tasks=tuple(NewTask(id, "act", b"") for id in "tuv"))
    hub.create("j")
    for number in (1, 2):
        assert [task.attempt for task in hub.grant(tasks=("u",)).tasks] == [number]
        hub.do(ReleaseTask("u", "w1", number))
    assert eligible_tasks(hub.state, "w1", ALL) == ["t", "v"]
    assert [task.id for task in hub.grant(tasks=("t", "u")).tasks] == ["t"], "what is not the oldest is passed over"
    assert eligible_tasks(hub.state, "w1", ALL) == ["u"]
    claim = hub.grant("j", tasks=("u", "v"), claim_id="c")
    assert (claim.turns, [(task.id, task.attempt) for task in claim.tasks]) == ((), [("u", 3)])
    assert hub.grant("j", tasks=("u", "v"), claim_id="c") == claim
    assert hub.row("j").claimed is False
    assert [turn.instance for turn in hub.grant("j", tasks=("v",)).turns] == ["j"]


# ── 4: leases ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lease_a_claimed_instance_is_nobodys_until_the_commit(hub: Hub) -> None:
    hub.create()
    hub.turn()
    hub.send("m", control=True)
    hub.now += 3600 * SECOND
    assert (hub.eligible("w1"), hub.eligible("w2")) == ([], [])
    assert hub.grant("i", worker="w2").turns == ()


def test_lease_an_unknown_worker_gets_nothing(hub: Hub) -> None:
    hub.started(tasks=(NewTask("t", "act", b""),))
    hub.send("m")
    assert (hub.eligible("w9"), eligible_tasks(hub.state, "w9", ALL)) == ([], [])
    claim = hub.grant("i", tasks=("t",), worker="w9")
    assert (claim.turns, claim.tasks) == ((), ())


def test_lease_epochs_are_unique_in_the_hub(hub: Hub) -> None:
    hub.create("a")
    hub.create("b")
    assert [turn.epoch for turn in hub.grant("a", "b").turns] == [1, 2]
    assert hub.create("c", worker="w2").turn is not None
    assert hub.row("c").epoch == 3
    hub.status(Purge("c", force=True))
    assert hub.create("c", worker="w2").turn is not None
    assert hub.row("c").epoch == 4


def test_lease_what_is_not_eligible_is_passed_over(hub: Hub) -> None:
    for id in "abc":
        hub.create(id)
    hub.turn("b", "w2")
    assert [turn.instance for turn in hub.grant("a", "a", "b", "unknown", "c").turns] == ["a", "c"]


def test_lease_tasks_are_claimed_once_and_by_name(hub: Hub) -> None:
    hub.started(tasks=(NewTask("t", "act", b"in"), NewTask("u", "other", b"")))
    assert eligible_tasks(hub.state, "w1", ALL) == ["t"]
    claim = hub.grant(tasks=("u", "t", "t"))
    assert [(task.id, task.payload, task.attempt, task.instance) for task in claim.tasks] == [("t", b"in", 1, "i")]
    assert eligible_tasks(hub.state, "w2", ALL) == []
    assert hub.grant(tasks=("t",), worker="w2").tasks == ()


def test_lease_a_held_instance_is_the_holders_under_the_same_fence(hub: Hub) -> None:
    turn = hub.started(hold_us=60 * SECOND)
    hub.send("m")
    assert (hub.eligible("w1"), hub.eligible("w2")) == (["i"], [])
    again = hub.turn()
    assert (again.epoch, again.version, again.attempt, ids(again.messages), again.start) == (turn.epoch, 1, 0, ["m"], None)


def test_lease_a_message_to_a_held_instance_may_be_stolen_after_a_second(hub: Hub) -> None:
    turn = hub.started(hold_us=60 * SECOND)
    hub.send("m")
    hub.now += STEAL_AFTER_US - 1
    assert hub.eligible("w2") == []
    hub.now += 1
    stolen = hub.turn(worker="w2")
    assert stolen.epoch > turn.epoch
    assert stolen.attempt == 1


@pytest.mark.parametrize("worker", ["w1", "w2"])
def test_lease_after_the_hold_anybodys_claim_raises_the_epoch(hub: Hub, worker: str) -> None:
    turn = hub.started(hold_us=SECOND // 2)
    hub.now += SECOND // 2
    hub.send("m")
    assert hub.turn(worker=worker).epoch > turn.epoch


def test_lease_a_commit_goes_on_with_what_is_left(hub: Hub) -> None:
    turn = hub.started()
    hub.send("m")
    outcome = hub.commit(turn, hold_us=0)
    assert (ids(outcome.messages), outcome.more) == (["m"], False)
    assert (hub.row().claimed, hub.row().holder, hub.row().attempt) == (True, "w1", 0)
    assert hub.eligible("w1") == []


def test_lease_a_commit_that_leaves_nothing_holds_or_releases(hub: Hub) -> None:
    turn = hub.started(hold_us=SECOND)
    assert (hub.row().holder, hub.row().claimed, hub.row().hold_until_us) == ("w1", False, hub.now + SECOND)
    hub.committed(turn, hold_us=0)
    assert hub.row().holder is None


def test_lease_a_created_instance_may_be_claimed_at_once(hub: Hub) -> None:
    turn = hub.create(worker="w1").turn
    assert turn is not None
    assert (turn.start, turn.attempt, turn.epoch, turn.status, turn.messages) == (b"start", 1, 1, InstanceStatus.PENDING, ())
    assert hub.eligible() == []
    hub.committed(turn, append=b"[1]", append_count=1)
    assert hub.create("late", worker="w1", delay_us=SECOND).turn is None
    assert hub.create("unknown", worker="w9").turn is None
    assert hub.eligible() == ["unknown"]


def test_lease_a_dead_worker_leaves_everything_free(hub: Hub) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b"", claim=True), NewTask("u", "act", b"")))
    hub.create("held")
    hub.committed(hub.turn("held"), append=b"[]", append_count=1, hold_us=60 * SECOND)
    hub.send("m", "held")
    hub.create("out")
    hub.turn("out")
    hub.grant(tasks=("u",))
    second = hub.started("j", "w2")
    hub.committed(second, "w2")
    hub.committed(replace(turn, version=1), "w2", cancel_tasks=("u",))
    assert hub.status(AbandonWorker("w1")) is OK
    assert hub.eligible("w2") == ["held"]
    assert (hub.row("out").epoch, hub.row("out").claimed, hub.row("held").holder) == (turn.epoch + 2, False, None)
    assert [(task.id, task.worker, task.attempt) for task in hub.state.tasks.values()] == [("t", None, 1)]
    assert hub.grant(tasks=("t",), worker="w2").tasks[0].attempt == 2


def test_lease_a_silent_worker_is_given_up_by_a_beat_of_another(hub: Hub) -> None:
    hub.create()
    hub.beat("w1", ttl_us=SECOND)
    hub.turn()
    hub.now += SECOND
    assert hub.beat("w1", ttl_us=SECOND).alive, "its own late beat saves it"
    assert (hub.row().claimed, hub.row().holder) == (True, "w1")
    hub.now += SECOND - 1
    hub.beat("w2")
    hub.now += 1
    hub.beat("w2")
    assert "w1" in hub.state.workers, "it may have had no time to beat since the last beat of w2, when it was alive"
    hub.now += 1
    assert hub.beat("w2").alive
    assert hub.eligible("w2") == ["i"]
    assert not hub.beat("w1").alive
    assert "w1" not in hub.state.workers
    assert hub.beat("w3").alive, "a new incarnation registers"
    hub.now += hub.state.limits.dedup_window_us
    assert hub.beat("w1").alive, "forgotten after the window"


def test_lease_an_outage_longer_than_the_lease_counts_against_nobody(hub: Hub) -> None:
    for worker in ("w1", "w2", "w3"):
        hub.beat(worker, ttl_us=15 * SECOND)
    hub.now += 20 * SECOND
    assert hub.beat("w2", ttl_us=15 * SECOND).alive, "the first one back was away too long itself"
    hub.now += 15 * SECOND - 1
    assert hub.beat("w2", ttl_us=15 * SECOND).alive
    assert hub.beat("w1", ttl_us=15 * SECOND).alive, "a whole lease for the way back"
    hub.now += 3 * SECOND
    hub.beat("w2", ttl_us=15 * SECOND)
    hub.now += 3 * SECOND
    hub.beat("w2", ttl_us=15 * SECOND)
    assert set(hub.state.workers) == {"w1", "w2"}, "but who does not come back is given up all the same"


def test_lease_an_outage_that_is_a_little_shorter_than_the_lease_counts_against_nobody(hub: Hub) -> None:
    hub.beat("w1", ttl_us=15 * SECOND)
    hub.now += 2 * SECOND
    hub.beat("w2", ttl_us=15 * SECOND)
    hub.now += 14 * SECOND
    assert hub.beat("w2", ttl_us=15 * SECOND).alive, "w2 is in time, w1 is not"
    hub.now += SECOND
    assert hub.beat("w1", ttl_us=15 * SECOND).alive


def test_lease_who_registers_first_after_an_outage_gives_nobody_up(hub: Hub) -> None:
    hub.beat("w1", ttl_us=15 * SECOND)
    hub.now += 20 * SECOND
    hub.beat("new", ttl_us=15 * SECOND)
    assert "w1" in hub.state.workers
    hub.now += 2 * SECOND
    hub.beat("another", ttl_us=15 * SECOND)
    assert "w1" in hub.state.workers
    hub.now += 13 * SECOND
    hub.beat("another", ttl_us=15 * SECOND)
    hub.beat("a third", ttl_us=15 * SECOND)
    assert "w1" not in hub.state.workers, "and a row of short lives does not keep it for ever"


def test_lease_abandoning_is_idempotent(hub: Hub) -> None:
    assert hub.status(AbandonWorker("w1")) is OK
    assert hub.unchanged(AbandonWorker("w1")) is REPEATED
    assert hub.unchanged(AbandonWorker("w9")) is GONE
    assert not hub.beat("w1").alive


# ── 7: repeated commands ──────────────────────────────────────────────────────────────────────────────────────────


def test_repeat_a_commit_until_a_later_one(hub: Hub) -> None:
    hub.create()
    first = hub.turn_of(hub.turn(), append=b"[1]", append_count=1)
    assert hub.status(first) is OK
    assert hub.unchanged(first) is REPEATED
    turn = replace(hub_turn(hub), version=1)
    hub.committed(turn)
    assert hub.unchanged(first) is FENCED


def hub_turn(hub: Hub, id: str = "i") -> ClaimedTurn:
    row = hub.row(id)
    return ClaimedTurn(*facts_of(row), row.epoch)


def test_repeat_a_commit_hands_over_again_what_it_left(hub: Hub) -> None:
    turn = hub.started()
    hub.send("m")
    command = hub.turn_of(turn)
    assert ids(hub.do(command).messages) == ["m"]
    assert ids(hub.do(command).messages) == ["m"]
    hub.committed(replace(turn, version=2), consumes=("m",), hold_us=SECOND)
    last = hub.turn_of(replace(turn, version=3), hold_us=SECOND)
    assert hub.status(last) is OK
    hub.send("n")
    assert hub.do(last).messages == (), "held, not claimed: the holder's claim brings it"


def test_repeat_an_ending_and_a_continuing_commit(hub: Hub) -> None:
    turn = hub.started()
    command = hub.turn_of(turn, next_execution=NextExecution("x2", b"again"))
    assert (hub.status(command), hub.unchanged(command)) == (OK, REPEATED)
    last = hub.turn_of(replace(turn, execution="x2", version=2), record=COMPLETED)
    assert (hub.status(last), hub.unchanged(last)) == (OK, REPEATED)


def test_repeat_a_create(hub: Hub) -> None:
    command = CreateInstance("i", "x", "orch", b"start", request_id="r", worker="w1")
    first = hub.do(command)
    again = hub.do(command)
    assert (again.status, again.turn) == (REPEATED, first.turn)
    assert first.turn is not None
    hub.committed(first.turn, append=b"[]", append_count=1)
    assert hub.do(command).turn is None
    turn = replace(first.turn, version=1)
    hub.committed(turn, record=COMPLETED)
    assert hub.status(Purge("i")) is OK
    assert hub.unchanged(command) is REPEATED, "beyond a purge"
    hub.now += hub.state.limits.dedup_window_us
    assert hub.status(command) is OK, "but not beyond the window"


def test_repeat_a_create_without_request_id_is_known_by_its_execution(hub: Hub) -> None:
    command = CreateInstance("i", "x", "orch", b"start", reuse="terminate_and_replace")
    assert (hub.status(command), hub.unchanged(command)) == (OK, REPEATED)


def test_repeat_a_message_after_it_was_consumed(hub: Hub) -> None:
    hub.started()
    assert (hub.send("m"), hub.send("m")) == (OK, REPEATED)
    hub.committed(hub.turn(), consumes=("m",))
    assert hub.unchanged(SendMessage(message("m"))) is REPEATED
    hub.do(Purge("i", force=True))
    assert hub.unchanged(SendMessage(message("m"))) is REPEATED
    hub.now += hub.state.limits.dedup_window_us - 1
    assert hub.send("m") is REPEATED
    hub.now += 1
    assert hub.send("m") is GONE


def test_repeat_a_refused_message_is_not_remembered(hub: Hub) -> None:
    assert hub.send("m") is GONE
    hub.create()
    assert hub.send("m") is OK


def test_repeat_a_release_is_counted_once(hub: Hub) -> None:
    hub.create()
    turn = hub.turn()
    command = Release("i", turn.execution, turn.epoch, uncount=True, delay_us=SECOND)
    assert (hub.status(command), hub.unchanged(command)) == (OK, REPEATED)
    assert hub.unchanged(replace(command, epoch=99)) is FENCED
    assert hub.unchanged(replace(command, execution="other")) is FENCED
    assert hub.unchanged(replace(command, instance="nobody")) is GONE


def test_repeat_a_claim_returns_the_same_items(hub: Hub) -> None:
    hub.create("a")
    hub.create("b")
    hub.started("c", tasks=(NewTask("t", "act", b""),))
    first = hub.grant("a", tasks=("t",), claim_id="c1")
    assert hub.grant("b", claim_id="c1") == first
    assert hub.row("b").claimed is False
    hub.committed(first.turns[0], append=b"[]", append_count=1)
    assert hub.grant("b", claim_id="c1").turns == ()
    assert [turn.instance for turn in hub.grant("b", claim_id="c2").turns] == ["b"]


def test_repeat_what_is_remembered_is_forgotten_by_a_beat(hub: Hub) -> None:
    hub.started()
    hub.send("m")
    hub.now += hub.state.limits.dedup_window_us - 1
    hub.beat()
    assert "m" in hub.state.seen
    hub.now += 1
    hub.beat()
    assert not hub.state.seen


# ── 8: timers and time ────────────────────────────────────────────────────────────────────────────────────────────


def test_timer_is_never_early_and_stands_until_cancelled(hub: Hub) -> None:
    due = hub.now + 10 * SECOND
    turn = hub.started(timers=(message("t", due_us=due),), hold_us=SECOND)
    hub.send("m")
    assert ids(hub.turn().messages) == ["m"], "a message does not pull it forward"
    turn = hub.committed(turn, consumes=("m",))
    hub.now = due - 1
    assert (hub.eligible(), next_due(hub.state, hub.now)) == ([], due)
    hub.now = due
    assert hub.eligible() == ["i"]
    assert ids(hub.turn().messages) == ["t"]
    hub.committed(replace(hub_turn(hub)), cancel_timers=("t",))
    assert hub.inbox() == []


def test_timer_a_cancelled_one_never_fires(hub: Hub) -> None:
    turn = hub.started(timers=(message("t", due_us=hub.now + SECOND),))
    hub.committed(turn, cancel_timers=("t",))
    hub.now += 10 * SECOND
    assert hub.eligible() == []


def test_timer_a_delayed_start_holds_events_back_but_not_control(hub: Hub) -> None:
    start = hub.now + 10 * SECOND
    hub.create(delay_us=10 * SECOND)
    hub.send("event")
    assert (hub.eligible(), next_due(hub.state, hub.now)) == ([], start)
    hub.send("suspend", control=True)
    turn = hub.turn()
    assert turn.control_only
    assert ids(turn.messages) == ["event", "suspend"]
    outcome = hub.commit(turn, consumes=("suspend",))
    assert outcome.messages == ()
    assert hub.eligible() == []
    hub.now = start
    turn = hub.turn()
    assert (turn.start, ids(turn.messages), turn.control_only) == (b"start", ["event"], False)


def test_timer_the_clock_never_runs_backwards(hub: Hub) -> None:
    hub.started(timers=(message("t", due_us=hub.now + SECOND),))
    hub.now += 2 * SECOND
    assert ids(hub.turn().messages) == ["t"]
    hub.now -= 10 * SECOND
    assert hub.grant().now_us == hub.state.now_us == hub.now + 10 * SECOND
    assert hub.beat().now_us == hub.now + 10 * SECOND
    hub.create("j")
    assert hub.row("j").created_us == hub.now + 10 * SECOND


def test_timer_the_earlier_visible_comes_first(hub: Hub) -> None:
    turn = hub.started(timers=(message("timeout", due_us=hub.now + 10),))
    hub.now += 5
    hub.send("in time")
    hub.now += 100
    hub.send("late")
    hub.committed(turn)
    assert ids(hub.commit(hub_turn(hub)).messages) == ["in time", "timeout", "late"]


# ── 9: progress ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress_only_known_names_are_handed_out(hub: Hub) -> None:
    hub.create()
    hub.send("m", "@counter@1", creates="counter")
    nobody, orch, entity = Selectors(), Selectors(frozenset({"orch", "counter"})), Selectors(entities=frozenset({"counter", "orch"}))
    assert (hub.eligible(selectors=nobody), hub.eligible(selectors=orch)) == ([], ["i"])
    assert hub.eligible(selectors=entity) == ["@counter@1"]
    hub.send("terminate", control=True)
    assert hub.eligible(selectors=nobody) == ["i"]
    turn = hub.turn(selectors=nobody)
    assert turn.control_only
    assert ids(turn.messages) == ["terminate"]


def test_progress_a_suspended_instance_buffers_until_control(hub: Hub) -> None:
    suspended, running = RecordUpdate(InstanceStatus.SUSPENDED), RecordUpdate(InstanceStatus.RUNNING)
    turn = hub.started()
    hub.send("a")
    outcome = hub.commit(turn, record=suspended, hold_us=SECOND)
    assert (outcome.messages, hub.row().claimed, hub.row().holder) == ((), False, "w1")
    hub.send("b")
    assert hub.eligible() == []
    hub.send("resume", control=True)
    turn = hub.turn()
    assert turn.control_only
    assert ids(turn.messages) == ["a", "b", "resume"]
    outcome = hub.commit(turn, consumes=("resume",), record=running)
    assert ids(outcome.messages) == ["a", "b"]


def test_progress_a_suspended_commit_goes_on_with_control(hub: Hub) -> None:
    turn = hub.started()
    hub.send("a")
    hub.send("resume", control=True)
    assert ids(hub.commit(turn, record=RecordUpdate(InstanceStatus.SUSPENDED)).messages) == ["a", "resume"]


def test_progress_no_backlog_hides_control() -> None:
    hub = Hub(messages_per_claim=2)
    hub.started()
    for id in "abcd":
        hub.send(id)
    hub.send("terminate", control=True)
    turn = hub.turn()
    assert (ids(turn.messages), turn.more) == (["a", "b", "terminate"], True)
    outcome = hub.commit(turn, consumes=("a", "terminate"))
    assert (ids(outcome.messages), outcome.more) == (["b", "c"], True)
    outcome = hub.commit(replace(turn, version=turn.version + 1), consumes=("b", "c"))
    assert (ids(outcome.messages), outcome.more) == (["d"], False)


def test_progress_back_off_then_on_with_the_problem_shown(hub: Hub) -> None:
    hub.create()
    turn = hub.turn()
    hub.do(Release("i", turn.execution, turn.epoch, problem="broken", delay_us=SECOND))
    record = record_of(hub.state, "i")
    assert record is not None
    assert (record.problem, record.attempt, record.parked) == ("broken", 1, False)
    assert (hub.eligible(), next_due(hub.state, hub.now)) == ([], hub.now + SECOND)
    hub.now += SECOND
    turn = hub.turn()
    hub.committed(turn, append=b"[]", append_count=1)
    assert (hub.row().problem, hub.row().attempt, hub.row().not_before_us) == (None, 0, 0)


def test_progress_a_parked_instance_waits_for_control(hub: Hub) -> None:
    hub.started()
    hub.send("poison")
    turn = hub.turn()
    hub.do(Release("i", turn.execution, turn.epoch, problem="poison", park=True))
    hub.send("m")
    hub.now += 3600 * SECOND
    assert hub.eligible() == []
    hub.send("resume", control=True)
    turn = hub.turn()
    assert turn.control_only
    hub.committed(turn, consumes=("resume",))
    assert (hub.row().parked, hub.row().claimed) == (False, True)


def test_progress_a_release_keeps_what_it_does_not_name(hub: Hub) -> None:
    hub.create(delay_us=10 * SECOND)
    hub.send("suspend", control=True)
    turn = hub.turn()
    hub.do(Release("i", turn.execution, turn.epoch, problem="p"))
    turn = hub.turn(worker="w2")
    hub.do(Release("i", turn.execution, turn.epoch, delay_us=SECOND))
    assert (hub.row().not_before_us, hub.row().problem) == (hub.now + 10 * SECOND, "p")


def test_progress_a_release_frees_a_hold(hub: Hub) -> None:
    turn = hub.started(hold_us=60 * SECOND)
    hub.send("m")
    assert hub.eligible("w2") == []
    assert hub.status(Release("i", turn.execution, turn.epoch)) is OK
    assert hub.eligible("w2") == ["i"]


def test_progress_the_oldest_due_comes_first(hub: Hub) -> None:
    for id in "abc":
        hub.started(id)
    for id in "bac":
        hub.now += 1
        hub.send(f"m{id}", id)
    assert hub.eligible() == ["b", "a", "c"]
    turn = hub.turn("b")
    hub.now += 1
    hub.do(Release("b", turn.execution, turn.epoch, delay_us=1, uncount=True))
    hub.now += 1
    assert hub.eligible() == ["a", "c", "b"], "what backed off queues behind"


def test_progress_suspects_run_alone(hub: Hub) -> None:
    for id in ("a", "s1", "b", "s2"):
        hub.now += 10
        hub.create(id)
        if id.startswith("s"):
            hub.turn(id)
    hub.do(AbandonWorker("w1"))
    assert hub.eligible("w2") == ["a", "b"], "younger suspects are left out"
    hub.now += STEAL_AFTER_US
    assert hub.eligible("w2") == ["a"], "but nothing overtakes one that has waited"
    assert [turn.instance for turn in hub.grant("a", "s1", "b", worker="w2").turns] == ["a", "b"]
    assert hub.eligible("w2") == ["s1"]
    hub.create("c")
    (turn,) = hub.grant("s1", "c", "s2", worker="w2").turns
    assert (turn.instance, turn.attempt) == ("s1", 2)


def test_progress_next_due_never_oversleeps_a_hold(hub: Hub) -> None:
    assert next_due(hub.state, hub.now) is None
    hub.started(hold_us=60 * SECOND)
    assert next_due(hub.state, hub.now) is None
    hub.send("m")
    assert next_due(hub.state, hub.now) == hub.now + STEAL_AFTER_US
    hub.now += STEAL_AFTER_US - 1
    assert hub.eligible("w2") == []
    assert next_due(hub.state, hub.now) == hub.now + 1
    assert next_due(hub.state, hub.now, among=["nobody"]) is None


def test_progress_next_due_tells_the_end_of_a_short_hold(hub: Hub) -> None:
    hub.started(hold_us=SECOND // 2)
    hub.send("m")
    assert next_due(hub.state, hub.now) == hub.now + SECOND // 2


# ── 10: order ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_order_is_of_arrival_also_across_pages() -> None:
    hub = Hub(messages_per_claim=3)
    hub.started()
    for n in range(8):
        hub.send(f"m{n}", sender="s")
    turn = hub.turn()
    seen: list[str] = ids(turn.messages)
    batch = turn.messages
    while batch:
        outcome = hub.commit(turn, consumes=tuple(ids(batch)))
        turn, batch = replace(turn, version=turn.version + 1), outcome.messages
        seen += ids(batch)
    assert seen == [f"m{n}" for n in range(8)]


# ── children ──────────────────────────────────────────────────────────────────────────────────────────────────────


def child_of(turn: ClaimedTurn, execution: str, id: str = "child") -> CreateInstance:
    parent = ParentRef(turn.instance, turn.execution)
    return CreateInstance(id, execution, "orch", b"s", parent=parent, bounce=message(f"bounce {execution}", turn.instance))


def test_child_a_taken_id_bounces_into_the_parents_next_turn(hub: Hub) -> None:
    turn = hub.started()
    hub.create("child")
    outcome = hub.commit(turn, creates=(child_of(turn, "cx"),))
    assert (outcome.status, ids(outcome.messages)) == (OK, ["bounce cx"])
    assert hub.row("child").execution != "cx"


def test_child_a_second_start_bounces_while_the_first_runs_and_replaces_it_when_ended(hub: Hub) -> None:
    turn = hub.started()
    outcome = hub.commit(turn, creates=(child_of(turn, "c1"), child_of(turn, "c2")))
    assert ids(outcome.messages) == ["bounce c2"]
    hub.committed(hub.turn("child", "w2"), "w2", record=COMPLETED, append=b"[]", append_count=1)
    turn = hub.committed(replace(turn, version=2), consumes=("bounce c2",), creates=(child_of(turn, "c3"),))
    assert (hub.row("child").execution, hub.row("child").status, hub.inbox()) == ("c3", InstanceStatus.PENDING, [])
    record = record_of(hub.state, "child")
    assert record is not None
    assert (record.output, record.history_length, hub.state.history.get("child")) == (None, 0, None)


def test_child_of_a_stranger_is_never_replaced(hub: Hub) -> None:
    turn, stranger = hub.started(), hub.started("stranger")
    hub.committed(stranger, creates=(child_of(stranger, "c1"),))
    hub.committed(hub.turn("child"), record=COMPLETED)
    assert ids(hub.commit(turn, creates=(replace(child_of(turn, "c2"), reuse="replace_ended"),)).messages) == ["bounce c2"]


def test_child_with_its_parents_own_id_bounces(hub: Hub) -> None:
    turn = hub.started()
    assert ids(hub.commit(turn, creates=(child_of(turn, "cx", "i"),)).messages) == ["bounce cx"]
    turn = replace(turn, version=2)
    hub.committed(turn, creates=(CreateInstance("i", "cy", "orch", b"", reuse="replace_ended"),), record=COMPLETED)
    assert hub.row().execution == turn.execution
    record = record_of(hub.state, "i")
    assert record is not None
    assert (record.start, record.output, [row.first for row in hub.state.history["i"]]) == (b"start", b"out", [0])


def test_child_a_clients_create_bounces_once(hub: Hub) -> None:
    turn = hub.started()
    hub.create("child")
    command = replace(child_of(turn, "cx"), request_id="r")
    assert (hub.status(command), hub.unchanged(command)) == (EXISTS, REPEATED)
    assert hub.inbox() == ["bounce cx"]


@pytest.mark.parametrize(
    ("reuse", "of_running", "of_ended"),
    [("error", EXISTS, EXISTS), ("return_existing", EXISTS, EXISTS), ("replace_ended", EXISTS, OK), ("terminate_and_replace", OK, OK)],
)
def test_create_reuse(hub: Hub, reuse: Any, of_running: OutcomeStatus, of_ended: OutcomeStatus) -> None:
    turn = hub.started(tasks=(NewTask("t", "act", b""),), timers=(message("t", due_us=10**15),))
    assert hub.create(reuse=reuse).status is of_running
    if of_running is EXISTS:
        assert hub.row().execution == turn.execution
        hub.committed(turn, record=COMPLETED)
    assert hub.create(reuse=reuse).status is of_ended
    if of_ended is OK:
        assert (hub.row().status, hub.row().version, hub.row().last_commit) == (InstanceStatus.PENDING, 0, "")
        assert (hub.inbox(), list(hub.state.tasks), hub.state.history) == ([], [], {})
        assert hub.state.details == {("i", "start"): b"start"}
        assert hub.commit(turn).status is FENCED


def test_create_in_place_of_another_hands_none_of_its_messages_over(hub: Hub) -> None:
    hub.started()
    hub.send("old")
    turn = hub.create(reuse="terminate_and_replace", worker="w1").turn
    assert turn is not None
    assert turn.messages == ()


def test_create_entities_only_by_message(hub: Hub) -> None:
    outcome = hub.create("@counter@1")
    assert outcome.status is REJECTED
    assert isinstance(outcome.error, UsageError)


# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_entity_is_created_by_a_message_and_keeps_a_snapshot(hub: Hub) -> None:
    assert hub.send("scoped", "@counter@1", creates="counter", execution="x") is GONE
    assert hub.send("m", "@counter@1", creates="counter") is OK
    assert hub.send("n", "@counter@1", creates="counter") is OK
    turn = hub.turn("@counter@1")
    assert (turn.name, turn.execution, turn.status, turn.start, turn.snapshot) == ("counter", "m", InstanceStatus.RUNNING, None, None)
    outcome = hub.commit(turn, consumes=("m", "n"), snapshot=b"7", hold_us=SECOND)
    assert (outcome.messages, hub.eligible()) == ((), [])
    hub.send("o", "@counter@1")
    turn = hub.turn("@counter@1")
    assert (turn.snapshot, turn.history_length) == (b"7", 0)
    record = record_of(hub.state, "@counter@1")
    assert record is not None
    assert (record.snapshot, record.start) == (b"7", b"")
    hub.committed(turn, consumes=("o",), snapshot=b"")
    assert hub.state.details == {}


def test_entity_is_created_by_a_commits_message(hub: Hub) -> None:
    hub.committed(hub.started(), messages=(message("m", "@counter@1", creates="counter"), message("n", "@counter@1")))
    assert ids(hub.turn("@counter@1").messages) == ["m", "n"]


# ── 11: continue as new ───────────────────────────────────────────────────────────────────────────────────────────


def test_continue_keeps_what_is_not_of_the_old_execution(hub: Hub) -> None:
    hub.started(tasks=(NewTask("t", "act", b""),), record=RecordUpdate(custom_status=b"cs"))
    old = hub.row().execution
    hub.send("event")
    hub.send("old reply", execution=old)
    turn = hub.turn()
    outcome = hub.commit(
        turn,
        append=b"[2]",
        append_count=1,
        tasks=(NewTask("u", "act", b""),),
        timers=(message("old timer", execution=old), message("new timer", execution="x2", due_us=hub.now + 5)),
        next_execution=NextExecution("x2", b"again"),
    )
    assert (outcome.status, ids(outcome.messages)) == (OK, ["event"])
    assert (hub.inbox(), list(hub.state.tasks), hub.state.history) == (["event", "new timer"], [], {})
    row = hub.row()
    assert (row.execution, row.status, row.history_length, row.version, row.claimed) == ("x2", InstanceStatus.RUNNING, 0, 2, True)
    record = record_of(hub.state, "i")
    assert record is not None
    assert (record.start, record.custom_status) == (b"again", b"cs")
    assert hub.send("late reply", execution=old) is GONE
    turn = replace(turn, execution="x2", version=2)
    hub.committed(turn, append=b"[1]", append_count=1, consumes=("event",))
    hub.now += 5
    assert ids(hub.turn().messages) == ["new timer"], "a timer as the first act fires"


def test_continue_goes_on_at_once_and_hands_the_start_out_again_if_the_worker_dies(hub: Hub) -> None:
    turn = hub.started()
    assert hub.commit(turn, next_execution=NextExecution("x2", b"again")).messages == ()
    assert (hub.row().claimed, hub.eligible("w2")) == (True, [])
    hub.do(AbandonWorker("w1"))
    again = hub.turn(worker="w2")
    assert (again.start, again.execution, again.attempt, again.history_length) == (b"again", "x2", 1, 0)


def test_continue_with_keep_tasks(hub: Hub) -> None:
    hub.committed(hub.started(tasks=(NewTask("t", "act", b""),)), next_execution=NextExecution("x2", b""), keep_tasks=True)
    assert list(hub.state.tasks) == ["t"]
    assert hub.status(CompleteTask("t", message("t"))) is OK
    assert hub.inbox() == []


# ── 12: purge, obituaries ─────────────────────────────────────────────────────────────────────────────────────────


def traces(hub: Hub, id: str) -> list[str]:
    state = hub.state
    tables: list[Any] = [state.instances, state.details, state.inbox, state.tasks, state.history]
    return [str(key) for table in tables for key, value in table.items() if id in (key, key[0], getattr(value, "instance", None))]


def test_purge_leaves_nothing_and_nothing_resurrects(hub: Hub) -> None:
    record = RecordUpdate(custom_status=b"c")
    turn = hub.started("victim", tasks=(NewTask("t", "act", b""),), timers=(message("x", "victim", due_us=10**15),), record=record)
    outcome = hub.do(Purge("victim"))
    assert outcome.status is REJECTED
    assert isinstance(outcome.error, UsageError)
    assert traces(hub, "victim")
    assert hub.status(Purge("victim", force=True)) is OK
    assert traces(hub, "victim") == []
    assert hub.unchanged(Purge("victim")) is GONE
    assert hub.unchanged(hub.turn_of(turn, append=b"[9]", append_count=1)) is GONE
    assert hub.unchanged(CompleteTask("t", message("t", "victim"))) is GONE
    assert hub.unchanged(Release("victim", turn.execution, turn.epoch)) is GONE
    hub.create("victim")
    assert hub.unchanged(hub.turn_of(turn)) is FENCED


def test_purge_of_an_ended_one_needs_no_force(hub: Hub) -> None:
    hub.create()
    hub.end()
    assert hub.status(Purge("i")) is OK


@pytest.mark.parametrize("how", ["purge", "replace"])
def test_purge_delivers_the_obituaries_of_what_had_not_ended(hub: Hub, how: str) -> None:
    hub.started("heir")
    obituaries = (message("o1", "heir"), message("o2", "@lock@1", creates="lock"), message("o3", "nobody"))
    hub.started(obituaries=obituaries)
    assert hub.state.details["i", "obituaries"] == encode_messages(obituaries)
    assert (hub.do(Purge("i", force=True)) if how == "purge" else hub.create(reuse="terminate_and_replace")).status is OK
    assert (hub.inbox("heir"), hub.inbox("@lock@1")) == (["o1"], ["o2"])
    assert ("i", "obituaries") not in hub.state.details


def test_purge_delivers_none_of_what_ended_or_took_them_back(hub: Hub) -> None:
    hub.started("heir")
    hub.create(obituaries=(message("o", "heir"),))
    hub.end()
    assert hub.status(Purge("i")) is OK
    hub.create(obituaries=(message("o", "heir"),))
    turn = hub.committed(hub.turn(), append=b"[]", append_count=1)
    assert ("i", "obituaries") in hub.state.details, "None leaves them"
    hub.committed(turn, obituaries=())
    assert hub.status(Purge("i", force=True)) is OK
    assert hub.inbox("heir") == []


# ── 13: attempts ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_attempt_counts_claims_since_the_last_accepted_commit(hub: Hub) -> None:
    hub.create()
    for attempt in (1, 2, 3):
        turn = hub.turn()
        assert turn.attempt == attempt
        hub.do(Release("i", turn.execution, turn.epoch))
    turn = hub.turn()
    hub.do(Release("i", turn.execution, turn.epoch, uncount=True))
    turn = hub.turn()
    assert turn.attempt == 4
    assert hub.commit(replace(turn, epoch=0)).status is FENCED
    assert hub.row().attempt == 4
    hub.committed(turn, append=b"[]", append_count=1, hold_us=SECOND)
    hub.send("m")
    assert hub.turn().attempt == 0, "the holder's own claim counts none"
    hub.do(AbandonWorker("w1"))
    assert hub.turn(worker="w2").attempt == 1


# ── 14: queries ───────────────────────────────────────────────────────────────────────────────────────────────────


def queryable() -> Hub:
    hub = Hub()
    for n in range(7):
        hub.now += n % 2
        hub.create(f"i{n % 4}-{n}", parent=ParentRef("p%", "x") if n % 3 == 0 else None)
    hub.end("i1-1")
    hub.send("m", "@counter@1", creates="counter")
    return hub


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, "i0-0 i1-1 i2-2 i0-4 i3-3 i1-5 i2-6"),
        ({"statuses": frozenset({InstanceStatus.COMPLETED})}, "i1-1"),
        ({"name": "orch", "id_prefix": "i0"}, "i0-0 i0-4"),
        ({"id_prefix": "%"}, ""),
        ({"name": "counter"}, ""),
        ({"parent": "p%"}, "i0-0 i3-3 i2-6"),
        ({"created_from_us": 1_000 * SECOND + 1, "created_to_us": 1_000 * SECOND + 2}, "i1-1 i2-2"),
        ({"updated_from_us": 1_000 * SECOND + 3}, "i1-1 i1-5 i2-6"),
        ({"entities": True}, "@counter@1"),
    ],
)
def test_query_pages_equal_the_filter(fields: dict[str, Any], found: str) -> None:
    hub, ids, cursor = queryable(), list[str](), None
    while True:
        page = query(hub.state, InstanceFilter(**fields), limit=2, cursor=cursor)
        ids += [record.instance for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.records) == 2
    assert sorted(ids) == sorted(found.split())
    assert ids == sorted(ids, key=lambda id: (hub.row(id).created_us, id))


def test_query_a_page_that_takes_the_rest_is_the_last() -> None:
    assert query(queryable().state, InstanceFilter(), limit=7).cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "1", "x:i", "-1:i", "²:i"])
def test_query_a_bad_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="not a cursor"):
        read_cursor(cursor)


# ── 15: bytes, limits ─────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_and_ids_are_arbitrary() -> None:
    messages = (Message("\0'%_/😀", "@A@'", bytes(range(256)), None, "s", -1, True, "a"), Message("", "", b"", execution="x"))
    assert decode_messages(encode_messages(messages)) == messages
    assert decode_messages(encode_messages(())) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"append": b"12345", "append_count": 1},
        {"tasks": (NewTask("t", "act", b"12345"),)},
        {"messages": (Message("m", "i", b"12345"),)},
        {"timers": (Message("m", "i", b"12345"),)},
        {"creates": (CreateInstance("c", "cx", "orch", b"12345"),)},
        {"record": RecordUpdate(custom_status=b"12345")},
        {"record": RecordUpdate(output=b"12345")},
        {"record": RecordUpdate(failure=b"12345")},
        {"snapshot": b"12345"},
        {"next_execution": NextExecution("x2", b"12345")},
    ],
)
def test_bytes_over_the_limit_reject_the_command_alone(fields: dict[str, Any]) -> None:
    hub = Hub(max_payload_bytes=5)
    turn = hub.started()
    hub.state.limits = replace(hub.state.limits, max_payload_bytes=4)
    command = hub.turn_of(turn, **fields)
    outcome = hub.do(command)
    assert outcome.status is REJECTED
    assert isinstance(outcome.error, PayloadTooLargeError)
    hub.state.limits = replace(hub.state.limits, max_payload_bytes=5)
    assert hub.status(command) is OK


# ── what is read ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_needs_adds_up_over_a_batch() -> None:
    commit = CommitTurn("i", "x", 1, 1, "w1", "c", consumes=("a",), settles=("t",), cancel_tasks=("u",))
    child = CreateInstance("c", "cx", "orch", b"", bounce=message("b", "p"))
    found = needs([commit, commit, SendMessage(message("m", "j")), Beat("w", 1), Purge("k"), child], messages_per_claim=10)
    assert (found.instances, found.inboxes, found.tasks) == ({"i", "j", "k", "c", "p"}, {"i": 2 * 14}, {"t", "u"})
    assert (found.messages, found.details, found.all_workers) == ({("i", "t")}, {("k", "obituaries")}, True)
    assert (found.inbox_heads, needs([Purge("k", idle_version=1)]).inbox_heads) == (set(), {"k"})
    assert needs([replace(commit, next_execution=NextExecution("x2", b""))]).inboxes["i"] > 10**9, "all: who knows how many are dropped"
