"""Orchestrators whose histories, together with those of the examples, hold every kind of event.

Kept for ever, like the histories: never change what one of these asks for, or its golden histories no longer fit. Write a new one.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from durable_core import DurableEngine, EntityId, OrchestrationContext, RetryPolicy, TaskFailedError, TaskTimeoutError, when_all, when_any

engine = DurableEngine()

SOON = timedelta(milliseconds=30)
LATE = timedelta(days=1)


# ── activities and an entity ─────────────────────────────────────────────────────────────────────────────────────


@engine.activity
async def double(number: int) -> int:
    return number * 2


@engine.activity
async def refuse(number: int) -> int:
    raise ValueError(f"{number} is refused")


@engine.activity
async def never() -> None:
    await asyncio.Event().wait()


@engine.entity
class Account:
    balance: int = 0

    def deposit(self, amount: int) -> int:
        if amount < 0:
            raise ValueError("a deposit must not be negative")
        self.balance += amount
        return self.balance


# ── orchestrators ────────────────────────────────────────────────────────────────────────────────────────────────


@engine.orchestrator
async def fan_ins(ctx: OrchestrationContext, count: int) -> list[str]:
    """gather, when_all, when_any, as_completed, a semaphore, a queue."""
    found = [await ctx.call_activity(double, 1)]
    found += await asyncio.gather(*(ctx.call_activity(double, number) for number in range(count)))
    found += await when_all([ctx.call_activity(double, number) for number in range(count)])
    both = [ctx.call_activity(double, 10), ctx.call_activity(double, 10)]
    found.append(await (await when_any(both)))
    await asyncio.wait(both)
    gate, queue = asyncio.Semaphore(2), asyncio.Queue[int]()

    async def limited(number: int) -> None:
        async with gate:
            await queue.put(await ctx.call_activity(double, number))

    tasks = [asyncio.create_task(limited(number)) for number in range(count)]
    found += sorted([await queue.get() for _ in tasks])
    for done in asyncio.as_completed(tasks):
        await done
    assert await asyncio.gather() == []
    ctx.set_custom_status({"found": len(found)})
    return [str(number) for number in found] + [str(ctx.new_uuid()), str(ctx.random.random())]


@engine.orchestrator
async def timers(ctx: OrchestrationContext) -> list[str]:
    """Timers that fire, timers that are given up, calls that are given up."""
    found = []
    await asyncio.sleep(0.01)
    await ctx.create_timer(SOON)
    found.append(str(await asyncio.wait_for(ctx.call_activity(double, 4), 3600)))
    try:
        async with asyncio.timeout(0.02):
            await ctx.call_activity(never)
    except TimeoutError:
        found.append("timeout")
    try:
        await ctx.call_activity(never, timeout=SOON)
    except TaskTimeoutError:
        found.append("task timeout")
    given_up = ctx.create_timer(LATE)
    given_up.cancel()
    return [*found, str(given_up.cancelled())]


@engine.orchestrator
async def failures(ctx: OrchestrationContext) -> list[str]:
    """Retries, a task group with a failing member, exceptions that nobody awaits."""
    found = []
    try:
        await ctx.call_activity(refuse, 1, retry=RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=3))
    except TaskFailedError as error:
        found.append(error.details.message)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.call_activity(never))
            group.create_task(ctx.call_activity(refuse, 2))
            group.create_task(asyncio.sleep(LATE.total_seconds()))
    except* TaskFailedError as errors:
        found += [str(type(error).__name__) for error in errors.exceptions]
    unawaited = asyncio.create_task(raise_later(ctx), name="unawaited")
    await asyncio.sleep(0.02)
    assert unawaited.done()
    return found


async def raise_later(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(double, 1)
    raise KeyError("nobody awaits this")


@engine.orchestrator
async def fails(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(refuse, number)


@engine.orchestrator
async def child(ctx: OrchestrationContext, number: int) -> int:
    await asyncio.sleep(0.01 * number)
    return await ctx.call_activity(double, number)


@engine.orchestrator
async def children(ctx: OrchestrationContext) -> list[str]:
    """With and without an id, one that fails, one that is given up."""
    one, two = await asyncio.gather(
        ctx.call_sub_orchestrator(child, 1), ctx.call_sub_orchestrator(child, 2, instance_id=f"{ctx.instance_id}-two")
    )
    found = [str(one), str(two)]
    try:
        await ctx.call_sub_orchestrator(fails, 3)
    except TaskFailedError as error:
        found.append(error.details.type)
    waiting = ctx.call_sub_orchestrator(waits, "for ever")
    await ctx.create_timer(SOON)
    waiting.cancel()
    return [*found, str(waiting.cancelled())]


@engine.orchestrator
async def waits(ctx: OrchestrationContext, name: str) -> str:
    return await ctx.wait_for_external_event(name, return_type=str)


@engine.orchestrator
async def sends(ctx: OrchestrationContext, to: str) -> None:
    ctx.send_event(to, "Greeting", "hello")


@engine.orchestrator
async def generations(ctx: OrchestrationContext, left: int) -> list[int]:
    """Takes one event a generation; what came too early is carried on to the next."""
    first = await ctx.wait_for_external_event("item", return_type=int)
    try:
        await ctx.wait_for_external_event("nothing", timeout=SOON)
    except TaskTimeoutError:
        pass
    if left:
        ctx.continue_as_new(left - 1)
    return [first, left]


@engine.orchestrator
async def entities(ctx: OrchestrationContext, key: str) -> list[str]:
    account = ctx.entity(Account, key)
    account.signal(Account.deposit, 5)
    found = [str(await account.call(Account.deposit, 7))]
    try:
        await account.call(Account.deposit, -1)
    except TaskFailedError as error:
        found.append(error.details.message)
    ctx.signal_entity(EntityId("account", key), "deposit", 1)
    return [*found, str(await ctx.call_entity(EntityId("account", key), "deposit", 1, return_type=int))]


@engine.orchestrator
async def locks(ctx: OrchestrationContext, amount: int) -> list[int]:
    here, there = ctx.entity(Account, "here"), ctx.entity(Account, "there")
    async with ctx.lock_entities(there, here):
        return [await here.call(Account.deposit, amount), await there.call(Account.deposit, amount)]
