"""Bytes, ids and sizes: whatever goes in comes out."""

from __future__ import annotations

import pytest

from durable_conformance.driver import Driver, after, ended, status_of
from durable_conformance.properties import Property, proves
from durable_core.backend import InstanceFilter, OutcomeStatus, ParentRef, RecordUpdate, SendMessage
from durable_core.errors import PayloadTooLargeError

pytestmark = proves(Property.BYTES)

PAYLOADS = [b"", b"\0", b'"a\0b"', bytes(range(256)), '"\U0001f600 ü \u2028"'.encode(), b"'; DROP TABLE instance; --", b"%_\\", b"null"]
IDS = [
    "i",
    "a\0b",
    "a\0c",
    "a",
    "\0",
    "A",
    "ü",
    "u\u0308",
    "\U0001f600",
    "100%",
    "a_b",
    "a/b",
    "it's",
    '"',
    "\\",
    "x" * 512,
    " ",
    "\u2028",
    "${x}",
    "a\nb",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
async def test_any_payload_in_any_place(hub: Driver, payload: bytes) -> None:
    await hub.create("i", start=payload, obituaries=(hub.message("heir", payload),))
    await hub.create("heir")
    await hub.register()
    await hub.send("i", payload)
    claims = {turn.instance: turn for turn in (await hub.claim()).turns}
    turn = claims["i"]
    assert turn.start == payload
    assert [message.payload for message in turn.messages] == [payload]
    record = RecordUpdate(custom_status=payload, output=payload, failure=payload)
    outcome = await hub.commit(turn, append=payload, append_count=1, tasks=(hub.task("t", payload=payload),), record=record, problem="a\0b")
    assert [message.payload for message in outcome.messages] == [payload]
    shown = await hub.existing()
    assert (shown.start, shown.custom_status, shown.output, shown.failure, shown.problem) == (payload, payload, payload, payload, "a\0b")
    assert await hub.history() == [payload]
    assert [task.payload for task in (await hub.claim()).tasks] == [payload]


async def test_any_text_as_an_id(hub: Driver) -> None:
    await hub.register(*(f"w{id}" for id in IDS))
    for id in IDS:
        outcome = await hub.one(hub.creation(id, execution=id, name="orch", request_id=f"create {id}", parent=ParentRef(id, id)))
        assert outcome.status is OutcomeStatus.OK, id
    turns = {turn.instance: turn for turn in (await hub.claim(f"w{IDS[1]}", claim_id=IDS[1])).turns}
    assert set(turns) == set(IDS)
    again = await hub.claim(f"w{IDS[1]}", claim_id=IDS[1])
    assert {turn.instance: turn for turn in again.turns} == turns
    worker = f"w{IDS[1]}"
    for id in IDS:
        message = hub.message(id, id=id, sender=id, execution=id)
        assert (await hub.one(SendMessage(message))).status is OutcomeStatus.OK
        assert (await hub.one(SendMessage(message))).status is OutcomeStatus.ALREADY_APPLIED
        command = hub.turn(turns[id], worker, commit_id=id, consumes=(), tasks=(hub.task(id),), hold_us=1)
        outcome = await hub.one(command)
        assert outcome.messages == (message,), id
        assert (await hub.one(command)).status is OutcomeStatus.ALREADY_APPLIED
    assert {task.id for task in (await hub.claim(worker, turns=0)).tasks} == set(IDS)
    for id in IDS:
        assert (await hub.commit(after(turns[id]), worker, settles=(id,), consumes=(id,))).messages == ()
    records = await hub.backend.get_instances(IDS)
    assert [record and (record.instance, record.execution, record.parent) for record in records] == [
        (id, id, ParentRef(id, id)) for id in IDS
    ]
    for prefix in ("a", "a\0", "\U0001f600", "x" * 511, "%", "_", "u"):
        page = await hub.backend.query_instances(InstanceFilter(id_prefix=prefix), limit=100)
        assert {record.instance for record in page.records} == {id for id in IDS if id.startswith(prefix)}, prefix
    for id in IDS:
        page = await hub.backend.query_instances(InstanceFilter(parent=id), limit=100)
        assert [record.instance for record in page.records] == [id]


async def test_a_mebibyte_everywhere(hub: Driver) -> None:
    big = bytes(range(256)) * 4096
    await hub.register()
    await hub.create("i", start=big)
    message = await hub.send("i", big)
    turn = await hub.claimed()
    assert (turn.start, turn.messages) == (big, (message,))
    outcome = await hub.commit(
        turn, append=big, append_count=3, tasks=(hub.task("t", payload=big),), record=RecordUpdate(custom_status=big)
    )
    assert outcome.messages == (message,)
    assert [task.payload for task in (await hub.claim()).tasks] == [big]
    await hub.commit(after(turn), consumes=(message.id,), settles=("t",), record=ended(output=big))
    record = await hub.existing()
    assert (record.start, record.custom_status, record.output) == (big, big, big)
    assert (await hub.history())[0] == big


async def test_many_large_messages_are_handed_out_in_order(hub: Driver) -> None:
    await hub.running()
    messages = [hub.message("i", bytes([number]) * 20_000) for number in range(100)]
    await hub.apply(*map(SendMessage, messages))
    assert list((await hub.claimed()).messages) == messages


async def test_a_payload_over_the_limit_is_rejected_alone(hub: Driver) -> None:
    turn = await hub.started()
    large = bytes(hub.capabilities.max_payload_bytes + 1)
    outcomes = await hub.apply(hub.turn(turn, append=large, append_count=1), SendMessage(hub.message("i", large)), hub.creation("j"))
    assert status_of(outcomes) == [OutcomeStatus.REJECTED, OutcomeStatus.REJECTED, OutcomeStatus.OK]
    assert all(isinstance(outcome.error, PayloadTooLargeError) for outcome in outcomes[:2])
    assert await hub.history() == []
    await hub.commit(turn)


async def test_text_that_is_no_unicode_is_rejected_alone_or_kept(hub: Driver) -> None:
    """A lone surrogate cannot be written as UTF-8: a store may refuse it, but then alone."""
    outcomes = await hub.apply(hub.creation("a"), hub.creation("\ud800"), hub.creation("b"))
    assert (outcomes[0].status, outcomes[2].status) == (OutcomeStatus.OK, OutcomeStatus.OK)
    kept = await hub.record("\ud800")
    if outcomes[1].status is OutcomeStatus.REJECTED:
        assert outcomes[1].error is not None
        assert kept is None
    else:
        assert kept is not None
    assert await hub.record("a") is not None
    assert await hub.record("b") is not None


@proves(Property.BATCHING)
@pytest.mark.parametrize("count", [1_100, pytest.param(5_000, marks=pytest.mark.durable_full)])
async def test_a_large_batch(hub: Driver, count: int) -> None:
    """More than the engine ever submits at once, and more than a driver takes parameters."""
    await hub.register()
    ids = [f"i{number}" for number in range(count)]
    outcomes = await hub.backend.apply([hub.creation(id) for id in ids])
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.OK}
    records = await hub.backend.get_instances(ids)
    assert [record and record.instance for record in records] == ids
    claim = await hub.claim(turns=count)
    assert len(claim.turns) == count
    outcomes = await hub.backend.apply([hub.turn(turn, tasks=(hub.task(f"t{turn.instance}"),)) for turn in claim.turns])
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.OK}
    assert len((await hub.claim(tasks=count)).tasks) == count
