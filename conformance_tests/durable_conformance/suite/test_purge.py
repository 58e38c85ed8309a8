"""Purging: nothing survives, nothing resurrects, obituaries are delivered."""

from __future__ import annotations

import pytest

from durable_conformance.driver import HOUR_US, Driver, after, ended, status_of
from durable_conformance.properties import Property, proves, proving
from durable_core.backend import InstanceFilter, OutcomeStatus, Purge, RecordUpdate, Release

ENTITY = "@counter@k"


@proves(Property.PURGE)
async def test_nothing_survives(hub: Driver) -> None:
    turn = await hub.running(
        tasks=(hub.task("t"), hub.task("u", claim=True)),
        timers=(hub.message("i", due_us=1 << 60),),
        record=RecordUpdate(custom_status=b"1"),
        snapshot=b"2",
    )
    await hub.send("i")
    assert status_of(await hub.apply(Purge("i", force=True), Purge("i", force=True))) == [OutcomeStatus.OK, OutcomeStatus.GONE]
    assert await hub.record() is None
    assert await hub.history("i", turn.execution) == []
    assert (await hub.backend.query_instances(InstanceFilter(), limit=10)).records == ()
    claim = await hub.claim()
    assert (claim.turns, claim.tasks, claim.next_due_us) == ((), (), None)
    assert (
        status_of(
            await hub.apply(
                hub.turn(after(turn)), hub.completion("t", turn), hub.completion("u", turn), Release("i", turn.execution, turn.epoch)
            )
        )
        == [OutcomeStatus.GONE] * 4
    )
    await hub.create("i")
    record = await hub.existing()
    assert (record.custom_status, record.snapshot) == (None, None)
    assert (await hub.claimed()).messages == ()


@proves(Property.PURGE)
async def test_only_ended_instances_unless_by_force(hub: Driver) -> None:
    turn = await hub.started()
    outcome = await hub.one(Purge("i"))
    assert outcome.status is OutcomeStatus.REJECTED
    assert outcome.error is not None
    await hub.commit(turn, record=ended())
    assert (await hub.one(Purge("i"))).status is OutcomeStatus.OK


@proves(Property.PURGE)
@pytest.mark.parametrize("later", [False, True])
async def test_what_is_idle_is_purged_without_losing_a_message(hub: Driver, later: bool) -> None:
    await hub.register()
    await hub.send(ENTITY, creates="counter")
    turn = await hub.claimed(ENTITY)
    await hub.commit(turn, append=None, snapshot=b"", consumes=(turn.messages[0].id,), hold_us=0)
    version = turn.version + 1
    assert (await hub.one(Purge(ENTITY, idle_version=turn.version))).status is OutcomeStatus.FENCED, "it has changed since"
    message = await hub.send(ENTITY, creates="counter", due_us=1 << 60 if later else 0)
    assert (await hub.one(Purge(ENTITY, idle_version=version))).status is OutcomeStatus.FENCED, "a message has arrived"
    if later:
        return
    again = await hub.claimed(ENTITY)
    assert again.messages == (message,)
    await hub.commit(again, append=None, snapshot=b"", consumes=(message.id,), hold_us=0)
    assert (await hub.one(Purge(ENTITY, idle_version=version))).status is OutcomeStatus.FENCED
    assert (await hub.one(Purge(ENTITY, idle_version=version + 1))).status is OutcomeStatus.OK
    assert (await hub.one(Purge(ENTITY, idle_version=version + 1))).status is OutcomeStatus.GONE


@proves(Property.PURGE)
async def test_epochs_outlive_a_purge(hub: Driver) -> None:
    old = await hub.started()
    await hub.one(Purge("i", force=True))
    await hub.create("i", execution=old.execution)
    new = await hub.claimed()
    with proving(Property.FENCE):
        assert new.epoch > old.epoch
        assert (await hub.one(hub.turn(old))).status is OutcomeStatus.FENCED


@proves(Property.CONSERVATION)
async def test_a_forced_purge_delivers_obituaries_and_an_ordinary_one_does_not(hub: Driver) -> None:
    await hub.register()
    await hub.create("heir")
    await hub.commit(await hub.claimed("heir"))
    turns = {}
    for instance in ("a", "b"):
        await hub.create(instance, obituaries=(hub.message("heir", b"replaced"),))
        turns[instance] = await hub.claimed(instance)
    for instance, force in (("a", True), ("b", False)):
        obituary = hub.message("heir", instance.encode())
        await hub.commit(turns[instance], obituaries=(obituary, hub.message("nobody")), record=None if force else ended())
        assert (await hub.one(Purge(instance, force=force))).status is OutcomeStatus.OK
    assert [message.payload for message in (await hub.claimed("heir")).messages] == [b"a"]


@proves(Property.PURGE)
async def test_purge_and_create_in_one_batch(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    await hub.send("i")
    outcomes = await hub.apply(Purge("i", force=True), hub.creation("i", worker="w"), Purge("i", force=True), hub.creation("i"))
    assert status_of(outcomes) == [OutcomeStatus.OK] * 4
    assert await hub.history() == []
    assert (await hub.one(hub.turn(turn, hold_us=HOUR_US))).status is OutcomeStatus.FENCED
    claim = await hub.claim()
    assert [(turn.instance, turn.messages, turn.attempt) for turn in claim.turns] == [("i", (), 1)]
    assert claim.tasks == ()
