"""Batched fan-out: so many at a time, for inputs that are too long to be done all at once; and a batch size that the input decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import Enum

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()

BATCH_SIZE = 10


@frozen
class BatchInput:
    items: list[str]


@frozen
class ItemResult:
    item: str
    length: int


@frozen
class BatchResult:
    total_processed: int
    results: list[ItemResult]


@engine.activity
async def process_item(item: str) -> ItemResult:
    return ItemResult(item, len(item))


def chunks(items: list[str], size: int) -> Iterator[list[str]]:
    """The last one may be smaller; nothing gives none."""
    return (items[first : first + size] for first in range(0, len(items), size))


@engine.orchestrator
async def batched_fan_out(ctx: OrchestrationContext, input: BatchInput) -> BatchResult:
    results: list[ItemResult] = []
    batches = list(chunks(input.items, BATCH_SIZE))
    for number, batch in enumerate(batches, 1):
        ctx.logger.info("processing batch %d of %d", number, len(batches))
        results += await asyncio.gather(*(ctx.call_activity(process_item, item) for item in batch))
    return BatchResult(len(results), results)


# ── the batch size comes with the input ──────────────────────────────────────────────────────────────────────────


class Complexity(Enum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Complexity:
        """A value that a newer program may have sent."""
        return cls.UNKNOWN


@frozen
class DynamicBatchInput:
    items: list[str]
    item_complexity: Complexity = Complexity.MEDIUM


@frozen
class DynamicBatchResult:
    batch_sizes: list[int]
    results: list[ItemResult]


def batch_size(complexity: Complexity) -> int:
    match complexity:
        case Complexity.LOW:
            return 50
        case Complexity.MEDIUM:
            return 20
        case Complexity.HIGH:
            return 5
        case _:
            return 10


@engine.orchestrator
async def dynamic_batches(ctx: OrchestrationContext, input: DynamicBatchInput) -> DynamicBatchResult:
    sizes: list[int] = []
    results: list[ItemResult] = []
    for batch in chunks(input.items, batch_size(input.item_complexity)):
        sizes.append(len(batch))
        results += await asyncio.gather(*(ctx.call_activity(process_item, item) for item in batch))
    return DynamicBatchResult(sizes, results)


COUNTS = [25, 10, 0]
"""A partial last batch, a full one, none."""
INPUTS = {
    "default": DynamicBatchInput(["a" * length for length in range(22)]),
    "low": DynamicBatchInput(["b" * length for length in range(22)], Complexity.LOW),
    "high": DynamicBatchInput(["c" * length for length in range(10)], Complexity.HIGH),
    "extreme": DynamicBatchInput(["d" * length for length in range(12)], Complexity("extreme")),
    "none": DynamicBatchInput([]),
}


@frozen
class Results:
    batched: list[BatchResult]
    dynamic: dict[str, DynamicBatchResult]


def items_of(count: int) -> list[str]:
    return [f"item {number}" for number in range(count)]


async def main(url: str) -> Results:
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        batched = [
            await start(batched_fan_out, BatchInput(items_of(count)), instance_id=f"batched-{count}", reuse_policy="return_existing")
            for count in COUNTS
        ]
        dynamic = {
            name: await start(dynamic_batches, input, instance_id=f"dynamic-{name}", reuse_policy="return_existing")
            for name, input in INPUTS.items()
        }
        return Results([await handle.result() for handle in batched], {name: await handle.result() for name, handle in dynamic.items()})


async def without_engine() -> Results:
    batched = [[await process_item(item) for item in items_of(count)] for count in COUNTS]
    dynamic = {}
    for name, input in INPUTS.items():
        full, rest = divmod(len(input.items), batch_size(input.item_complexity))
        sizes = [batch_size(input.item_complexity)] * full + [rest] * (rest > 0)
        dynamic[name] = DynamicBatchResult(sizes, [await process_item(item) for item in input.items])
    return Results([BatchResult(len(results), results) for results in batched], dynamic)
