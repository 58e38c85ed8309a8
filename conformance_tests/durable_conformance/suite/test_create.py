"""Creating instances: unique ids, reuse policies, children, delays."""

from __future__ import annotations

import pytest

from durable_conformance.driver import HOUR_US, SECOND_US, Driver, after, ended, status_of
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import InstanceStatus, OutcomeStatus, ParentRef, Purge, ReusePolicy


@proves(Property.HISTORY)
async def test_a_new_instance_is_pending_with_its_start(hub: Driver) -> None:
    command = await hub.create("i", start=b'{"n":1}')
    record = await hub.existing("i")
    assert (record.status, record.execution, record.name) == (InstanceStatus.PENDING, command.execution, "orch")
    assert (record.start, record.version, record.history_length, record.attempt) == (b'{"n":1}', 0, 0, 0)
    assert await hub.history("i") == []


@proves(Property.RETRY)
async def test_a_repeated_create_is_recognised(hub: Driver) -> None:
    command = await hub.create("i")
    assert (await hub.one(command)).status is OutcomeStatus.ALREADY_APPLIED
    await hub.register()
    await hub.commit(await hub.claimed(), record=ended())
    assert (await hub.one(command)).status is OutcomeStatus.ALREADY_APPLIED, "also when it has ended"


@proves(Property.RETRY)
async def test_a_create_repeated_after_its_instance_was_replaced_does_not_bring_it_back(hub: Driver) -> None:
    first = await hub.create("i")
    second = await hub.create("i", reuse="terminate_and_replace")
    assert (await hub.one(first)).status is OutcomeStatus.ALREADY_APPLIED
    assert (await hub.existing()).execution == second.execution


@proves(Property.CONSERVATION)
@pytest.mark.parametrize("reuse", ["error", "return_existing", "replace_ended"])
async def test_a_live_instance_is_not_replaced(hub: Driver, reuse: ReusePolicy) -> None:
    first = await hub.create("i")
    assert (await hub.one(hub.creation("i", reuse=reuse))).status is OutcomeStatus.EXISTS
    assert (await hub.existing()).execution == first.execution


@proves(Property.CONSERVATION)
@pytest.mark.parametrize("reuse", ["error", "return_existing"])
async def test_an_ended_instance_is_not_replaced_unless_asked_for(hub: Driver, reuse: ReusePolicy) -> None:
    await hub.commit(await hub.started(), record=ended())
    assert (await hub.one(hub.creation("i", reuse=reuse))).status is OutcomeStatus.EXISTS


@proves(Property.PURGE)
@pytest.mark.parametrize("reuse", ["replace_ended", "terminate_and_replace"])
async def test_replacing_an_ended_instance_leaves_nothing_of_it(hub: Driver, reuse: ReusePolicy) -> None:
    turn = await hub.started()
    await hub.commit(turn, record=ended())
    second = await hub.create("i", reuse=reuse)
    record = await hub.existing()
    assert (record.status, record.execution, record.output) == (InstanceStatus.PENDING, second.execution, None)
    assert await hub.history("i") == []
    assert await hub.history("i", turn.execution) == []
    assert (await hub.claimed()).start == second.start


@proves(Property.FENCE)
async def test_a_replaced_execution_cannot_commit(hub: Driver) -> None:
    turn = await hub.running()
    await hub.create("i", reuse="terminate_and_replace")
    assert (await hub.one(hub.turn(turn))).status is OutcomeStatus.FENCED
    assert (await hub.existing()).status is InstanceStatus.PENDING


@proves(Property.CONSERVATION)
async def test_replacing_a_live_instance_delivers_its_obituaries(hub: Driver) -> None:
    await hub.create("i", obituaries=(hub.message("heir", b'"gone"'),))
    await hub.create("heir")
    await hub.create("i", reuse="terminate_and_replace")
    await hub.register()
    turns = (await hub.claim()).turns
    assert [(turn.instance, [message.payload for message in turn.messages]) for turn in turns if turn.messages] == [("heir", [b'"gone"'])]


