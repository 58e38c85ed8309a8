"""Commits: the fence, what a turn writes, retries, ends and continue-as-new."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from durable_conformance.driver import Driver, after, ended, status_of
from durable_conformance.properties import Property, proves, proving
from durable_core.backend import HistoryRange, InstanceStatus, NextExecution, OutcomeStatus, Purge, RecordUpdate, Release, SendMessage


@proves(Property.HISTORY)
async def test_an_accepted_turn_is_appended_and_counted(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, append=b"[1,2]", append_count=2)
    await hub.commit(after(turn), append=b"[3]", append_count=1)
    record = await hub.existing()
    assert (record.status, record.version, record.history_length) == (InstanceStatus.RUNNING, 2, 3)
    assert await hub.history() == [b"[1,2]", b"[3]"]


@proves(Property.FENCE)
@pytest.mark.parametrize("change", [{"epoch": -1}, {"epoch": 1}, {"version": -1}, {"version": 1}, {"execution": "x"}])
async def test_a_stale_fence_changes_nothing(hub: Driver, change: dict[str, int | str]) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.create("other")
    before = await hub.existing(), await hub.history()
    fields = {name: value if isinstance(value, str) else getattr(turn, name) + value for name, value in change.items()}
    command = hub.turn(
        replace(turn, **fields),
        settles=("t",),
        tasks=(hub.task("t2"),),
        messages=(hub.message("other"),),
        creates=(hub.creation("new", request_id=""),),
        timers=(hub.message("i"),),
        record=ended(),
    )
    assert (await hub.one(command)).status is OutcomeStatus.FENCED
    assert (await hub.existing(), await hub.history()) == before
    assert await hub.record("new") is None
    claim = await hub.claim()
    assert [task.id for task in claim.tasks] == ["t"]
    assert [len(turn.messages) for turn in claim.turns] == [0]


@proves(Property.FENCE)
async def test_a_commit_is_accepted_after_its_lease_unless_somebody_claimed(hub: Driver) -> None:
    turn = await hub.started()
    await hub.one(Release(turn.instance, turn.execution, turn.epoch))
    await hub.commit(turn)


@proves(Property.FENCE)
async def test_of_two_turns_of_one_instance_only_the_later_claim_commits(hub: Driver) -> None:
    old = await hub.started()
    await hub.one(Release(old.instance, old.execution, old.epoch))
    new = await hub.claimed()
    assert new.epoch > old.epoch
    assert status_of(await hub.apply(hub.turn(old), hub.turn(new))) == [OutcomeStatus.FENCED, OutcomeStatus.OK]


@proves(Property.RETRY)
async def test_a_repeated_commit_is_recognised(hub: Driver) -> None:
    turn = await hub.started()
    command = hub.turn(turn, tasks=(hub.task("t"),))
    assert status_of(await hub.apply(command, command)) == [OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED]
    assert (await hub.one(command)).status is OutcomeStatus.ALREADY_APPLIED
    assert len(await hub.history()) == 1
    assert len((await hub.claim()).tasks) == 1


@proves(Property.RETRY)
async def test_a_repeated_ending_commit_is_recognised(hub: Driver) -> None:
    command = hub.turn(await hub.started(), record=ended())
    assert status_of(await hub.apply(command, command)) == [OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED]


@proves(Property.PURGE)
async def test_a_commit_to_a_missing_instance_is_gone(hub: Driver) -> None:
    turn = await hub.running()
    await hub.one(Purge("i", force=True))
    assert (await hub.one(hub.turn(turn))).status is OutcomeStatus.GONE
    assert await hub.record() is None


@proves(Property.BATCHING)
async def test_one_batch_creates_a_child_messages_it_and_commits_its_parent(hub: Driver) -> None:
    turn = await hub.started("parent")
    child = hub.creation("child", request_id="")
    outcomes = await hub.apply(
        hub.turn(turn, creates=(child,), messages=(hub.message("child", b"1"),), hold_us=1),
        SendMessage(hub.message("child", b"2")),
        SendMessage(hub.message("nobody", b"3")),
    )
    assert status_of(outcomes) == [OutcomeStatus.OK, OutcomeStatus.OK, OutcomeStatus.GONE]
    assert [message.payload for message in (await hub.claimed("child")).messages] == [b"1", b"2"]


@proves(Property.CONSERVATION)
async def test_messages_are_consumed_by_name_not_by_a_watermark(hub: Driver) -> None:
    turn = await hub.running()
    first, second, third = [await hub.send("i", payload) for payload in (b"1", b"2", b"3")]
    claimed = await hub.claimed()
    assert claimed.messages == (first, second, third)
    outcome = await hub.commit(claimed, consumes=(second.id, "never heard of"))
    assert outcome.messages == (first, third), "what was not consumed comes with the outcome"
    assert (await hub.claim()).turns == (), "and counts as claimed"
    assert (await hub.commit(after(claimed), consumes=(first.id, third.id))).messages == ()
    assert turn.epoch == claimed.epoch, "the holder's own claim raises no epoch"


@proves(Property.RETRY)
async def test_the_messages_of_a_lost_reply_come_with_the_repeated_commit(hub: Driver) -> None:
    await hub.running()
    message = await hub.send()
    command = hub.turn(await hub.claimed())
    with proving(Property.CONSERVATION):
        assert (await hub.one(command)).messages == (message,)
    again = await hub.one(command)
    assert (again.status, again.messages) == (OutcomeStatus.ALREADY_APPLIED, (message,))


@proves(Property.HISTORY)
async def test_the_record_shows_what_the_turn_says(hub: Driver) -> None:
    turn = await hub.running(record=RecordUpdate(custom_status=b'"half"'), problem="slow")
    record = await hub.existing()
    assert (record.custom_status, record.problem, record.output) == (b'"half"', "slow", None)
    await hub.commit(turn, record=RecordUpdate(status=InstanceStatus.FAILED, failure=b'"why"'))
    record = await hub.existing()
    assert (record.status, record.custom_status, record.failure, record.problem) == (InstanceStatus.FAILED, b'"half"', b'"why"', None)


@proves(Property.CONSERVATION)
async def test_an_end_drops_inbox_timers_and_tasks(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),), timers=(hub.message("i", due_us=1 << 60),))
    await hub.commit(turn, record=ended(), messages=(hub.message("i"),))
    claim = await hub.claim()
    assert (claim.turns, claim.tasks) == ((), ())
    assert (await hub.one(SendMessage(hub.message("i")))).status is OutcomeStatus.ENDED
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.GONE


@proves(Property.CONSERVATION)
async def test_an_end_may_keep_its_tasks(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.commit(turn, record=ended(), keep_tasks=True)
    assert [task.id for task in (await hub.claim()).tasks] == ["t"]
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.OK, "deleted, its message dropped"
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.GONE


@proves(Property.FENCE)
async def test_an_ended_instance_accepts_no_turn(hub: Driver) -> None:
    turn = await hub.running()
    await hub.commit(turn, record=ended())
    assert (await hub.one(hub.turn(after(turn)))).status is OutcomeStatus.FENCED


@proves(Property.GENERATIONS)
async def test_continue_as_new_starts_over_and_keeps_unscoped_messages(hub: Driver) -> None:
    turn = await hub.running(timers=(hub.message("i", due_us=1 << 60, id="timer"),), tasks=(hub.task("t"),))
    event = await hub.send("i", b'"event"')
    scoped = await hub.send("i", b'"scoped"', execution=turn.execution)
    claimed = await hub.claimed()
    assert claimed.messages == (event, scoped)
    outcome = await hub.commit(claimed, append=None, next_execution=NextExecution("next", b'"again"'))
    assert outcome.messages == (event,)
    record = await hub.existing()
    assert (record.execution, record.status, record.start, record.history_length) == ("next", InstanceStatus.RUNNING, b'"again"', 0)
    with proving(Property.HISTORY):
        assert await hub.history() == []
        assert await hub.history("i", turn.execution) == []
    assert (await hub.claim()).tasks == ()
    assert (await hub.one(SendMessage(hub.message("i", execution=turn.execution)))).status is OutcomeStatus.GONE
    following = replace(after(claimed), execution="next")
    await hub.commit(following, append=b"[1]", append_count=1, consumes=(event.id,))
    with proving(Property.HISTORY):
        assert await hub.history() == [b"[1]"]


@proves(Property.GENERATIONS)
async def test_a_released_next_execution_is_claimed_with_its_start(hub: Driver) -> None:
    turn = await hub.running()
    await hub.commit(turn, append=None, next_execution=NextExecution("next", b'"again"'), hold_us=0, worker="gone")
    claimed = await hub.claimed()
    assert (claimed.execution, claimed.start, claimed.history_length) == ("next", b'"again"', 0)


@proves(Property.ATOMICITY)
async def test_an_end_is_not_also_a_beginning(hub: Driver) -> None:
    turn = await hub.running()
    command = hub.turn(turn, append=None, record=ended(), next_execution=NextExecution("next", b""))
    assert (await hub.one(command)).status is OutcomeStatus.REJECTED
    await hub.commit(turn)


@proves(Property.BATCHING)
async def test_a_fenced_or_rejected_command_spoils_nothing(hub: Driver) -> None:
    turn = await hub.running()
    outcomes = await hub.apply(
        hub.turn(replace(turn, version=99)), hub.creation("@not@allowed"), Purge("i"), hub.turn(turn), hub.creation("j")
    )
    expected = [OutcomeStatus.FENCED, OutcomeStatus.REJECTED, OutcomeStatus.REJECTED, OutcomeStatus.OK, OutcomeStatus.OK]
    assert status_of(outcomes) == expected


@proves(Property.HISTORY)
async def test_history_is_read_in_pages(hub: Driver) -> None:
    turn = await hub.started()
    for _ in range(10):
        await hub.commit(turn, append=b"x" * 100, append_count=2)
        turn = after(turn)
    (page,) = await hub.backend.read_history([HistoryRange("i", first=4, max_bytes=250)])
    assert [(row.first, row.count) for row in page.rows] == [(4, 2), (6, 2)]
    assert page.next == 8
    (page,) = await hub.backend.read_history([HistoryRange("i", first=18, max_bytes=1)])
    assert [row.first for row in page.rows] == [18]
    assert page.next is None
    missing, other, beyond = await hub.backend.read_history([HistoryRange("x"), HistoryRange("i", "x"), HistoryRange("i", first=20)])
    assert missing.rows == other.rows == beyond.rows == ()
    assert len(await hub.history()) == 10
