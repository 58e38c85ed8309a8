"""Log progress: ``ctx.logger`` is silent while replaying, so each line is written when it happens and not again after a restart.

The work of a batch is in a coroutine of its own: any ``async def`` that is given ``ctx`` may use it.
"""

from __future__ import annotations

import asyncio

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@engine.activity
async def shout(word: str) -> str:
    return word.upper()


@engine.orchestrator
async def logged_fan_out(ctx: OrchestrationContext, batches: list[list[str]]) -> list[str]:
    results: list[str] = []
    for number, batch in enumerate(batches, 1):
        ctx.logger.info("processing batch %d/%d", number, len(batches))
        results += await process_batch(ctx, batch)
    return results


async def process_batch(ctx: OrchestrationContext, batch: list[str]) -> list[str]:
    return await asyncio.gather(*(ctx.call_activity(shout, word) for word in batch))


INSTANCE_ID = "logged"
BATCHES = [["ready", "steady"], ["go"], [], ["done"]]


async def main(url: str) -> list[str]:
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(
            logged_fan_out, BATCHES, instance_id=INSTANCE_ID, reuse_policy="return_existing"
        )
        return await handle.result()


async def without_engine() -> list[str]:
    return [await shout(word) for batch in BATCHES for word in batch]
