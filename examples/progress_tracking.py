"""Progress tracking: an entity counts what is done, and a client reads its state while the orchestration runs.

The entity's key is the id of the orchestration that it counts for. An operation is carried out exactly once however often a process dies,
so the count is right in the end; and reading the state disturbs nobody.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()
logger = logging.getLogger(__name__)

BATCH_SIZE = 10


@frozen
class ItemResult:
    item: str
    length: int


async def measure(item: str) -> int:
    """What takes its time."""
    return len(item)


@engine.activity
async def process_item(item: str) -> ItemResult:
    return ItemResult(item, await measure(item))


@engine.entity
class ProgressTracker:
    total_items: int = 0
    processed_items: int = 0
    start_time: datetime | None = None
    last_update_time: datetime | None = None

    def initialize(self, total_items: int) -> None:
        self.total_items = total_items
        self.processed_items = 0
        self.start_time = datetime.now(UTC)  # an entity is not replayed: it may ask the clock

    def increment_processed(self) -> None:
        self.processed_items += 1
        self.last_update_time = datetime.now(UTC)


@engine.orchestrator
async def tracked_fan_out(ctx: OrchestrationContext, items: list[str]) -> list[ItemResult]:
    progress = ctx.entity(ProgressTracker, ctx.instance_id)
    await progress.call(ProgressTracker.initialize, len(items))

    async def process(item: str) -> ItemResult:
        result = await ctx.call_activity(process_item, item)
        await progress.call(ProgressTracker.increment_processed)
        return result

    results: list[ItemResult] = []
    for first in range(0, len(items), BATCH_SIZE):
        results += await asyncio.gather(*map(process, items[first : first + BATCH_SIZE]))
    return results


@frozen
class Tracked:
    processed: int
    total: int
    results: list[ItemResult]


ITEMS = [f"item {number}" for number in range(25)]
INSTANCE_ID = "tracked"


async def main(url: str) -> Tracked:
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(
            tracked_fan_out, ITEMS, instance_id=INSTANCE_ID, reuse_policy="return_existing"
        )
        watching = asyncio.create_task(watch_progress())
        results = await handle.result()
        watching.cancel()
        progress = await engine.client.get_entity(ProgressTracker, INSTANCE_ID)
        assert progress is not None
        return Tracked(progress.processed_items, progress.total_items, results)


async def watch_progress(every: timedelta = timedelta(milliseconds=50)) -> None:
    """Until it is cancelled."""
    while True:
        progress = await engine.client.get_entity(ProgressTracker, INSTANCE_ID)
        if progress is not None:
            logger.info("%d of %d items processed", progress.processed_items, progress.total_items)
        await asyncio.sleep(every.total_seconds())


async def without_engine() -> Tracked:
    results = [await process_item(item) for item in ITEMS]
    return Tracked(len(results), len(ITEMS), results)
