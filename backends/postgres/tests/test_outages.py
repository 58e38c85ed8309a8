"""An outage of the server, or of one connection, that is longer than a lease: what runs is not run a second time."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from durable_core import DurableEngine, OrchestrationContext, WorkerOptions
from durable_postgres.lanes import connect
from durable_postgres.options import parse_url
from durable_postgres.servers import Server
from durable_postgres.testing import find_faults

TTL_S = 2.0
OPTIONS = WorkerOptions(worker_ttl_s=TTL_S, heartbeat_s=0.4, max_async_activities=15)
ACTIVITIES = 30
PATIENCE_S = 60.0


class Work:
    """Two workers, and activities that take until ``over``. ``starts`` counts how often each was begun."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.over = asyncio.Event()
        self.engines = [self._engine(), self._engine()]

    def _engine(self) -> DurableEngine:
        engine = DurableEngine(options=OPTIONS)

        @engine.activity
        async def charge(number: int) -> int:
            self.starts.append(number)
            await self.over.wait()
            return number

        @engine.orchestrator
        async def fan_out(ctx: OrchestrationContext) -> list[int]:
            return await asyncio.gather(*(ctx.call_activity("charge", number, return_type=int) for number in range(ACTIVITIES)))

        return engine

    @asynccontextmanager
    async def under_way(self, *urls: str) -> AsyncIterator[Any]:
        """All activities run, half of them in each worker."""
        async with AsyncExitStack() as stack:
            for engine, url in zip(self.engines, urls, strict=True):
                await stack.enter_async_context(engine.open(url=url))
            handle = await self.engines[0].client.schedule_new_orchestration("fan_out")
            await until(lambda: len(self.starts) == ACTIVITIES)
            yield handle

    async def end(self, handle: Any) -> None:
        """After a lease's time in which whoever was to be given up would be."""
        await asyncio.sleep(TTL_S + 2 * OPTIONS.heartbeat_s)
        self.over.set()
        assert await handle.result() == list(range(ACTIVITIES))
        assert sorted(self.starts) == list(range(ACTIVITIES)), "an activity was begun twice"


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def until_alive(url: str, workers: int) -> None:
    """They have beaten since."""
    deadline = time.monotonic() + PATIENCE_S
    connection = await connect(parse_url(url, {}))
    try:
        now_us = await connection.fetchval("SELECT server_us()")
        while workers > await connection.fetchval("SELECT count(*) FROM worker WHERE until_us > $1", now_us + round(TTL_S * 1e6)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def stopped(server: Server) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(2 * TTL_S)
    await asyncio.to_thread(server.start)


async def frozen(server: Server) -> None:
    server.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(2 * TTL_S)
    finally:
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize("away", [stopped, frozen])
async def test_an_outage_longer_than_the_lease_runs_no_activity_twice(server: Server, away: Callable[[Server], Awaitable[None]]) -> None:
    work = Work()
    async with work.under_way(server.url, server.url) as handle:
        await away(server)
        await until_alive(server.url, 2)
        await work.end(handle)
    assert await find_faults(server.url) == []


async def test_a_connection_that_hangs_costs_no_lease(url: str, proxy: Any) -> None:
    """All that one worker has hang, without an end, and the server does not know; new ones work. The other worker has no trouble at all."""
    work = Work()
    await proxy.start()
    async with work.under_way(url, proxy.url + "&command_timeout_s=60") as handle:
        proxy.mute_connections()
        await until_alive(url, 2)
        await work.end(handle)
    assert await find_faults(url) == []
