"""A large dataset in chunks: a sub-orchestration a chunk, so that no history holds it all, and one activity that aggregates the results."""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@frozen
class LargeDatasetInput:
    items: list[int]
    chunk_size: int = 1_000

    def chunks(self) -> list[list[int]]:
        return [self.items[first : first + self.chunk_size] for first in range(0, len(self.items), self.chunk_size)]


@frozen
class ChunkResult:
    count: int
    total: int


@engine.activity
async def process_item(item: int) -> int:
    return item * item % 97


@engine.activity
async def aggregate_chunk_results(results: list[ChunkResult]) -> str:
    return f"{sum(result.count for result in results)} items in {len(results)} chunks, {sum(result.total for result in results)} in all"


@engine.orchestrator
async def process_chunk(ctx: OrchestrationContext, chunk: list[int]) -> ChunkResult:
    values = await asyncio.gather(*(ctx.call_activity(process_item, item) for item in chunk))
    return ChunkResult(len(values), sum(values))


@engine.orchestrator
async def large_dataset(ctx: OrchestrationContext, input: LargeDatasetInput) -> str:
    results = await asyncio.gather(
        *(
            ctx.call_sub_orchestrator(process_chunk, chunk, instance_id=f"{ctx.instance_id}-chunk-{index}")
            for index, chunk in enumerate(input.chunks())
        )
    )
    return await ctx.call_activity(aggregate_chunk_results, results)


async def main(url: str, count: int = 10_000, chunk_size: int = 1_000) -> str:
    input = LargeDatasetInput(list(range(count)), chunk_size)
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(
            large_dataset, input, instance_id=f"dataset-{count}", reuse_policy="return_existing"
        )
        return await handle.result()


async def without_engine(count: int = 10_000, chunk_size: int = 1_000) -> str:
    chunks = LargeDatasetInput(list(range(count)), chunk_size).chunks()
    results = [ChunkResult(len(chunk), sum([await process_item(item) for item in chunk])) for chunk in chunks]
    return await aggregate_chunk_results(results)
