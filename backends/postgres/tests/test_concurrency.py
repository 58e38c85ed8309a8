"""Workers that get in each other's way: no deadlock, no wedge, each thing once. (DURABLE_CROSSINGS: rounds of the first test.)"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable_conformance.driver import ALL, HOUR_US, after
from durable_core.backend import (
    AbandonWorker,
    CompleteTask,
    CreateInstance,
    Message,
    OutcomeStatus,
    ParentRef,
    Purge,
    Selectors,
    SendMessage,
)
from durable_postgres.testing import find_faults

PROGRAMS = Path(__file__).parent / "programs"
ROUNDS = int(os.environ.get("DURABLE_CROSSINGS", "300"))


async def run(program: str, *arguments: object) -> str:
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_two_processes_that_message_each_other_all_the_time(handle: Any, drive: Any, url: str) -> None:
    hub = await drive(await handle())
    for side in ("left", "right"):
        for number in range(4):
            await hub.create(f"{side}{number}", name=side)
    await asyncio.gather(*(run("cross_messages.py", url, side, ROUNDS) for side in ("left", "right")))
    assert await find_faults(url) == []


async def test_crossing_creates_of_one_id(handle: Any, url: str) -> None:
    handles = [await handle() for _ in range(3)]
    for number in range(30):
        ids = [f"{number}-{k}" for k in range(5)]
        batches = [[CreateInstance(id, f"{who}-{id}", "orch", b"") for id in (ids if who else reversed(ids))] for who in range(3)]
        answers = await asyncio.gather(*(backend.apply(batch) for backend, batch in zip(handles, batches, strict=True)))
        made = Counter(
            command.instance
            for batch, outcomes in zip(batches, answers, strict=True)
            for command, outcome in zip(batch, outcomes, strict=True)
            if outcome.status is OutcomeStatus.OK
        )
        assert made == Counter(ids), "each is made once; for the others it exists"
        assert {outcome.status for outcomes in answers for outcome in outcomes} <= {OutcomeStatus.OK, OutcomeStatus.EXISTS}
    assert await find_faults(url) == []


async def test_parents_whose_children_bounce_off_each_other(handle: Any, drive: Any, url: str) -> None:
    """Both want a child of the same id: one gets it, the other's failure message is in its inbox, whoever was first."""
    hubs = [await drive(await handle()) for _ in range(2)]
    for number in range(15):
        turns = []
        for who, hub in enumerate(hubs):
            await hub.register(f"w{who}")
            turns.append(
                (await hub.one(hub.creation(f"p{who}-{number}", execution=f"p{who}-{number}", request_id="", worker=f"w{who}"))).turn
            )
        commits = []
        for who, hub in enumerate(hubs):
            turn = turns[who]
            bounce = Message(f"bounce{who}-{number}", turn.instance, b"taken", sender="child")
            child = CreateInstance(
                f"child-{number}", f"e{who}-{number}", "unknown", b"", parent=ParentRef(turn.instance, turn.execution), bounce=bounce
            )
            commit_id = f"k{who}-{number}"
            commits.append(hub.one(hub.turn(turn, f"w{who}", commit_id=commit_id, creates=(child,), hold_us=HOUR_US)))
        outcomes = await asyncio.gather(*commits)
        assert sorted(len(outcome.messages) for outcome in outcomes) == [0, 1]
    assert await find_faults(url) == []


async def test_many_claim_at_once_and_each_instance_is_handed_out_once(handle: Any, url: str) -> None:
    handles = [await handle() for _ in range(4)]
    for number, backend in enumerate(handles):
        await backend.heartbeat(f"w{number}", ttl_us=HOUR_US)
    await handles[0].apply([CreateInstance(f"i{number}", f"e{number}", "orch", b"") for number in range(400)])

    async def drain(number: int) -> list[str]:
        found: list[str] = []
        while True:
            claim = await handles[number].claim(f"w{number}", claim_id=f"{number}-{len(found)}", turns=10, tasks=10, selectors=ALL)
            if not claim.turns:
                return found
            found += [turn.instance for turn in claim.turns]

    found = await asyncio.gather(*map(drain, range(4)))
    assert Counter(id for ids in found for id in ids) == Counter(f"i{number}" for number in range(400))
    assert sum(1 for ids in found if len(ids) >= 10) >= 2, "one that comes second is not left without"
    assert await find_faults(url) == []


async def test_a_claim_passes_over_what_is_locked_unless_it_is_overdue(handle: Any, drive: Any, url: str) -> None:
    """Somebody stands in the middle of writing to the oldest instance. A claim that met a conflict takes the next one meanwhile."""
    backend = await handle(clock_us=lambda: 1_700_000_000_000_000)
    hub = await drive(backend)
    await hub.register("w")
    await hub.create("old")
    await hub.create("new")
    other = await asyncpg.connect(url.partition("?")[0], server_settings={"search_path": url.partition("hub=")[2]})
    try:
        turns = "SELECT turns FROM lock_candidates('w', '{orch}', '{}', $1, 1, 1)"
        now_us = 1_700_000_000_000_000
        async with other.transaction():
            await other.execute("SELECT FROM instance WHERE id = 'old' FOR UPDATE")
            third = await asyncpg.connect(url.partition("?")[0], server_settings={"search_path": url.partition("hub=")[2]})
            try:
                assert await third.fetchval(turns, now_us) == [b"new"]
                overdue = asyncio.ensure_future(third.fetchval(turns, now_us + 1_000_001))
                done, _ = await asyncio.wait([overdue], timeout=0.3)
                assert not done, "what has been due for a second is waited for"
            except BaseException:
                await third.close()
                raise
        assert b"old" in await overdue
        await third.close()
    finally:
        await other.close()


