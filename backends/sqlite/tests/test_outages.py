"""Somebody else holds the database's write lock for longer than a lease: what runs is not run a second time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path

from durable_core import DurableEngine, OrchestrationContext, WorkerOptions
from durable_sqlite.testing import find_faults

TTL_S = 2.0
OPTIONS = WorkerOptions(worker_ttl_s=TTL_S, heartbeat_s=0.4, max_async_activities=15)
ACTIVITIES = 30


async def test_a_lock_held_longer_than_the_lease_runs_no_activity_twice(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    starts: list[int] = []
    over = asyncio.Event()

    def worker() -> DurableEngine:
        engine = DurableEngine(f"sqlite:///{path}", options=OPTIONS)

        @engine.activity
        async def charge(number: int) -> int:
            starts.append(number)
            await over.wait()
            return number

        @engine.orchestrator
        async def fan_out(ctx: OrchestrationContext) -> list[int]:
            return await asyncio.gather(*(ctx.call_activity("charge", number, return_type=int) for number in range(ACTIVITIES)))

        return engine

    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(worker().open()) for _ in range(2)]
        handle = await engines[0].client.schedule_new_orchestration("fan_out")
        deadline = time.monotonic() + 60
        while len(starts) < ACTIVITIES:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(2 * TTL_S)
        other.execute("ROLLBACK")
        other.close()
        await asyncio.sleep(TTL_S + 2 * OPTIONS.heartbeat_s)  # whoever was to be given up would be by now
        over.set()
        assert await handle.result() == list(range(ACTIVITIES))
    assert sorted(starts) == list(range(ACTIVITIES)), "an activity was begun twice"
    connection = sqlite3.connect(path)
    assert find_faults(connection) == []
    connection.close()
