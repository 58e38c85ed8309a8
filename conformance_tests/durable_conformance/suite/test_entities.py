"""Entities: created by a message, a snapshot instead of a history."""

from __future__ import annotations

from durable_conformance.driver import Driver, after
from durable_conformance.properties import Property, proves
from durable_core.backend import InstanceStatus, OutcomeStatus, Purge, Selectors, SendMessage

ENTITY = "@counter@k"


@proves(Property.CONSERVATION)
async def test_a_message_creates_its_entity(hub: Driver) -> None:
    await hub.register()
    first = await hub.send(ENTITY, creates="counter")
    second = await hub.send(ENTITY, creates="counter")
    record = await hub.existing(ENTITY)
    assert (record.name, record.status, record.history_length) == ("counter", InstanceStatus.RUNNING, 0)
    claimed = await hub.claimed(ENTITY)
    assert (claimed.messages, claimed.start, claimed.snapshot) == ((first, second), None, None)


@proves(Property.CONSERVATION)
async def test_without_creates_there_is_no_entity(hub: Driver) -> None:
    assert (await hub.one(SendMessage(hub.message(ENTITY)))).status is OutcomeStatus.GONE
    assert await hub.record(ENTITY) is None


@proves(Property.PROGRESS)
async def test_entities_and_orchestrations_of_one_name_are_kept_apart(hub: Driver) -> None:
    await hub.register()
    await hub.send(ENTITY, creates="counter")
    await hub.create("i", name="counter")
    entities = await hub.claim(selectors=Selectors(entities=frozenset({"counter"})))
    assert [turn.instance for turn in entities.turns] == [ENTITY]
    orchestrations = await hub.claim(selectors=Selectors(orchestrators=frozenset({"counter"})))
    assert [turn.instance for turn in orchestrations.turns] == ["i"]


@proves(Property.FENCE)
async def test_the_snapshot_is_part_of_the_turn(hub: Driver) -> None:
    await hub.register()
    message = await hub.send(ENTITY, creates="counter")
    turn = await hub.claimed(ENTITY)
    assert (await hub.one(hub.turn(after(turn), append=None, snapshot=b"9"))).status is OutcomeStatus.FENCED
    await hub.commit(turn, append=None, snapshot=b"1", consumes=(message.id,), hold_us=0)
    assert (await hub.existing(ENTITY)).snapshot == b"1"
    following = await hub.send(ENTITY, creates="counter")
    turn = await hub.claimed(ENTITY)
    assert (turn.snapshot, turn.version, turn.messages) == (b"1", 1, (following,))
    await hub.commit(turn, append=None, snapshot=b"", consumes=(following.id,))
    assert (await hub.existing(ENTITY)).snapshot is None


@proves(Property.PROGRESS)
async def test_an_entity_without_messages_is_not_claimable(hub: Driver) -> None:
    await hub.register()
    message = await hub.send(ENTITY, creates="counter")
    await hub.commit(await hub.claimed(ENTITY), append=None, consumes=(message.id,), hold_us=0)
    assert (await hub.claim()).turns == ()


@proves(Property.ORDER)
async def test_a_turn_creates_entities_and_messages_them_in_order(hub: Driver) -> None:
    turn = await hub.started()
    messages = tuple(hub.message(ENTITY, str(number).encode(), creates="counter", sender="i") for number in range(20))
    await hub.commit(turn, messages=messages)
    assert (await hub.claimed(ENTITY)).messages == messages


@proves(Property.PURGE)
async def test_a_purged_entity_starts_anew(hub: Driver) -> None:
    await hub.register()
    await hub.send(ENTITY, creates="counter")
    turn = await hub.claimed(ENTITY)
    await hub.commit(turn, append=None, snapshot=b"1")
    assert (await hub.one(Purge(ENTITY))).status is OutcomeStatus.REJECTED, "entities do not end"
    assert (await hub.one(Purge(ENTITY, force=True))).status is OutcomeStatus.OK
    message = await hub.send(ENTITY, creates="counter")
    claimed = await hub.claimed(ENTITY)
    assert (claimed.snapshot, claimed.messages) == (None, (message,))
    assert (await hub.one(hub.turn(after(turn), append=None, snapshot=b"2"))).status is OutcomeStatus.FENCED
