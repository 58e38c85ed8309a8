"""Map and reduce: the chunks are mapped all at once, the results reduced two by two, level by level, until one is left.

A result without a partner is reduced alone. Of no chunks there is no result: the orchestration fails.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError

engine = DurableEngine()


@frozen
class MapReduceInput:
    chunks: list[str]


@frozen
class MapResult:
    """``reductions``: how often this was reduced, the parts' included."""

    words: dict[str, int]
    reductions: int = 0


@frozen
class ReduceResult:
    final_result: MapResult


@engine.activity
async def count_words(chunk: str) -> MapResult:
    return MapResult(dict(sorted(Counter(chunk.split()).items())))


@engine.activity
async def merge_counts(parts: list[MapResult]) -> MapResult:
    words: Counter[str] = Counter()
    for part in parts:
        words.update(part.words)
    return MapResult(dict(sorted(words.items())), 1 + sum(part.reductions for part in parts))


@engine.orchestrator
async def map_reduce(ctx: OrchestrationContext, input: MapReduceInput) -> ReduceResult:
    results = await asyncio.gather(*(ctx.call_activity(count_words, chunk) for chunk in input.chunks))
    while len(results) > 1:
        pairs = (results[first : first + 2] for first in range(0, len(results), 2))
        results = await asyncio.gather(*(ctx.call_activity(merge_counts, pair) for pair in pairs))
    [final] = results
    return ReduceResult(final)


INPUTS = {
    "five": ["the quick brown fox", "jumps over", "the lazy dog", "and the", "fox jumps back"],
    "four": ["one", "two", "one two", ""],
    "one": ["alone"],
    "none": [],
}


async def main(url: str) -> dict[str, ReduceResult | str]:
    """What failed gives the reason."""
    results: dict[str, ReduceResult | str] = {}
    async with engine.open(url):
        for name, chunks in INPUTS.items():
            handle = await engine.client.schedule_new_orchestration(
                map_reduce, MapReduceInput(chunks), instance_id=f"reduce-{name}", reuse_policy="return_existing"
            )
            try:
                results[name] = await handle.result()
            except OrchestrationFailedError as error:
                if error.details is None:  # somebody terminated it
                    raise
                results[name] = error.details.message
    return results


async def without_engine() -> dict[str, ReduceResult | str]:
    results: dict[str, ReduceResult | str] = {}
    for name, chunks in INPUTS.items():
        level = [await count_words(chunk) for chunk in chunks]
        while len(level) > 1:
            level = [await merge_counts(level[first : first + 2]) for first in range(0, len(level), 2)]
        try:
            [final] = level
        except ValueError as error:
            results[name] = str(error)
        else:
            results[name] = ReduceResult(final)
    return results