@proves(Property.RETRY)
async def test_creating_with_a_worker_claims_at_once(hub: Driver) -> None:
    await hub.register()
    command = hub.creation("i", worker="w")
    outcome = await hub.one(command)
    assert outcome.turn is not None
    assert (outcome.turn.attempt, outcome.turn.start) == (1, command.start)
    with proving(Property.LEASE):
        assert (await hub.claim()).turns == (), "the turn is out already"
    again = await hub.one(command)
    assert (again.status, again.turn) == (OutcomeStatus.ALREADY_APPLIED, outcome.turn), "a lost reply is given again"
    await hub.commit(outcome.turn)


@proves(Property.LEASE)
async def test_an_unregistered_worker_gets_no_turn(hub: Driver) -> None:
    outcome = await hub.one(hub.creation("i", worker="nobody"))
    assert (outcome.status, outcome.turn) == (OutcomeStatus.OK, None)


@proves(Property.TIMERS)
@requires("frozen_clock")
async def test_a_delayed_start_waits(hub: Driver) -> None:
    await hub.register()
    await hub.create("i", delay_us=10 * SECOND_US, worker="w")
    early = await hub.claim()
    assert early.turns == ()
    assert early.next_due_us == early.now_us + 10 * SECOND_US
    hub.harness.advance_clock(10 * SECOND_US)
    assert (await hub.claimed()).start == b'"start"'


@proves(Property.CONSERVATION)
async def test_a_child_bounces_off_a_taken_id(hub: Driver) -> None:
    parent = await hub.running("parent")
    await hub.create("taken")
    bounce = hub.message("parent", b'"taken"', execution=parent.execution)
    child = hub.creation("taken", request_id="", parent=ParentRef("parent", parent.execution), bounce=bounce)
    outcome = await hub.commit(parent, creates=(child,))
    assert [message.payload for message in outcome.messages] == [b'"taken"']


@proves(Property.CONSERVATION)
async def test_a_child_replaces_only_an_ended_child_of_its_own_parent(hub: Driver) -> None:
    parent = await hub.running("parent")
    ref = ParentRef("parent", parent.execution)
    first = hub.creation("child", request_id="", parent=ref)
    await hub.commit(parent, creates=(first,))
    child = await hub.claimed("child")
    await hub.commit(child, record=ended())
    second = hub.creation("child", request_id="", parent=ref, bounce=hub.message("parent"))
    assert (await hub.commit(after(parent), creates=(second,))).messages == ()
    record = await hub.existing("child")
    assert (record.execution, record.parent, record.status) == (second.execution, ref, InstanceStatus.PENDING)


@proves(Property.BATCHING)
async def test_one_batch_may_create_twice(hub: Driver) -> None:
    outcomes = await hub.apply(hub.creation("i"), hub.creation("i"), hub.creation("j"))
    assert status_of(outcomes) == [OutcomeStatus.OK, OutcomeStatus.EXISTS, OutcomeStatus.OK]


@proves(Property.BATCHING)
async def test_an_entity_cannot_be_created_as_an_orchestration(hub: Driver) -> None:
    outcomes = await hub.apply(hub.creation("@counter@k"), hub.creation("i"))
    assert status_of(outcomes) == [OutcomeStatus.REJECTED, OutcomeStatus.OK]
    assert outcomes[0].error is not None


@proves(Property.PROGRESS)
async def test_a_purged_id_can_be_used_again(hub: Driver) -> None:
    await hub.commit(await hub.started(), record=ended())
    assert (await hub.one(Purge("i"))).status is OutcomeStatus.OK
    command = await hub.create("i")
    turn = await hub.claimed()
    assert turn.execution == command.execution
    await hub.commit(turn, hold_us=HOUR_US)


@proves(Property.CONSERVATION)
async def test_a_control_message_of_a_turn_reaches_its_children_only(hub: Driver) -> None:
    """Whoever gives up the call of a child does not know whether its id was taken: a stranger must not be ended in its place."""
    parent = await hub.started()
    await hub.create("stranger")
    child = hub.creation("child", request_id="", parent=ParentRef(parent.instance, parent.execution))
    control = [hub.message(target, control=True) for target in ("stranger", "child", parent.instance)]
    outcome = await hub.commit(parent, creates=(child,), messages=tuple(control))
    assert outcome.messages == ()
    turns = {turn.instance: turn.messages for turn in (await hub.claim(turns=5)).turns}
    assert turns["stranger"] == ()
    assert [message.id for message in turns["child"]] == [control[1].id]