async def test_a_message_sent_while_its_target_commits_arrives(handle: Any, drive: Any, url: str) -> None:
    """The instance goes idle at the very moment at which somebody writes to it: either the commit's outcome or a claim has the message."""
    mine, theirs = await drive(await handle()), await drive(await handle())
    turn = await mine.started("i")
    await mine.commit(turn, hold_us=0)
    version = 1
    for number in range(60):
        claimed = await mine.one(SendMessage(Message(f"first{number}", "i", b"")))
        assert claimed.status is OutcomeStatus.OK
        turn = await mine.claimed("i")
        message = Message(f"second{number}", "i", b"")
        committed, sent = await asyncio.gather(
            mine.commit(turn, consumes=tuple(message.id for message in turn.messages), hold_us=0), theirs.one(SendMessage(message))
        )
        assert sent.status is OutcomeStatus.OK
        version += 1
        if not committed.messages:
            turn = await mine.claimed("i")
            committed = turn
        assert [each.id for each in committed.messages] == [message.id]
        next_turn = turn if committed is turn else after(turn)
        await mine.commit(next_turn, consumes=(message.id,), hold_us=0)
    assert await find_faults(url) == []


async def test_two_workers_complete_one_task(handle: Any, drive: Any) -> None:
    first, second = await handle(), await handle()
    hub = await drive(first)
    turn = await hub.running(tasks=tuple(hub.task(f"t{number}") for number in range(20)))
    for number in range(20):
        command = CompleteTask(f"t{number}", Message(f"t{number}", "i", b"", execution=turn.execution))
        answers = await asyncio.gather(first.apply([command]), second.apply([command]))
        assert sorted(outcome.status.name for (outcome,) in answers) == ["GONE", "OK"]


async def test_a_purge_and_a_message_at_once(handle: Any, drive: Any, url: str) -> None:
    mine, theirs = await drive(await handle()), await drive(await handle())
    await mine.register()
    for number in range(40):
        id = f"@counter@{number}"
        await mine.send(id, creates="counter")
        turn = await mine.claimed(id)
        await mine.commit(turn, append=None, consumes=tuple(message.id for message in turn.messages), hold_us=0)
        message = Message(f"again{number}", id, b"", creates="counter")
        purged, sent = await asyncio.gather(mine.one(Purge(id, idle_version=1)), theirs.one(SendMessage(message)))
        assert sent.status is OutcomeStatus.OK, "it finds the entity, or makes it again"
        assert purged.status in (OutcomeStatus.OK, OutcomeStatus.FENCED)
        turn = await mine.claimed(id)
        assert [each.id for each in turn.messages] == [message.id]
        await mine.commit(turn, append=None, consumes=(message.id,), hold_us=0)
    assert await find_faults(url) == []


async def test_a_worker_given_up_while_it_commits_owns_nothing(handle: Any, drive: Any, url: str) -> None:
    mine, theirs = await drive(await handle()), await drive(await handle())
    for number in range(30):
        worker = f"w{number}"
        await mine.register(worker)
        turn = (await mine.one(mine.creation(f"i{number}", worker=worker))).turn
        commit = mine.turn(turn, worker, hold_us=HOUR_US, tasks=(mine.task(f"t{number}", claim=True),))
        await asyncio.gather(mine.one(commit), theirs.one(AbandonWorker(worker)))
        assert await find_faults(url) == [], "neither the instance nor the task is leased to nobody"


def hold_before_writing(backend: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The handle's next write waits, everything loaded and decided: (it waits, let it go on)."""
    steps, waits, go_on = backend._store.steps, asyncio.Event(), asyncio.Event()
    write = steps._write

    async def late(*arguments: Any) -> None:
        waits.set()
        await go_on.wait()
        await write(*arguments)

    monkeypatch.setattr(steps, "_write", late)
    return waits, go_on


async def test_a_worker_given_up_between_reading_and_writing_is_leased_nothing(
    handle: Any, drive: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await handle()
    mine, theirs = await drive(backend), await drive(await handle())
    await mine.register()
    waits, go_on = hold_before_writing(backend, monkeypatch)
    creating = asyncio.create_task(mine.one(mine.creation("i", worker="w")))
    await waits.wait()
    assert (await theirs.one(AbandonWorker("w"))).status is OutcomeStatus.OK
    go_on.set()
    outcome = await creating
    assert (outcome.status, outcome.turn) == (OutcomeStatus.OK, None)
    assert await find_faults(url) == []


async def test_what_was_not_there_when_it_was_read_may_be_there_when_it_is_written(
    handle: Any, drive: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two turns creates a child and messages the other's: whichever comes second must reach the first one's child."""
    backend = await handle()
    mine, theirs = await drive(backend), await drive(await handle(), "their")
    first, second = await mine.started("p", "w"), await theirs.started("q", "v")
    waits, go_on = hold_before_writing(backend, monkeypatch)

    def turn(hub: Any, parent: Any, worker: str, child: str, other: str) -> Any:
        create = CreateInstance(child, f"e-{child}", "unknown", b"", parent=ParentRef(parent.instance, parent.execution))
        return hub.turn(parent, worker, creates=(create,), messages=(Message(f"to-{other}", other, b""),))

    committing = asyncio.create_task(mine.one(turn(mine, first, "w", "x", "y")))
    await waits.wait()
    assert (await theirs.one(turn(theirs, second, "v", "y", "x"))).status is OutcomeStatus.OK
    go_on.set()
    assert (await committing).status is OutcomeStatus.OK
    claim = await theirs.claim("v", selectors=Selectors(frozenset({"unknown"})))
    assert {turn.instance: [message.id for message in turn.messages] for turn in claim.turns} == {"x": [], "y": ["to-y"]}
    assert await find_faults(url) == []
