"""History size: everything an orchestration sees stays in its history, so one that works through very much grows without end.

``in_batches`` keeps the number of open activities small, and says when its history has grown past a limit. ``in_generations`` is the cure:
every so many batches it continues as new, with what it has so far as its input and an empty history. An orchestration that cannot say how
much it does in one batch asks ``ctx.continue_as_new_suggested``.
"""

from __future__ import annotations

import asyncio

from attrs import evolve, frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()

BATCH_SIZE = 100
BATCHES_PER_GENERATION = 3


@frozen
class Work:
    """The items are the numbers from ``done`` to ``count``; ``total`` is what came out of those before."""

    count: int
    batch_size: int = BATCH_SIZE
    history_limit: int = 1_000
    done: int = 0
    total: int = 0


@engine.activity
async def process(item: int) -> int:
    return item % 7


async def next_batch(ctx: OrchestrationContext, work: Work) -> Work:
    items = range(work.done, min(work.done + work.batch_size, work.count))
    values = await asyncio.gather(*(ctx.call_activity(process, item) for item in items))
    return evolve(work, done=work.done + len(items), total=work.total + sum(values))


@engine.orchestrator
async def in_batches(ctx: OrchestrationContext, work: Work) -> int:
    warned = False
    while work.done < work.count:
        work = await next_batch(ctx, work)
        if ctx.history_length > work.history_limit and not warned:
            warned = True
            ctx.logger.warning("%d events in the history after %d of %d items", ctx.history_length, work.done, work.count)
    return work.total


@engine.orchestrator
async def in_generations(ctx: OrchestrationContext, work: Work) -> int:
    for _ in range(BATCHES_PER_GENERATION):
        if work.done < work.count and not ctx.continue_as_new_suggested:
            work = await next_batch(ctx, work)
    if work.done < work.count:
        ctx.continue_as_new(work)  # takes effect when this function returns
    return work.total


async def main(url: str, count: int = 1_050, batch_size: int = BATCH_SIZE) -> tuple[int, int]:
    """The same total by both ways."""
    work = Work(count, batch_size)
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        batches = await start(in_batches, work, instance_id=f"in-batches-{count}", reuse_policy="return_existing")
        generations = await start(in_generations, work, instance_id=f"in-generations-{count}", reuse_policy="return_existing")
        return await batches.result(), await generations.result()


async def without_engine(count: int = 1_050, batch_size: int = BATCH_SIZE) -> tuple[int, int]:
    total = sum([await process(item) for item in range(count)])
    return total, total
