"""Limit concurrency: an ``asyncio.Semaphore`` in the orchestrator bounds how many activities are scheduled at once.

It bounds this orchestration wherever its activities run; what one worker runs at once, for all orchestrations, is a matter of
``WorkerOptions``. A semaphore wakes whoever waited longest, on replay as in the first run.
"""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@frozen
class ConcurrencyInput:
    items: list[str]
    max_concurrency: int


@frozen
class ProcessingResult:
    item: str
    length: int


@engine.activity
async def process_item(item: str) -> ProcessingResult:
    await asyncio.sleep(len(item) % 3 / 100)  # they end in another order than they began
    return ProcessingResult(item, len(item))


@engine.orchestrator
async def limited_concurrency(ctx: OrchestrationContext, input: ConcurrencyInput) -> list[ProcessingResult]:
    semaphore = asyncio.Semaphore(input.max_concurrency)

    async def process(item: str) -> ProcessingResult:
        async with semaphore:
            return await ctx.call_activity(process_item, item)

    return await asyncio.gather(*map(process, input.items))


INSTANCE_ID = "limited"
INPUT = ConcurrencyInput([f"item {'i' * (number % 5)}{number}" for number in range(20)], max_concurrency=3)


async def main(url: str) -> list[ProcessingResult]:
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(
            limited_concurrency, INPUT, instance_id=INSTANCE_ID, reuse_policy="return_existing"
        )
        return await handle.result()


async def without_engine() -> list[ProcessingResult]:
    return [await process_item(item) for item in INPUT.items]
