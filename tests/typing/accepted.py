"""What type checkers must make of well-typed programs. Never run: test_typing.py has mypy --strict and pyright check it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypedDict, assert_type

import durable_core
from durable_core import (
    ActivityContext,
    DurableClient,
    DurableEngine,
    DurableTask,
    EntityContext,
    EntityId,
    OrchestrationContext,
    OrchestrationHandle,
    OrchestrationState,
    RetryPolicy,
    when_all,
    when_any,
)
from durable_core.definitions.activity import AsyncActivity, SyncActivity
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.replay.context import EntityRef

engine = DurableEngine()
retry = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


class Point(TypedDict):
    x: int


# ── activities ───────────────────────────────────────────────────────────────────────────────────────────────────


@engine.activity
async def nothing() -> int:
    return 1


@engine.activity
async def one(x: int) -> str:
    return str(x)


@engine.activity
async def with_default(x: int, y: str = "") -> bytes:
    return y.encode()


@engine.activity(name="sync", executor="thread", retry=retry, timeout=timedelta(minutes=1))
def sync(x: int) -> float:
    return float(x)


@engine.activity(timeout=60, tags={"team": "red"}, retry=RetryPolicy(first_retry_interval=0.5, retry_timeout=60, non_retriable=ValueError))
async def tagged(x: int) -> str:
    return str(x)


@engine.activity
async def context_only(ctx: ActivityContext) -> int:
    return ctx.attempt


@engine.activity
async def with_context(ctx: ActivityContext, x: int) -> list[int]:
    return [x]


@engine.activity
def sync_with_context(ctx: ActivityContext, x: int) -> list[int]:
    return [x]


@engine.activity
async def floats(x: list[float]) -> int:
    return len(x)


@engine.activity
async def takes_point(x: Point) -> int:
    return x["x"]


@engine.activity
async def takes_object(x: object) -> int:
    return 1


@engine.activity
async def takes_any(x: Any) -> int:
    return 1


@engine.activity
async def several(*xs: int) -> int:
    return sum(xs)


@durable_core.activity
async def of_a_library(x: int) -> str:
    return str(x)


@durable_core.activity(name="other", executor="process")
def sync_of_a_library(x: int) -> str:
    return str(x)


class Service:
    async def method(self, x: int) -> str:
        return str(x)


method = engine.activity(Service().method)

# ``assert_type`` cannot name parameters; that they are kept is seen where the activities are called.
keeps_its_kind: AsyncActivity[[int], str] = one
keeps_its_kind_too: SyncActivity[[int], float] = sync


async def calling_is_calling_the_function() -> None:
    assert_type(await one(1), str)
    assert_type(sync(1), float)
    assert_type(await with_context(1), list[int])
    assert_type(sync_with_context(1), list[int])
    assert_type(await context_only(), int)


# ── orchestrators ────────────────────────────────────────────────────────────────────────────────────────────────


@engine.orchestrator
async def no_input(ctx: OrchestrationContext) -> str:
    return ""


@engine.orchestrator
async def takes_floats(ctx: OrchestrationContext, numbers: list[float]) -> list[int]:
    return []


@engine.orchestrator(name="defaulted")
async def defaulted(ctx: OrchestrationContext, number: int = 3) -> str:
    return ""


@engine.orchestrator
async def takes_point_too(ctx: OrchestrationContext, point: Point) -> str:
    return ""


@durable_core.orchestrator
async def orchestrator_of_a_library(ctx: OrchestrationContext, number: int) -> str:
    return ""


assert_type(no_input, Orchestrator[[], str])
assert_type(no_input.with_options(instance_id="x"), Orchestrator[[], str])


# ── entities ─────────────────────────────────────────────────────────────────────────────────────────────────────


@engine.entity
class Counter:
    value: int = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    async def add_slowly(self, amount: int, why: str = "") -> int:
        return self.add(amount)

    def reset(self) -> None:
        self.value = 0


@durable_core.entity(name="of-a-library")
class EntityOfALibrary:
    def who(self, ctx: EntityContext) -> str:
        return ctx.id.key


assert_type(Counter(), Counter)
assert_type(EntityOfALibrary(), EntityOfALibrary)


# ── in an orchestrator ───────────────────────────────────────────────────────────────────────────────────────────


async def activities(ctx: OrchestrationContext) -> None:
    assert_type(ctx.call_activity(nothing), DurableTask[int])
    assert_type(ctx.call_activity(one, 1), DurableTask[str])
    assert_type(ctx.call_activity(one, x=1), DurableTask[str])
    assert_type(await ctx.call_activity(one, 1), str)
    assert_type(ctx.call_activity(one, 1, retry=retry), DurableTask[str])
    assert_type(ctx.call_activity(nothing, retry=retry), DurableTask[int])
    assert_type(ctx.call_activity(with_default, 1), DurableTask[bytes])
    assert_type(ctx.call_activity(with_default, 1, retry=retry), DurableTask[bytes])
    assert_type(ctx.call_activity(with_default, 1, "y", retry=retry, tags={"a": "b"}, timeout=timedelta(seconds=1)), DurableTask[bytes])
    assert_type(ctx.call_activity(sync, 1), DurableTask[float])
    assert_type(ctx.call_activity(sync, 1, retry=retry), DurableTask[float])
    assert_type(ctx.call_activity(context_only), DurableTask[int])
    assert_type(ctx.call_activity(with_context, 1), DurableTask[list[int]])
    assert_type(ctx.call_activity(with_context, 1, retry=retry), DurableTask[list[int]])
    assert_type(ctx.call_activity(sync_with_context, 1, timeout=timedelta(seconds=1)), DurableTask[list[int]])
    assert_type(ctx.call_activity(one.with_options(retry=retry), 1), DurableTask[str])
    assert_type(ctx.call_activity(method, 1), DurableTask[str])
    assert_type(ctx.call_activity(of_a_library, 1), DurableTask[str])
    # A literal takes the parameter's type.
    assert_type(ctx.call_activity(floats, [1, 2]), DurableTask[int])
    assert_type(ctx.call_activity(takes_point, {"x": 1}), DurableTask[int])
    assert_type(ctx.call_activity(takes_object, 1), DurableTask[int])
    ctx.call_activity(takes_any, 1)  # pyright says DurableTask[int], mypy DurableTask[Any]
    assert_type(ctx.call_activity(several, 1, 2, 3), DurableTask[int])
    # By name.
    assert_type(ctx.call_activity("one", 1), DurableTask[Any])
    assert_type(ctx.call_activity("one", 1, return_type=list[int], retry=retry), DurableTask[list[int]])


async def sub_orchestrations(ctx: OrchestrationContext) -> None:
    assert_type(ctx.call_sub_orchestrator(no_input), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(no_input, instance_id="x"), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(takes_floats, [1, 2]), DurableTask[list[int]])
    assert_type(ctx.call_sub_orchestrator(takes_floats, [1.0, 2.0], instance_id="x"), DurableTask[list[int]])
    # With options a literal is what it looks like: [1, 2] is a list[int] there, which is no list[float]. ``with_options`` is the way out.
    assert_type(ctx.call_sub_orchestrator(takes_floats.with_options(instance_id="x"), [1, 2]), DurableTask[list[int]])
    assert_type(ctx.call_sub_orchestrator(defaulted), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(defaulted, 4), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(defaulted, instance_id="x"), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(defaulted, 4, instance_id="x"), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator(takes_point_too, {"x": 1}), DurableTask[str])
    assert_type(ctx.call_sub_orchestrator("no_input"), DurableTask[Any])
    assert_type(ctx.call_sub_orchestrator("no_input", return_type=str, instance_id="x"), DurableTask[str])


async def entities(ctx: OrchestrationContext) -> None:
    counter = ctx.entity(Counter, "key")
    assert_type(counter, EntityRef[Counter])
    assert_type(ctx.entity(EntityOfALibrary, "key").call(EntityOfALibrary.who), DurableTask[str])
    ctx.entity(EntityOfALibrary, "key").signal_at(timedelta(days=1), EntityOfALibrary.who)
    assert_type(counter.delete(), DurableTask[None])
    async with ctx.lock_entities(counter, EntityId("counter", "other")):
        pass
    assert_type(counter.call(Counter.add, 5), DurableTask[int])
    assert_type(counter.call(Counter.add_slowly, 5), DurableTask[int])
    assert_type(counter.call(Counter.add_slowly, 5, "because"), DurableTask[int])
    assert_type(await counter.call(Counter.reset), None)
    counter.signal(Counter.add, 5)
    counter.signal(Counter.reset)
    assert_type(ctx.call_entity(EntityId("counter", "key"), "add", 5), DurableTask[Any])
    assert_type(ctx.call_entity(EntityId("counter", "key"), "add", 5, return_type=int), DurableTask[int])
    ctx.signal_entity(EntityId("counter", "key"), "add", 5)


async def timers_and_events(ctx: OrchestrationContext) -> None:
    assert_type(await ctx.create_timer(timedelta(days=1)), None)
    assert_type(await ctx.create_timer(ctx.current_utc_datetime + timedelta(days=1)), None)
    assert_type(ctx.wait_for_external_event("name"), DurableTask[Any])
    assert_type(ctx.wait_for_external_event("name", return_type=bool, timeout=timedelta(days=1)), DurableTask[bool])
    assert_type(ctx.current_utc_datetime, datetime)


async def fan_in(ctx: OrchestrationContext) -> list[str]:
    async def helper(number: int) -> str:
        return await ctx.call_activity(one, number)

    tasks = [ctx.call_activity(one, number) for number in range(3)]
    assert_type(tasks, list[DurableTask[str]])
    assert_type(await asyncio.gather(*tasks), list[str])
    assert_type(await asyncio.gather(*(helper(number) for number in range(3)), return_exceptions=True), list[str | BaseException])
    assert_type(await asyncio.gather(ctx.call_activity(one, 1), ctx.call_activity(nothing)), tuple[str, int])
    assert_type(await when_all(tasks), list[str])
    assert_type(await when_all(ctx.call_activity(one, 1), ctx.call_activity(nothing)), tuple[str, int])
    assert_type(await when_all([helper(1), helper(2)]), list[str])
    assert_type(await when_any(tasks), DurableTask[str])
    assert_type(await when_any(*tasks), DurableTask[str])
    assert_type(await (await when_any(tasks)), str)
    async with asyncio.TaskGroup() as group:
        started = group.create_task(ctx.call_activity(one, 1))
        assert_type(started, asyncio.Task[str])
    assert_type(await asyncio.wait_for(ctx.call_activity(one, 1), 5), str)
    done, _ = await asyncio.wait(tasks)
    assert_type(done, set[DurableTask[str]])
    return await when_all([ctx.call_activity(one, number) for number in range(3)])


# ── a client ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def client_calls(client: DurableClient, state: OrchestrationState) -> None:
    handle = await client.schedule_new_orchestration(takes_floats, [1.0, 2.0], instance_id="x")
    assert_type(handle, OrchestrationHandle[list[int]])
    assert_type(await handle.result(), list[int])
    assert_type(await client.schedule_new_orchestration(no_input), OrchestrationHandle[str])
    assert_type(await client.schedule_new_orchestration(defaulted, instance_id="x"), OrchestrationHandle[str])
    assert_type(await client.schedule_new_orchestration(takes_floats.with_options(instance_id="x"), [1, 2]), OrchestrationHandle[list[int]])
    assert_type(
        await client.schedule_new_orchestration(takes_floats, [1.0], reuse_policy="return_existing", tags={"a": "b"}),
        OrchestrationHandle[list[int]],
    )
    assert_type(await client.schedule_new_orchestration("no_input"), OrchestrationHandle[Any])
    assert_type(await client.schedule_new_orchestration("no_input", return_type=str, instance_id="x"), OrchestrationHandle[str])
    assert_type(client.get_handle(takes_floats, "x"), OrchestrationHandle[list[int]])
    assert_type(client.get_handle("takes_floats", "x"), OrchestrationHandle[Any])
    assert_type(await client.get_entity(Counter, "key"), Counter | None)
    await client.signal_entity(EntityId("counter", "key"), Counter.add, 5)
    await client.signal_entity(EntityId("counter", "key"), "add", 5)
    assert_type(await client.get_instance("x"), OrchestrationState | None)
    assert_type(state.output_as(list[int]), list[int] | None)
    state.output_as(int | None)
    async for found in client.query_instances(name="no_input"):
        assert_type(found, OrchestrationState)


async def lifecycle() -> None:
    async with engine as opened:
        assert_type(opened, DurableEngine)
    async with engine.open("memory://", worker=False) as opened:
        assert_type(opened, DurableEngine)
    assert_type(engine.client, DurableClient)


def calling_an_orchestrator_gives_its_coroutine(ctx: OrchestrationContext) -> Coroutine[Any, Any, str]:
    return no_input(ctx)
