"""The process that works: ``python -m examples.rest_controller.worker URL``, until it is interrupted or its standard input ends.

The second is for a parent that starts it with a pipe: however the parent ends, its worker ends too.
"""

from __future__ import annotations

import asyncio
import sys

from examples.parallel_work_items import engine

__all__ = ["work"]


async def work(url: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    async with engine.open(url):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
