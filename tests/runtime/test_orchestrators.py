"""Orchestrators as users write them: inputs, helpers, asyncio's tools, the end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable_core import InstanceStatus, OrchestrationContext, activity, orchestrator
from tests.runtime.support import PATIENCE, SECOND, engine_with

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@activity
async def double(x: int) -> int:
    return 2 * x


def test_any_number_of_inputs(url, run):
    @orchestrator
    async def none(ctx: OrchestrationContext) -> str:
        return "none"

    @orchestrator
    async def many(ctx: OrchestrationContext, a: int, b: list[str], c: float = 0.5, *rest: bool) -> list[Any]:
        return [a, b, c, *rest]

    engine = engine_with(none, many)

    async def main():
        async with engine.open(url):
            start = engine.client.schedule_new_orchestration
            return [await (await start(*call)).result(PATIENCE) for call in [(none,), (many, 1, ["x"]), (many, 1, [], 2.5, True, False)]]

    assert run(main) == ["none", [1, ["x"], 0.5], [1, [], 2.5, True, False]]


def test_asyncio_works_as_elsewhere_on_every_number_of_messages_a_turn(run, url):
    """Everything at once, with one message a turn and many, from the cache and replayed: one answer, and it is asyncio's own."""

    async def helper(ctx: OrchestrationContext, x: int) -> int:
        return await ctx.call_activity(double, x)

    async def countdown(ctx: OrchestrationContext, n: int) -> AsyncIterator[int]:
        try:
            while n:
                yield await ctx.call_activity(double, n)
                n -= 1
        finally:
            await asyncio.sleep(0)

    @orchestrator
    async def everything(ctx: OrchestrationContext) -> dict[str, Any]:
        found: dict[str, Any] = {}
        found["gather"] = await asyncio.gather(*(helper(ctx, x) for x in range(3)))
        done, pending = await asyncio.wait([asyncio.create_task(helper(ctx, x)) for x in range(3)])
        found["wait"] = [sorted(task.result() for task in done), len(pending)]
        found["as_completed"] = sorted([await each for each in asyncio.as_completed([ctx.call_activity(double, x) for x in range(3)])])
        found["wait_for"] = await asyncio.wait_for(helper(ctx, 4), 3600)
        async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
            tasks = [group.create_task(helper(ctx, x)) for x in range(3)]
        found["group"] = [task.result() for task in tasks]
        found["shield"] = await asyncio.shield(helper(ctx, 5))
        found["generator"] = [x async for x in countdown(ctx, 2)]

        queue, lock, gate, barrier = asyncio.Queue[int](2), asyncio.Lock(), asyncio.Semaphore(2), asyncio.Barrier(3)
        event, condition, order = asyncio.Event(), asyncio.Condition(), list[str]()

        async def producer() -> None:
            for x in range(4):
                await queue.put(await helper(ctx, x))
            event.set()

        async def worker(name: str) -> None:
            who.set(name)
            async with gate, lock:
                await ctx.create_timer(0.001 * SECOND)
                order.append(who.get())
            await barrier.wait()
            async with condition:
                condition.notify_all()

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            for name in "abc":
                group.create_task(worker(name))
            found["queue"] = [await queue.get() for _ in range(4)]
            await event.wait()
            async with condition:
                await asyncio.wait_for(condition.wait_for(lambda: len(order) == 3), 3600)
        found["order"] = order
        found["context"] = who.get()
        await asyncio.sleep(0)
        return found

    async def answer(**options: Any) -> tuple[dict[str, Any], list[Any]]:
        engine = engine_with(double, everything, **options)
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(everything)
            return await handle.result(PATIENCE), await engine.client.get_history(handle.id)

    async def main():
        for options in ({}, {"max_messages_per_turn": 1}, {"max_cached_instances": 0}, {"max_async_activities": 1}):
            result, _ = await answer(**options)
            assert result == {
                "gather": [0, 2, 4],
                "wait": [[0, 2, 4], 0],
                "as_completed": [0, 2, 4],
                "wait_for": 8,
                "group": [0, 2, 4],
                "shield": 10,
                "generator": [4, 2],
                "queue": [0, 2, 4, 6],
                "order": ["a", "b", "c"],
                "context": "nobody",
            }

    run(main)


@pytest.mark.parametrize(
    ("error", "type"), [(ValueError("no"), "ValueError"), (asyncio.CancelledError(), "CancelledError"), (KeyError(), "KeyError")]
)
def test_an_exception_is_a_failure_also_a_cancellation_that_nobody_asked_for(url, run, error, type):
    @orchestrator
    async def raising(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(double, 1)
        raise error

    engine = engine_with(double, raising)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(raising)
            return await engine.client.wait_for_completion(handle.id, PATIENCE)

    state = run(main)
    assert state.runtime_status is InstanceStatus.FAILED
    assert state.failure.type.endswith(type)


def test_eviction_closes_the_code_and_is_no_cancellation(url, run, caplog):
    ended: list[str] = []

    @orchestrator
    async def careful(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.wait_for_external_event("go", return_type=str)
        except asyncio.CancelledError:
            await ctx.call_activity(double, 1)
            raise
        finally:
            ended.append(ctx.instance_id)
            ctx.logger.error("it ends")
            await asyncio.sleep(0)

    engine = engine_with(double, careful, max_cached_instances=1)

    async def main():
        async with engine.open(url):
            for n in range(4):
                await engine.client.schedule_new_orchestration(careful, instance_id=f"i{n}")
                await engine.client.wait_for_start(f"i{n}", PATIENCE)
            before = len(ended)
            for n in range(4):
                await engine.client.raise_event(f"i{n}", "go", str(n))
            results = [await engine.client.get_handle(careful, f"i{n}").result(PATIENCE) for n in range(4)]
            await engine.client.schedule_new_orchestration(careful, instance_id="at the end")
            await engine.client.wait_for_start("at the end", PATIENCE)
            return before, results, await engine.client.get_history("i0")

    before, results, history = run(main)
    assert before >= 2
    assert results == ["0", "1", "2", "3"]
    assert ended[-1] == "at the end", "closing the engine is the same"
    assert len([record for record in caplog.records if "it ends" in record.message]) == 4, "each said it once, when it ended"
    assert not [record for record in caplog.records if "ended" in record.message]
    assert [type(event).__name__ for event in history] == ["ExecutionStarted", "EventRaised", "ExecutionCompleted"]
