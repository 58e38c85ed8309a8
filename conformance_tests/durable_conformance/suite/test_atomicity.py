"""All of a turn or none of it: a part that is refused, a call that is given up, a handle that dies in the middle of one."""

from __future__ import annotations

from typing import Any

import pytest

from durable_conformance.driver import Driver, after, ended
from durable_conformance.faults import give_up
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import Backend, CommitTurn, OutcomeStatus, RecordUpdate

pytestmark = proves(Property.ATOMICITY)


def _everything(hub: Driver, turn: Any, **more: Any) -> CommitTurn:
    """A turn with one of each."""
    fields: dict[str, Any] = {
        "tasks": (hub.task("new"),),
        "settles": ("old",),
        "messages": (hub.message("other", b"sent"),),
        "creates": (hub.creation("child", request_id=""),),
        "timers": (hub.message("i", due_us=1 << 60),),
        "record": RecordUpdate(custom_status=b"new"),
        "hold_us": 1 << 40,
    }
    return hub.turn(turn, **(fields | more))


async def _prepare(hub: Driver) -> Any:
    turn = await hub.running(tasks=(hub.task("old"),))
    await hub.create("other", name="other")
    return turn


async def _visible(hub: Driver, on: Backend) -> set[str]:
    """Which parts of ``_everything`` are there."""
    record, child = await on.get_instances(["i", "child"])
    assert record is not None
    await hub.register("looks", on=on)
    claim = await hub.claim("looks", on=on)
    payloads = [message.payload for turn in claim.turns for message in turn.messages]
    tasks = {task.id for task in claim.tasks}
    parts = {
        "version": record.version == 2,
        "history": record.history_length == 2,
        "status": record.custom_status == b"new",
        "child": child is not None,
        "message": b"sent" in payloads,
        "task": "new" in tasks,
        "settled": "old" not in tasks,
    }
    return {part for part, there in parts.items() if there}


ALL_PARTS = {"version", "history", "status", "child", "message", "task", "settled"}


@pytest.mark.parametrize("part", ["append", "tasks", "messages", "creates", "timers", "record", "snapshot", "obituaries"])
async def test_one_part_that_is_refused_takes_the_others_with_it(hub: Driver, part: str) -> None:
    turn = await _prepare(hub)
    large = bytes(hub.capabilities.max_payload_bytes + 1)
    bad: dict[str, Any] = {
        "append": large,
        "tasks": (hub.task("new"), hub.task("large", payload=large)),
        "messages": (hub.message("other", b"sent"), hub.message("other", large)),
        "creates": (hub.creation("child", request_id=""), hub.creation("large", request_id="", start=large)),
        "timers": (hub.message("i", large, due_us=1 << 60),),
        "record": RecordUpdate(custom_status=large),
        "snapshot": large,
        "obituaries": (hub.message("other", large),),
    }
    changes = {part: bad[part]} | ({"append_count": 1} if part == "append" else {})
    before = await hub.dump()
    assert (await hub.one(_everything(hub, turn, **changes))).status is OutcomeStatus.REJECTED
    assert await hub.dump() == before
    assert await _visible(hub, hub.backend) == set()
    await hub.commit(turn, record=ended())


async def test_the_record_agrees_with_the_history_after_every_turn(hub: Driver) -> None:
    turn = await hub.started()
    for number in range(1, 6):
        await hub.commit(turn, append=b"x", append_count=2)
        turn = after(turn)
        record = await hub.existing()
        assert (record.history_length, len(await hub.history())) == (2 * number, number)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 20])
async def test_a_call_that_is_given_up(hub: Driver, steps: int) -> None:
    """Whoever waits for it may be cancelled; submitted again, the turn is there once."""
    turn = await _prepare(hub)
    command = _everything(hub, turn)
    await give_up(hub.backend.apply([command]), steps)
    again = await hub.one(command)
    with proving(Property.RETRY):
        assert again.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED)
    assert await _visible(hub, hub.backend) == ALL_PARTS


@requires("many_handles")
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 20])
async def test_a_handle_that_dies_in_a_commit(hub: Driver, steps: int) -> None:
    turn = await _prepare(hub)
    other = await hub.harness.open()
    command = _everything(hub, turn)
    await give_up(other.apply([command]), steps)
    await hub.harness.kill(other)
    assert await _visible(hub, hub.backend) in (set(), ALL_PARTS)
    again = await hub.one(command)
    with proving(Property.RETRY):
        assert again.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED)
        assert (await hub.existing()).version == 2
