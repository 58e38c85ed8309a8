"""The README's example: a fan-out over activities, and their results in the order of the calls.

    python -m examples.parallel_processing [URL]

Without a URL the store is ``orders.db`` in the working directory. ``parallel_work_items.py`` is the same with what a real program has.
"""

from __future__ import annotations

import asyncio
import sys

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine("sqlite:///orders.db")


@engine.activity
async def process_item(item: int) -> int:  # does the work: I/O is welcome here
    return item * 2


@engine.orchestrator
async def parallel_processing(ctx: OrchestrationContext, count: int) -> list[int]:
    return await asyncio.gather(*(ctx.call_activity(process_item, i) for i in range(count)))


async def main(url: str | None = None) -> list[int]:
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(parallel_processing, 10)
        return await handle.result()


async def without_engine() -> list[int]:
    return [await process_item(i) for i in range(10)]


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:])))
