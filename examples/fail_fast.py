"""Fail fast: the first failure ends the fan-in. Three ways, as in asyncio, which differ in what becomes of the others:

* ``asyncio.gather`` raises the first failure at once; the other activities go on, and nobody looks at their results;
* ``asyncio.TaskGroup`` cancels the others and raises an ``ExceptionGroup``, which ``except*`` catches and ``except`` does not;
* ``when_all`` waits for all of them, then raises the failure that is first in the order of the calls.
"""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError, OrchestrationHandle, TaskFailedError, when_all

engine = DurableEngine()


@frozen
class Item:
    """``text`` is a number, or processing it fails, after so many ``seconds``."""

    text: str
    seconds: float = 0.0


@engine.activity
async def process_item(item: Item) -> int:
    await asyncio.sleep(item.seconds)
    return int(item.text)


@engine.orchestrator
async def fail_fast(ctx: OrchestrationContext, items: list[Item]) -> list[int]:
    return await asyncio.gather(*(ctx.call_activity(process_item, item) for item in items))


@engine.orchestrator
async def fail_fast_and_cancel(ctx: OrchestrationContext, items: list[Item]) -> list[int]:
    first: Exception | None = None
    tasks = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.call_activity(process_item, item)) for item in items]
    except* TaskFailedError as failures:
        first = failures.exceptions[0]  # raised in here, it would come out in a group again
    if first is not None:
        raise first
    return [task.result() for task in tasks]


@engine.orchestrator
async def wait_for_all(ctx: OrchestrationContext, items: list[Item]) -> list[int]:
    return await when_all(ctx.call_activity(process_item, item) for item in items)


GOOD = [Item("1", 0.02), Item("2")]
BAD = [Item("slow", 0.3), Item("fast"), Item("3")]
HOPELESS = [Item("4", 3600), Item("bad", 0.02), Item("5", 3600)]


async def main(url: str) -> dict[str, list[int] | str]:
    """The numbers, or the failure."""
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        handles = [
            await start(fail_fast, GOOD, instance_id="gather", reuse_policy="return_existing"),
            await start(fail_fast, BAD, instance_id="gather-failing", reuse_policy="return_existing"),
            await start(fail_fast_and_cancel, GOOD, instance_id="task-group", reuse_policy="return_existing"),
            await start(fail_fast_and_cancel, HOPELESS, instance_id="task-group-failing", reuse_policy="return_existing"),
            await start(wait_for_all, GOOD, instance_id="when-all", reuse_policy="return_existing"),
            await start(wait_for_all, BAD, instance_id="when-all-failing", reuse_policy="return_existing"),
        ]
        return {handle.id: await outcome(handle) for handle in handles}


async def outcome(handle: OrchestrationHandle[list[int]]) -> list[int] | str:
    try:
        return await handle.result()
    except OrchestrationFailedError as error:
        if error.details is None:  # somebody terminated it
            raise
        return str(error.details.inner)  # inside the TaskFailedError that the orchestrator let through


async def without_engine() -> dict[str, list[int] | str]:
    return {
        "gather": await gathered(GOOD),
        "gather-failing": await gathered(BAD),
        "task-group": await grouped(GOOD),
        "task-group-failing": await grouped(HOPELESS),
        "when-all": await one_by_one(GOOD),
        "when-all-failing": await one_by_one(BAD),
    }


async def gathered(items: list[Item]) -> list[int] | str:
    try:
        return await asyncio.gather(*map(process_item, items))
    except ValueError as error:
        return f"ValueError: {error}"


async def grouped(items: list[Item]) -> list[int] | str:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(process_item(item)) for item in items]
        return [task.result() for task in tasks]
    except ExceptionGroup as failures:
        return f"ValueError: {failures.exceptions[0]}"


async def one_by_one(items: list[Item]) -> list[int] | str:
    try:
        return [await process_item(item) for item in items]
    except ValueError as error:
        return f"ValueError: {error}"
