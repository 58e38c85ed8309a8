"""Several workers at once, in threads: what each was told is checked afterwards (``workload.py``)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from durable_conformance.driver import Driver, after
from durable_conformance.properties import Property, proves, proving, requires
from durable_conformance.workload import Note, check, instances, take_part
from durable_core.backend import OutcomeStatus, SendMessage

_MESSAGES = {"smoke": 6, "full": 40, "soak": 200}


@requires("many_handles")
@proves(Property.CONSERVATION)
async def test_workers_in_threads(hub: Driver, profile: str, seed: int, cases: Counter[str]) -> None:
    names, ids, messages = ["a", "b", "c"], instances(4), _MESSAGES[profile]

    def work(name: str) -> list[Note]:
        async def main() -> list[Note]:
            backend = await hub.harness.open()
            try:
                dice = random.Random(f"{seed} {name}")
                return await take_part(backend, name, workers=len(names), ids=ids, messages=messages, dice=dice)
            finally:
                await hub.harness.kill(backend)

        return asyncio.run(main())

    notes = [note for part in await asyncio.gather(*(asyncio.to_thread(work, name) for name in names)) for note in part]
    cases["concurrent commands"] += len(notes)
    await check(hub.backend, notes, names=names, ids=ids, messages=messages)


@requires("many_handles")
@proves(Property.CONSERVATION)
async def test_what_is_sent_while_others_consume_is_not_skipped(hub: Driver, profile: str) -> None:
    """Where positions are given out before they are committed, a reader with a watermark would pass over the slower sender."""
    turn = await hub.started()
    handles = [await hub.harness.open() for _ in range(3)]
    count = 2 * _MESSAGES[profile]
    messages = [[hub.message("i", sender=f"s{sender}") for _ in range(count)] for sender in range(3)]
    outcome = await hub.commit(turn)

    async def send(sender: int) -> None:
        for message in messages[sender]:
            assert (await hub.one(SendMessage(message), on=handles[sender])).status is OutcomeStatus.OK

    senders = asyncio.gather(*(send(sender) for sender in range(3)))
    consumed: list[str] = []
    while not senders.done() or outcome.messages or len(consumed) < 3 * count:
        await asyncio.sleep(0)
        if not outcome.messages:
            all_sent = senders.done()
            claim = await hub.claim(tasks=0)
            if not claim.turns:
                assert not all_sent or len(consumed) == 3 * count, f"{3 * count - len(consumed)} messages were passed over"
                continue
            outcome = replace(outcome, messages=claim.turns[0].messages)
        ids = [message.id for message in outcome.messages]
        consumed += ids
        turn = after(turn)
        outcome = await hub.commit(turn, consumes=tuple(ids))
    await senders
    assert Counter(consumed) == Counter(message.id for sent in messages for message in sent)
    with proving(Property.ORDER):
        for sent in messages:
            of_sender = {message.id for message in sent}
            assert [id for id in consumed if id in of_sender] == [message.id for message in sent]


@requires("many_handles")
@proves(Property.LEASE)
@pytest.mark.parametrize("kind", ["turns", "tasks"])
async def test_handles_that_claim_at_once_get_different_things(hub: Driver, kind: str) -> None:
    handles = [hub.backend, await hub.harness.open(), await hub.harness.open()]
    for number, handle in enumerate(handles):
        await hub.register(f"w{number}", on=handle)
    ids = [f"{number:02}" for number in range(60)]
    if kind == "turns":
        await hub.apply(*map(hub.creation, ids))
    else:
        await hub.commit(await hub.started("owner", "w0"), "w0", tasks=tuple(map(hub.task, ids)))
    turns, tasks = (3, 0) if kind == "turns" else (0, 3)

    claimed: list[str] = []
    while True:
        at_once = [hub.claim(f"w{number}", turns=turns, tasks=tasks, on=handle) for number, handle in enumerate(handles)]
        claims = await asyncio.gather(*at_once)
        found = [id for claim in claims for id in (*(turn.instance for turn in claim.turns), *(task.id for task in claim.tasks))]
        if not found:
            break
        claimed += found
        assert len(claimed) == len(set(claimed)), "something was handed out twice"
    assert sorted(claimed) == ids
