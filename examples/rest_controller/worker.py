"""The process that works: ``python -m examples.rest_controller.worker [--child] URL``, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from examples.parallel_work_items import engine

__all__ = ["work"]


async def work(url: str, *, child: bool = False) -> None:
    """A ``child`` also ends when its standard input does: a pipe from its parent, which it must not outlive."""
    ended = asyncio.Event()
    if child:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    async with engine.open(url):
        await ended.wait()


if __name__ == "__main__":
    *options, url = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(work(url, child="--child" in options))
