"""The connection is cut at every statement, before the server got it or after it has answered: nothing is lost, nothing happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from durable_conformance.driver import ALL, HOUR_US, ended
from durable_core.backend import (
    AbandonWorker,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    HistoryRange,
    InstanceStatus,
    Message,
    NewTask,
    OutcomeStatus,
)
from durable_core.errors import StoreError, StoreUnavailableError
from durable_postgres import PostgresBackend
from durable_postgres.testing import find_faults

T = TypeVar("T")


async def until_it_works(call: Callable[[], Awaitable[T]]) -> T:
    for _ in range(20):
        try:
            return await call()
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
    raise AssertionError("it never works")


async def scenario(backend: PostgresBackend, n: int) -> None:
    """An instance from its start to its end, with a task, a message to another one and back, and a child; every call is repeated until it
    is answered."""
    worker, a, b = f"w{n}", f"a{n}", f"b{n}"

    async def apply(*commands: Any) -> list[Any]:
        outcomes = await until_it_works(lambda: backend.apply(commands))
        assert all(outcome.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED) for outcome in outcomes), outcomes
        return outcomes

    await until_it_works(lambda: backend.heartbeat(worker, ttl_us=HOUR_US))
    await apply(CreateInstance(a, f"e{a}", "orch", b"1", f"r{a}"), CreateInstance(b, f"e{b}", "orch", b"1", f"r{b}"))
    claim = await until_it_works(lambda: backend.claim(worker, claim_id=f"c{n}", turns=10, tasks=0, selectors=ALL))
    turns = {turn.instance: turn for turn in claim.turns}
    assert turns.keys() == {a, b}

    def turn(id: str, version: int, **fields: Any) -> CommitTurn:
        key = f"k{id}-{version}"
        given: dict[str, Any] = {"append": b"[%d]" % version, "append_count": 1, "hold_us": HOUR_US}
        return CommitTurn(id, turns[id].execution, turns[id].epoch, version, worker, key, **(given | fields))

    task = NewTask(f"t{n}", "act", b"in", claim=True)
    await apply(turn(a, 0, tasks=(task,), messages=(Message(f"m{n}", b, b"hello"),)), turn(b, 0))
    (outcome,) = await apply(turn(b, 1, consumes=(f"m{n}",), messages=(Message(f"n{n}", a, b"hello yourself"),)))
    done = Message(f"t{n}", a, b"out", execution=turns[a].execution)
    outcomes = await until_it_works(lambda: backend.apply([CompleteTask(f"t{n}", done)]))
    assert outcomes[0].status in (OutcomeStatus.OK, OutcomeStatus.GONE)
    (outcome,) = await apply(turn(a, 1, append=None, append_count=0))
    assert sorted(message.id for message in outcome.messages) == [f"n{n}", f"t{n}"]
    await apply(turn(a, 2, consumes=(f"n{n}", f"t{n}"), record=ended(), hold_us=0), turn(b, 2, record=ended(), hold_us=0))

    records = await until_it_works(lambda: backend.get_instances([a, b]))
    assert [(record.status, record.version, record.attempt) for record in records if record] == [(InstanceStatus.COMPLETED, 3, 0)] * 2
    pages = await until_it_works(lambda: backend.read_history([HistoryRange(a), HistoryRange(b)]))
    assert [[row.payload for row in page.rows] for page in pages] == [[b"[0]", b"[2]"], [b"[0]", b"[1]", b"[2]"]]


@pytest.mark.parametrize("after", [False, True], ids=["before the server got it", "after the server answered"])
async def test_a_cut_at_every_statement(handle: Any, proxy: Any, url: str, after: bool) -> None:
    await proxy.start()
    await handle()  # makes the hub
    backend = await handle(url=proxy.url)
    await scenario(backend, 0)
    before = proxy.statements
    await scenario(backend, 1)
    number, statements = 0, proxy.statements - before
    assert statements > 15
    while number < statements + 10:  # a cut connection takes more statements to be made again
        number += 1
        cuts = proxy.cuts
        proxy.cut(number, after=after)
        await scenario(backend, 1 + number)
        if proxy.cuts == cuts:
            break
    # It came to an end without a cut: each of its statements was cut once. (How many there are varies: hints to others are bundled.)
    assert number > 15
    assert await find_faults(url) == []


async def test_a_silent_server_is_an_error_not_a_wait_for_ever(handle: Any, proxy: Any) -> None:
    await proxy.start()
    backend = await handle(url=proxy.url + "&command_timeout_s=1")
    await backend.get_instances(["a"])
    proxy.mute()
    with pytest.raises(StoreUnavailableError, match="nobody answered in time"):
        await backend.get_instances(["a"])


async def test_a_culprit_is_rejected_alone(handle: Any) -> None:
    backend = await handle()
    lone = "\ud800"
    commands = [
        CreateInstance(id, f"e{id}", "orch", b"", request_id=f"r{number}") for number, id in enumerate(("a", lone, "b", "c" + lone, "d"))
    ]
    outcomes = await backend.apply(commands)
    rejected, ok = OutcomeStatus.REJECTED, OutcomeStatus.OK
    assert [outcome.status for outcome in outcomes] == [ok, rejected, ok, rejected, ok]
    assert isinstance(outcomes[1].error, StoreError)
    assert "CreateInstance of '\\ud800'" in str(outcomes[1].error)
    assert isinstance(outcomes[1].error.__cause__, UnicodeEncodeError)
    assert await backend.get_instances([lone]) == [None]


async def test_numbers_beyond_64_bits_are_rejected(handle: Any, drive: Any) -> None:
    hub = await drive(await handle())
    await hub.create()
    too_late, fine = await hub.apply(hub.creation("late", delay_us=1 << 70), hub.creation("fine"))
    assert (too_late.status, fine.status) == (OutcomeStatus.REJECTED, OutcomeStatus.OK)


async def test_a_batch_is_answered_although_the_lock_of_its_worker_cannot_be_given_back(handle: Any, proxy: Any) -> None:
    """What ``AbandonWorker`` asks for is written by then; that nobody answers on the connection that holds the lock is no error of the batch."""
    await proxy.start()
    backend = await handle(url=proxy.url, command_timeout_s=1)
    await backend.heartbeat("w", ttl_us=60_000_000)
    lives = backend._store.lives
    proxy.mute_connections()
    for lane in (backend._store.steps.batches, backend._store.steps.claims):
        lane.cut()  # a new connection works
    assert lives.lane.is_open
    outcomes = await backend.apply([AbandonWorker("w")])
    assert [outcome.status for outcome in outcomes] == [OutcomeStatus.OK]
