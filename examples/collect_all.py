"""Collect all results, failures included: each call has its own try/except in a small coroutine, and those are gathered."""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, TaskFailedError

engine = DurableEngine()


@frozen
class TaskResult:
    """Of one item: ``result``, or why there is none."""

    item: str
    success: bool
    result: int | None = None
    error: str | None = None


@frozen
class FanOutResult:
    total_items: int
    success_count: int
    failure_count: int
    failures: list[TaskResult]


@engine.activity
async def process_item(item: str) -> int:
    return int(item)


@engine.orchestrator
async def collect_all(ctx: OrchestrationContext, items: list[str]) -> FanOutResult:
    async def process(item: str) -> TaskResult:
        try:
            return TaskResult(item, True, result=await ctx.call_activity(process_item, item))
        except TaskFailedError as error:
            return TaskResult(item, False, error=error.details.message)

    return counted(await asyncio.gather(*map(process, items)))


def counted(results: list[TaskResult]) -> FanOutResult:
    failures = [result for result in results if not result.success]
    return FanOutResult(len(results), len(results) - len(failures), len(failures), failures)


INPUTS = {"collect-all": ["1", "two", "3", "", "5"], "collect-nothing": []}


async def main(url: str) -> dict[str, FanOutResult]:
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        handles = [await start(collect_all, items, instance_id=id, reuse_policy="return_existing") for id, items in INPUTS.items()]
        return {handle.id: await handle.result() for handle in handles}


async def without_engine() -> dict[str, FanOutResult]:
    async def process(item: str) -> TaskResult:
        try:
            return TaskResult(item, True, result=await process_item(item))
        except ValueError as error:
            return TaskResult(item, False, error=str(error))

    return {id: counted([await process(item) for item in items]) for id, items in INPUTS.items()}
