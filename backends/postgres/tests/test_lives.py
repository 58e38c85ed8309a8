"""Deaths are found at once, losing a connection is none, and who listens hears again."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable_conformance.driver import ALL, HOUR_US
from durable_core import DurableEngine, OrchestrationContext
from durable_core.backend import Claim, CreateInstance
from durable_postgres import lives
from durable_postgres.servers import Server, server_url
from durable_postgres.testing import find_faults

PROGRAM = Path(__file__).parent / "programs" / "hold_until_killed.py"


@asynccontextmanager
async def victim(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds leases and is certainly gone afterwards."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def heir_finds(backend: Any, number: list[int]) -> Claim:
    """As a worker does: claim, and sleep until the claim says that there may be more, or a hint does."""
    hints = backend.wakeups()
    while True:
        number[0] += 1
        claim: Claim = await backend.claim("heir", claim_id=f"c{number[0]}", turns=5, tasks=5, selectors=ALL)
        if claim.turns or claim.tasks:
            return claim
        pause_s = 1.0 if claim.next_due_us is None else min(1.0, (claim.next_due_us - claim.now_us) / 1e6)
        try:
            await asyncio.wait_for(anext(hints), pause_s)
        except TimeoutError:
            pass


async def test_what_a_killed_process_did_starts_elsewhere(url: str, handle: Any) -> None:
    """Nobody says so: its heartbeat is good for an hour, and its session's lock alone tells."""
    backend = await handle()
    await backend.heartbeat("heir", ttl_us=HOUR_US)
    async with victim(url) as process:
        claim = await backend.claim("heir", claim_id="before", turns=5, tasks=5, selectors=ALL)
        assert (claim.turns, claim.tasks) == ((), ())
        assert claim.next_due_us is not None, "somebody else lives here: look again soon"
        assert claim.next_due_us - claim.now_us < 850_000, "and its death is to be found within a second"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        claim = await asyncio.wait_for(heir_finds(backend, [0]), 30)
        assert [(turn.instance, turn.attempt) for turn in claim.turns] == [("claimed", 2)]
        assert [(task.id, task.attempt) for task in claim.tasks] == [("t", 2)]
    assert not (await backend.heartbeat("victim", ttl_us=HOUR_US)).alive
    assert await find_faults(url) == []


async def test_a_worker_whose_connections_are_cut_is_not_dead(url: str, handle: Any) -> None:
    backend, other = await handle(death_grace_s=5), await handle(death_grace_s=5)
    await backend.heartbeat("w", ttl_us=HOUR_US)
    await backend.apply([CreateInstance("i", "e", "orch", b"", worker="w")])
    await other.heartbeat("heir", ttl_us=HOUR_US)
    hints = backend.wakeups()
    connection = await asyncpg.connect(server_url())
    try:
        killed = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
        )
        assert len(killed) >= 2
        await anext(hints)  # connected again; something may have been missed
        held = 0
        while held < 2:  # both incarnations hold their locks again
            held = await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.01)
    finally:
        await connection.close()
    claim = await other.claim("heir", claim_id="1", turns=5, tasks=5, selectors=ALL)
    assert claim.turns == ()
    assert (await backend.heartbeat("w", ttl_us=HOUR_US)).alive


async def test_a_hint_from_another_handle(handle: Any) -> None:
    listens, acts = await handle(), await handle()
    hints = listens.wakeups()
    await drained(hints)
    await acts.apply([CreateInstance("i", "e", "orch", b"")])
    await asyncio.wait_for(anext(hints), 30)  # nothing polls here


async def test_who_went_deaf_hears_again(handle: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection: nothing says that it is dead but a question that is not answered."""
    monkeypatch.setattr(lives, "_PING_S", 0.3)
    acts = await handle()
    await proxy.start()
    listens = await handle(url=proxy.url)
    hints = listens.wakeups()
    await anext(hints)  # connected
    await drained(hints)
    proxy.mute_connections()
    await acts.apply([CreateInstance("i", "e", "orch", b"")])
    await asyncio.wait_for(anext(hints), 30)
    await drained(hints)
    await acts.apply([CreateInstance("j", "f", "orch", b"")])
    await asyncio.wait_for(anext(hints), 30)


async def drained(hints: Any) -> None:
    """Hints of earlier events are over."""
    while True:
        try:
            await asyncio.wait_for(anext(hints), 0.1)
        except TimeoutError:
            return


async def test_a_closed_handle_ends_its_wakeups(handle: Any) -> None:
    backend = await handle()
    hints = backend.wakeups()
    waiting = asyncio.create_task(anext(hints, "ended"))
    await backend.close()
    while (await asyncio.wait_for(waiting, 10)) != "ended":
        waiting = asyncio.create_task(anext(hints, "ended"))


async def test_the_server_restarts_in_the_middle_of_a_load() -> None:
    """A crash of the server, with two workers at work: every orchestration ends with the right result, every activity ran."""
    engines = [DurableEngine() for _ in range(2)]
    ran: list[int] = []

    async def double(value: int) -> int:
        ran.append(value)
        return value * 2

    async def six_times(ctx: OrchestrationContext, value: int) -> int:
        for _ in range(6):
            value = await ctx.call_activity("double", value, return_type=int)
        return value

    for engine in engines:
        engine.activity(double)
        engine.orchestrator(six_times)
    server = await asyncio.to_thread(Server)
    try:
        await asyncio.to_thread(server.start)
        async with engines[0].open(url=server.url), engines[1].open(url=server.url):
            handles = [await engines[n % 2].client.schedule_new_orchestration("six_times", n) for n in range(200)]
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
            results = await asyncio.gather(*(handle.result() for handle in handles))
        assert results == [n * 64 for n in range(200)]
        assert set(range(200)) <= set(ran)
        assert await find_faults(server.url) == []
    finally:
        await asyncio.to_thread(server.destroy)
