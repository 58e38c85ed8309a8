"""A process that works on a store of examples/custom_backend: ``python -m tests.custom_backend.worker FOLDER finished|stuck``.

It writes "ready" when it works, and the number of each work item as it takes it on. A stuck one takes on two and finishes none.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from durable_core import DurableEngine, WorkerOptions
from examples import parallel_work_items
from examples.custom_backend import FilesBackend


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def finished(number: int) -> int:
    say(str(number))
    return await parallel_work_items.double(number)


async def stuck(number: int) -> int:
    say(str(number))
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def engine() -> DurableEngine:
    """The example's definitions, with a heart that beats fast."""
    engine = DurableEngine(options=WorkerOptions(heartbeat_s=0.3, worker_ttl_s=2.0, max_async_activities=2))
    engine.register(parallel_work_items.parallel_work_items, parallel_work_items.process_work_item)
    return engine


async def main(folder: Path, mode: str) -> None:
    parallel_work_items.processor.compute = {"finished": finished, "stuck": stuck}[mode]
    async with engine().open(backend=FilesBackend(folder)):
        say("ready")
        await asyncio.to_thread(sys.stdin.read)  # until the parent closes it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
