"""Parallel processing: as many activities at once as the input says, and their results in the order of the calls.

Beside the README's example it has what a real program has. The activity is a method of a service that was handed what it needs: a bound
method may be an activity. And both sides log: ``ctx.logger`` of an orchestrator is silent while it replays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from durable_core import ActivityContext, DurableEngine, OrchestrationContext

engine = DurableEngine()


class WorkItemProcessor:
    """A service. ``compute`` is what it depends on: a database, another service."""

    def __init__(self, compute: Callable[[int], Awaitable[int]]) -> None:
        self.compute = compute

    async def process_work_item(self, ctx: ActivityContext, work_item_id: int) -> int:
        ctx.logger.info("processing work item %d", work_item_id)
        return await self.compute(work_item_id)


async def double(number: int) -> int:
    return number * 2


processor = WorkItemProcessor(double)
process_work_item = engine.activity(processor.process_work_item)


@engine.orchestrator
async def parallel_work_items(ctx: OrchestrationContext, work_item_count: int) -> list[int]:
    ctx.logger.info("starting %d work items", work_item_count)
    results = await asyncio.gather(*(ctx.call_activity(process_work_item, number) for number in range(work_item_count)))
    ctx.logger.info("completed %d work items", len(results))
    return results


COUNTS = [10, 1, 0]


async def main(url: str) -> dict[int, list[int]]:
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        handles = {
            count: await start(parallel_work_items, count, instance_id=f"work-items-{count}", reuse_policy="return_existing")
            for count in COUNTS
        }
        return {count: await handle.result() for count, handle in handles.items()}


async def without_engine() -> dict[int, list[int]]:
    return {count: [await process_work_item(number) for number in range(count)] for count in COUNTS}
