"""Queries: every condition, stable paging."""

from __future__ import annotations

from typing import Any

import pytest

from durable_conformance.driver import Driver, after, ended
from durable_conformance.properties import Property, proves, requires
from durable_core.backend import InstanceFilter, InstanceRecord, InstanceStatus, ParentRef, Purge, RecordUpdate
from durable_core.errors import UsageError


async def _all(hub: Driver, condition: InstanceFilter, limit: int = 3) -> list[InstanceRecord]:
    records: list[InstanceRecord] = []
    cursor: str | None = None
    while True:
        page = await hub.backend.query_instances(condition, limit=limit, cursor=cursor)
        assert len(page.records) <= limit
        records += page.records
        if page.cursor is None:
            return records
        assert page.records, "a page that is not the last one is not empty"
        cursor = page.cursor


async def _populate(hub: Driver) -> None:
    """Instances in every state, of two names, with and without parents, created one microsecond apart, two of each moment."""
    await hub.register()
    statuses = [
        None,
        InstanceStatus.RUNNING,
        InstanceStatus.SUSPENDED,
        InstanceStatus.COMPLETED,
        InstanceStatus.FAILED,
        InstanceStatus.TERMINATED,
    ]
    for number in range(24):
        instance = f"{'ab%_'[number % 4]}{number:02}"
        parent = ParentRef("a00", "e") if number % 3 == 0 else None
        command = hub.creation(instance, name="orch" if number % 2 else "other", parent=parent, worker="w")
        turn = (await hub.one(command)).turn
        assert turn is not None
        status = statuses[number % len(statuses)]
        if status is not None:
            await hub.commit(turn, record=RecordUpdate(status=status, output=instance.encode()))
        if number % 2:
            hub.harness.advance_clock(1)
    for key in ("k1", "k2"):
        await hub.send(f"@counter@{key}", creates="counter")


CONDITIONS: list[dict[str, Any]] = [
    {},
    {"statuses": frozenset({InstanceStatus.FAILED})},
    {"statuses": frozenset({InstanceStatus.PENDING, InstanceStatus.COMPLETED})},
    {"statuses": frozenset[InstanceStatus]()},
    {"name": "orch"},
    {"id_prefix": "a"},
    {"id_prefix": "a0"},
    {"id_prefix": "%"},
    {"id_prefix": "_1"},
    {"id_prefix": ""},
    {"id_prefix": "A"},
    {"id_prefix": "\U0010ffff"},
    {"parent": "a00"},
    {"parent": "nobody"},
    {"name": "other", "parent": "a00", "id_prefix": "a", "statuses": frozenset({InstanceStatus.SUSPENDED, InstanceStatus.PENDING})},
    {"entities": True},
    {"entities": True, "id_prefix": "@counter@k2"},
    {"entities": True, "id_prefix": "a"},
    {"entities": True, "name": "orch"},
]


def _matches(record: InstanceRecord, condition: InstanceFilter) -> bool:
    """Said once more, in other words than the hub's."""
    wanted = [
        record.instance.startswith("@") is condition.entities,
        condition.statuses is None or record.status in condition.statuses,
        condition.name is None or record.name == condition.name,
        condition.id_prefix is None or record.instance[: len(condition.id_prefix)] == condition.id_prefix,
        condition.parent is None or (record.parent is not None and record.parent.instance == condition.parent),
        condition.created_from_us is None or record.created_us >= condition.created_from_us,
        condition.created_to_us is None or record.created_us < condition.created_to_us,
        condition.updated_from_us is None or record.updated_us >= condition.updated_from_us,
        condition.updated_to_us is None or record.updated_us < condition.updated_to_us,
    ]
    return all(wanted)


@requires("frozen_clock")
@proves(Property.QUERY)
async def test_every_condition_and_their_combinations(hub: Driver) -> None:
    await _populate(hub)
    everything = await _all(hub, InstanceFilter(), 100) + await _all(hub, InstanceFilter(entities=True), 100)
    assert len(everything) == 26
    everything.sort(key=lambda record: (record.created_us, record.instance))
    created = sorted({record.created_us for record in everything})
    ranges: list[dict[str, Any]] = [
        {"created_from_us": created[3]},
        {"created_to_us": created[5]},
        {"created_from_us": created[2], "created_to_us": created[7]},
        {"updated_from_us": created[4], "updated_to_us": created[6]},
    ]
    for fields in CONDITIONS + ranges + [one | other for one in CONDITIONS for other in ranges]:
        condition = InstanceFilter(**fields)
        expected = [record for record in everything if _matches(record, condition)]
        for limit in (1, 4, 100):
            assert await _all(hub, condition, limit) == expected, (fields, limit)


@proves(Property.QUERY)
async def test_what_matches_throughout_is_returned_exactly_once(hub: Driver) -> None:
    await hub.register()
    for number in range(20):
        await hub.create(f"i{number:02}")
    seen: list[str] = []
    cursor: str | None = None
    for step in range(10):
        page = await hub.backend.query_instances(InstanceFilter(), limit=2, cursor=cursor)
        seen += [record.instance for record in page.records]
        cursor = page.cursor
        # Meanwhile: a new one, one that ends, two that are purged (one of them was returned already), all of them updated.
        await hub.create(f"new{step}")
        for turn in (await hub.claim(turns=2)).turns:
            await hub.commit(turn, record=ended())
        await hub.one(Purge(f"i{19 - step:02}", force=True))
        await hub.one(Purge(f"i{step:02}", force=True))
    assert len(set(seen)) == len(seen)
    assert {f"i{number:02}" for number in range(10)} <= set(seen)


@proves(Property.QUERY)
async def test_an_ended_instance_is_found_with_its_output(hub: Driver) -> None:
    turn = await hub.running()
    await hub.commit(turn, record=ended(output=b"42"))
    (record,) = await _all(hub, InstanceFilter(statuses=frozenset({InstanceStatus.COMPLETED})))
    assert record == await hub.existing()
    assert record.output == b"42"
    assert after(turn).version == record.version


@proves(Property.QUERY)
async def test_a_cursor_is_not_invented(hub: Driver) -> None:
    with pytest.raises(UsageError):
        await hub.backend.query_instances(InstanceFilter(), limit=1, cursor="rubbish")


@proves(Property.QUERY)
async def test_records_come_in_the_order_asked_for(hub: Driver) -> None:
    await hub.create("a")
    await hub.create("b")
    records = await hub.backend.get_instances(["b", "missing", "a", "b"])
    assert [record and record.instance for record in records] == ["b", None, "a", "b"]
    assert await hub.backend.get_instances([]) == []
    assert await hub.backend.read_history([]) == []
    assert await hub.backend.apply([]) == []
