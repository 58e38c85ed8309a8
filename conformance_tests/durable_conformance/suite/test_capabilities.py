"""What a store declares it keeps, and what it does not declare it does not half do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from durable_conformance.driver import HOUR_US, Driver
from durable_conformance.harness import Corruptible
from durable_conformance.properties import Property, proves, proving, refuses, requires
from durable_core.backend import AbandonWorker
from durable_core.errors import DurableError, StoreFormatError

_PATIENCE_S = 10.0


@refuses("proves_death")
@requires("many_handles", "frozen_clock")
@proves(Property.LEASE)
async def test_leases_outlive_a_handle_whose_death_nobody_can_prove(hub: Driver) -> None:
    other = await hub.harness.open()
    await hub.register("other", on=other, ttl_us=HOUR_US)
    await hub.create()
    await hub.claimed("i", "other", on=other)
    await hub.harness.kill(other)
    await hub.register("w")
    assert (await hub.claim("w")).turns == (), "the store does not declare proves_death, and yet it acts on one"
    hub.harness.advance_clock(HOUR_US)
    for _ in range(2):  # the first one finds that it may have had no time to beat
        await hub.register("w")
    with proving(Property.PROGRESS):
        assert (await hub.claimed("i", "w")).attempt == 2


@refuses("many_handles")
@proves(Property.LEASE)
async def test_a_second_handle_does_not_share_the_store(hub: Driver) -> None:
    await hub.create()
    try:
        other = await hub.harness.open()
    except DurableError:
        return
    assert await other.get_instances(["i"]) == [None], "the harness does not declare many_handles"


@requires("many_handles", "durable")
@proves(Property.CONSERVATION)
async def test_everything_is_there_when_all_handles_have_died(hub: Driver) -> None:
    turn = await hub.running(tasks=(hub.task("t"),))
    message = await hub.send()
    before = await hub.dump()
    await hub.harness.kill(hub.backend)
    await hub.open()
    assert await hub.dump() == before
    await hub.one(AbandonWorker("w"))
    rest = await hub.rest()
    assert [(turn.instance, turn.messages) for turn in rest.turns] == [("i", (message,))]
    assert [task.id for task in rest.tasks] == ["t"]
    assert rest.turns[0].execution == turn.execution


@requires("many_handles")
@proves(Property.ATTEMPTS)
async def test_attempts_are_counted_across_handles(hub: Driver) -> None:
    await hub.create()
    for attempt in (1, 2, 3, 4):
        handle = await hub.harness.open()
        await hub.register(f"w{attempt}", on=handle)
        assert (await hub.claimed("i", f"w{attempt}", on=handle)).attempt == attempt
        await hub.one(AbandonWorker(f"w{attempt}"), on=handle)
        await hub.harness.kill(handle)


@requires("many_handles")
@proves(Property.DEAF)
async def test_a_wakeup_comes_from_another_handle(hub: Driver) -> None:
    """A listener that goes deaf is not noticed otherwise."""
    other = await hub.harness.open()
    hints = aiter(hub.backend.wakeups())
    for _ in range(3):
        waiting = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(0)
        await hub.one(hub.creation(hub.fresh("i")), on=other)
        async with asyncio.timeout(_PATIENCE_S):
            await waiting


@proves(Property.DEAF)
async def test_the_wakeups_of_a_handle_end_with_it(hub: Driver) -> None:
    hints = aiter(hub.backend.wakeups())
    waiting = asyncio.ensure_future(_exhaust(hints.__anext__))
    await asyncio.sleep(0)
    await hub.harness.kill(hub.backend)
    async with asyncio.timeout(_PATIENCE_S):
        await waiting


async def _exhaust(next_hint: Callable[[], object]) -> None:
    try:
        while True:
            await next_hint()  # type: ignore[misc]
    except StopAsyncIteration:
        pass


@requires("corrupt")
@proves(Property.CONSERVATION)
async def test_a_damaged_store_is_not_opened(hub: Driver) -> None:
    await hub.running()
    await hub.harness.kill(hub.backend)
    await cast(Corruptible, hub.harness).corrupt()
    with pytest.raises(StoreFormatError):
        await hub.harness.open()


@requires("server_clock")
@proves(Property.TIMERS)
async def test_clocks_of_workers_decide_nothing(hub: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this worker's clock were ten minutes ahead of the one before."""
    import time

    turn = await hub.started()
    now_us = (await hub.claim(turns=0, tasks=0)).now_us
    await hub.commit(turn, timers=(hub.message("i", due_us=now_us + HOUR_US // 12),))
    ahead_s, seconds, nanoseconds = 600, time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: seconds() + ahead_s)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + ahead_s * 10**9)
    other = await hub.harness.open() if "many_handles" in hub.harness.features else hub.backend
    await hub.register("ahead", on=other)
    claim = await hub.claim("ahead", on=other)
    assert claim.now_us < now_us + ahead_s * 10**6 // 2
    assert claim.turns == ()
