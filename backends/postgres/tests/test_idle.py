"""What idling costs, counted where the bytes pass."""

from __future__ import annotations

import asyncio
from typing import Any

from durable_core import DurableEngine, OrchestrationContext

SECONDS = 6


async def wait(ctx: OrchestrationContext) -> int:
    return await ctx.wait_for_external_event("never", return_type=int)


async def test_an_idle_worker_sends_two_queries_a_second_at_most(proxy: Any) -> None:
    """Heartbeats, polls, and looking for the dead, with somebody else there and an instance that waits."""
    await proxy.start()
    idle, other = DurableEngine(), DurableEngine()
    for engine in (idle, other):
        engine.orchestrator(wait)
    async with other.open(url=proxy.direct_url), idle.open(url=proxy.url):
        await idle.client.schedule_new_orchestration("wait")
        await asyncio.sleep(2)  # it has begun to wait
        before = proxy.statements
        await asyncio.sleep(SECONDS)
        assert 0 < proxy.statements - before <= 2 * SECONDS
