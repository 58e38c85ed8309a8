"""Beats that write nothing, and what must hold all the same."""

from __future__ import annotations

from typing import Any

from durable_azure import AzureBackend
from durable_conformance.driver import ALL, SECOND_US
from durable_core.backend import CreateInstance, OutcomeStatus

TTL_US = 15 * SECOND_US
START_US = 1_700_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


async def beat(backend: AzureBackend, worker: str) -> bool:
    return (await backend.heartbeat(worker, ttl_us=TTL_US)).alive


async def quiet(backend: AzureBackend, worker: str, clock: Clock) -> None:
    """A worker that has had nothing to do for a while."""
    for _ in range(3):
        assert await beat(backend, worker)
        clock.now_us += 3 * SECOND_US


async def outlive(backend: AzureBackend, worker: str, clock: Clock, us: int) -> None:
    """Beat on while this time passes. The last beat finds who was late at the one before."""
    until_us = clock.now_us + us
    assert await beat(backend, worker)
    while clock.now_us < until_us:
        clock.now_us = min(clock.now_us + 3 * SECOND_US, until_us)
        assert await beat(backend, worker)
    assert await beat(backend, worker)


async def test_an_idle_worker_writes_nothing(handle: Any) -> None:
    clock = Clock()
    backend = await handle(clock_us=clock)
    await quiet(backend, "w", clock)
    before = backend.commits
    for _ in range(90):
        assert await beat(backend, "w")
        clock.now_us += 3 * SECOND_US
    assert backend.commits == before
    clock.now_us += 20 * SECOND_US
    assert await beat(backend, "w")
    assert backend.commits == before + 1, "once in five minutes"


async def test_what_an_idle_worker_takes_is_free_as_soon_as_its_last_beat_says(handle: Any) -> None:
    """Also what it takes in the very round of a beat."""
    clock = Clock()
    first, second = await handle(clock_us=clock), await handle(clock_us=clock)
    await quiet(first, "first", clock)
    await first.apply([CreateInstance("i", "e", "orch", b"", "r")])
    assert await beat(first, "first")
    assert len((await first.claim("first", claim_id="1", turns=1, tasks=0, selectors=ALL)).turns) == 1
    await outlive(second, "second", clock, TTL_US)
    (turn,) = (await second.claim("second", claim_id="2", turns=1, tasks=0, selectors=ALL)).turns
    assert turn.attempt == 2
    assert not await beat(first, "first")


async def test_a_created_instance_is_a_lease_too(handle: Any) -> None:
    clock = Clock()
    first, second = await handle(clock_us=clock), await handle(clock_us=clock)
    await quiet(first, "first", clock)
    (outcome,) = await first.apply([CreateInstance("i", "e", "orch", b"", "r", worker="first")])
    assert (outcome.status, outcome.turn is not None) == (OutcomeStatus.OK, True)
    await outlive(second, "second", clock, TTL_US - 3 * SECOND_US + 1)
    assert len((await second.claim("second", claim_id="2", turns=1, tasks=0, selectors=ALL)).turns) == 1


async def test_a_worker_that_holds_something_is_not_quiet(handle: Any) -> None:
    clock = Clock()
    backend = await handle(clock_us=clock)
    await backend.heartbeat("w", ttl_us=TTL_US)
    await backend.apply([CreateInstance("i", "e", "orch", b"", "r", worker="w")])
    before = backend.commits
    await quiet(backend, "w", clock)
    assert backend.commits == before + 3


async def test_a_quiet_worker_finds_the_dead(handle: Any) -> None:
    clock = Clock()
    first, second = await handle(clock_us=clock), await handle(clock_us=clock)
    await quiet(second, "second", clock)
    assert await beat(first, "first")
    await first.apply([CreateInstance("i", "e", "orch", b"", "r", worker="first")])
    await outlive(second, "second", clock, TTL_US - 1)
    assert (await second.claim("second", claim_id="1", turns=1, tasks=0, selectors=ALL)).turns == ()
    await outlive(second, "second", clock, 1)
    assert len((await second.claim("second", claim_id="2", turns=1, tasks=0, selectors=ALL)).turns) == 1


async def test_a_short_beat_means_what_it_says(handle: Any) -> None:
    clock = Clock()
    backend = await handle(clock_us=clock)
    for _ in range(3):
        assert (await backend.heartbeat("w", ttl_us=SECOND_US)).alive
    await outlive(backend, "other", clock, SECOND_US)
    assert not (await backend.heartbeat("w", ttl_us=SECOND_US)).alive


async def test_an_idle_worker_gives_nobody_up_after_an_outage(handle: Any) -> None:
    """It is registered for minutes, and yet it could not beat any more than the others."""
    clock = Clock()
    idle, busy = await handle(clock_us=clock), await handle(clock_us=clock)
    assert await beat(busy, "busy")
    await busy.apply([CreateInstance("i", "e", "orch", b"", "r", worker="busy")])
    await quiet(idle, "idle", clock)
    assert await beat(busy, "busy")
    clock.now_us += 20 * SECOND_US
    assert await beat(idle, "idle")
    assert await beat(busy, "busy")
