"""How commands are cut into batches changes neither outcomes nor the final state."""

from __future__ import annotations

from typing import Any

from durable_conformance.driver import Driver, after, ended
from durable_conformance.properties import Property, proves
from durable_core.backend import Command, Purge, Release, SendMessage

pytestmark = proves(Property.BATCHING)


async def _turns(hub: Driver, at: str) -> dict[str, Any]:
    turns = {}
    for name in ("a", "b"):
        create = hub.creation(at + name, execution=f"{at}e{name}", request_id=f"{at}r{name}", worker="w")
        outcome = await hub.one(create)
        assert outcome.turn is not None
        turns[name] = outcome.turn
    return turns


def _program(hub: Driver, at: str, turns: dict[str, Any]) -> list[Command]:
    """Each command depends on earlier ones: sends to what was just created, completes what was just scheduled, reuses what was purged."""
    a, b = turns["a"], turns["b"]

    def message(target: str, number: int) -> Any:
        return hub.message(at + target, str(number).encode(), id=f"{at}m{number}")

    def create(name: str, number: int, **fields: Any) -> Any:
        return hub.creation(at + name, execution=f"{at}x{number}", request_id=f"{at}q{number}", **fields)

    children = (create("child", 1), create("child", 2))
    return [
        SendMessage(message("new", 1)),
        create("new", 3),
        SendMessage(message("new", 2)),
        hub.turn(a, commit_id=f"{at}c1", creates=children, messages=(message("child", 3), message("b", 4)), tasks=(hub.task(at + "t"),)),
        hub.completion(at + "t", a),
        hub.turn(b, commit_id=f"{at}c2", consumes=(f"{at}m4",), record=ended()),
        SendMessage(message("b", 5)),
        Purge(at + "b"),
        hub.turn(after(b), commit_id=f"{at}c3"),
        create("b", 4),
        SendMessage(message("b", 6)),
        hub.turn(a, commit_id=f"{at}c4"),
        hub.turn(after(a), commit_id=f"{at}c5", consumes=(at + "t",)),
        Release(at + "a", a.execution, a.epoch),
        SendMessage(message("child", 7)),
    ]


async def _run(hub: Driver, at: str, cuts: set[int]) -> str:
    """Everything that can be seen of a run, without its names and times."""
    turns = await _turns(hub, at)
    program = _program(hub, at, turns)
    outcomes, batch = [], list[Command]()
    for number, command in enumerate(program):
        if number in cuts and batch:
            outcomes += await hub.apply(*batch)
            batch = []
        batch.append(command)
    outcomes += await hub.apply(*batch)
    records, histories = await hub.dump()
    rest = await hub.rest(f"rest of {at}")
    seen = [
        [(outcome.status, outcome.messages) for outcome in outcomes],
        [(r.instance, r.execution, r.status, r.version, r.history_length) for r in records if r.instance.startswith(at)],
        [rows for id, rows in histories.items() if id.startswith(at)],
        sorted((turn.instance, turn.start, turn.messages) for turn in rest.turns),
        [task.id for task in rest.tasks],
    ]
    return repr(seen).replace(at, "")


async def test_however_a_program_is_cut(hub: Driver) -> None:
    await hub.register()
    length = 15
    whole = await _run(hub, "00/", set())
    every_way = [set(range(length)), *({cut} for cut in range(1, length)), set(range(0, length, 2)), set(range(0, length, 3))]
    for number, cuts in enumerate(every_way, 1):
        assert await _run(hub, f"{number:02}/", cuts) == whole, f"cut before {sorted(cuts)}"
