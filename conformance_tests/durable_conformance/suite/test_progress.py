"""Nothing blocks others, and nothing is passed over; also what other projects had bugs with."""

from __future__ import annotations

import pytest

from durable_conformance.driver import HOUR_US, SECOND_US, Driver, after, ended, status_of
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import InstanceStatus, NextExecution, OutcomeStatus, Purge, RecordUpdate, Release, SendMessage

ENTITY = "@counter@k"


@proves(Property.PROGRESS)
async def test_what_cannot_run_does_not_block_what_can(hub: Driver) -> None:
    """In front: the suspended, the parked, those that back off, the unknown, and an event for nobody."""
    await hub.register()
    for number in range(12):
        await hub.create(f"{number:02}")
    for number, turn in enumerate((await hub.claim()).turns):
        if number % 3 == 0:
            await hub.commit(turn, record=RecordUpdate(status=InstanceStatus.SUSPENDED), hold_us=0)
        else:
            park, delay_us = (True, 0) if number % 3 == 1 else (False, HOUR_US)
            fence = turn.instance, turn.execution, turn.epoch
            await hub.one(Release(*fence, problem="poison", park=park, delay_us=delay_us))
        await hub.send(turn.instance)
    for number in range(10):
        await hub.create(f"1 unknown {number}", name="unheard of")
    assert (await hub.one(SendMessage(hub.message("nobody")))).status is OutcomeStatus.GONE
    await hub.create("2 healthy")
    claim = await hub.claim(turns=1)
    assert [turn.instance for turn in claim.turns] == ["2 healthy"]
    await hub.commit(claim.turns[0], hold_us=0)
    await hub.send("2 healthy")
    assert [turn.instance for turn in (await hub.claim(turns=1)).turns] == ["2 healthy"]


@requires("frozen_clock")
@proves(Property.PROGRESS)
async def test_a_suspect_is_not_passed_over_for_ever(hub: Driver) -> None:
    turn = await hub.started("suspect")
    await hub.one(Release("suspect", turn.execution, turn.epoch))
    for number in range(10):
        hub.harness.advance_clock(SECOND_US // 2)
        await hub.create(f"young {number}")
        claim = await hub.claim(turns=1)
        if [turn.instance for turn in claim.turns] == ["suspect"]:
            return
    pytest.fail("ten younger ones were served first")


@requires("frozen_clock")
@proves(Property.DEAF)
async def test_a_claim_says_when_to_look_again(hub: Driver) -> None:
    turn = await hub.started()
    now_us = (await hub.claim(turns=0, tasks=0)).now_us
    await hub.commit(turn, timers=(hub.message("i", due_us=now_us + 7 * SECOND_US),), hold_us=0)
    assert (await hub.claim()).next_due_us == now_us + 7 * SECOND_US


@proves(Property.CONSERVATION)
async def test_old_new_and_unscoped_messages_in_one_batch(hub: Driver) -> None:
    """A stale completion does not take a live event with it."""
    turn = await hub.running(tasks=(hub.task("stale"),))
    await hub.commit(turn, append=None, next_execution=NextExecution("next", b""), keep_tasks=True)
    following = after(turn, execution="next")
    await hub.commit(following, tasks=(hub.task("fresh"),))
    event, scoped = hub.message("i", b"event"), hub.message("i", b"scoped", execution="next")
    outcomes = await hub.apply(hub.completion("stale", turn), SendMessage(event), hub.completion("fresh", following), SendMessage(scoped))
    assert status_of(outcomes) == [OutcomeStatus.OK] * 4
    with proving(Property.GENERATIONS):
        assert [message.payload for message in (await hub.claimed()).messages] == [b"event", b'"result"', b"scoped"]


@proves(Property.CONSERVATION)
async def test_the_activity_of_a_terminated_instance_is_over(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.register("w2")
    assert len((await hub.claim("w2")).tasks) == 1
    await hub.commit(turn, record=ended(InstanceStatus.TERMINATED))
    assert (await hub.one(hub.completion("t", turn))).status is OutcomeStatus.GONE
    await hub.register("w3")
    assert (await hub.claim("w3")).tasks == ()


@proves(Property.RETRY)
async def test_a_consumed_entity_message_is_not_delivered_again(hub: Driver) -> None:
    """A lock request that came twice would lock for ever."""
    await hub.register()
    send = SendMessage(hub.message(ENTITY, b"lock", creates="counter"))
    await hub.one(send)
    turn = await hub.claimed(ENTITY)
    await hub.commit(turn, append=None, snapshot=b"locked", consumes=(send.message.id,), hold_us=0)
    assert (await hub.one(send)).status is OutcomeStatus.ALREADY_APPLIED
    assert (await hub.claim()).turns == ()


@proves(Property.PURGE)
async def test_a_purge_with_a_queued_terminate_leaves_a_quiet_hub(hub: Driver) -> None:
    await hub.running(hold_us=0)
    await hub.send("i", b"terminate", control=True)
    await hub.send("i", b"event")
    await hub.one(Purge("i", force=True))
    rest = await hub.rest()
    assert (rest.turns, rest.tasks, rest.next_due_us) == ((), (), None)
    await hub.create("i")
    with proving(Property.PROGRESS):
        assert (await hub.claimed()).messages == ()
