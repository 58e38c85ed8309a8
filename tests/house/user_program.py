"""What a user writes after `pip install durable-core`. test_wheel.py runs it and type-checks it against the built wheel."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import assert_type

import durable_core
import durable_sqlite
from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine("sqlite:///orders.db")


@engine.activity
async def process_item(item: int) -> int:
    return item * 2


@engine.orchestrator
async def parallel_processing(ctx: OrchestrationContext, count: int) -> list[int]:
    return await asyncio.gather(*(ctx.call_activity(process_item, i) for i in range(count)))


async def main() -> None:
    async with engine:
        handle = await engine.client.schedule_new_orchestration(parallel_processing, 10)
        result = await handle.result()
        assert_type(result, list[int])
        assert result == [item * 2 for item in range(10)]


def everything_is_importable() -> None:
    """Every module of the core and the backend, from the wheel, with nothing but the declared needs installed."""
    for package in (durable_core, durable_sqlite):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            imported = importlib.import_module(module.name)
            assert Path(imported.__file__ or "").is_relative_to(sys.prefix), imported
    for group in ("durable_core.backends", "durable_core.harnesses"):
        for entry in entry_points(group=group):
            assert callable(entry.load()), entry


if __name__ == "__main__":
    everything_is_importable()
    asyncio.run(main())
    assert Path("orders.db").exists()
