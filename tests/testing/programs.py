"""The engine that these tests test, as a program would define it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import datetime, timedelta

from durable_core import DurableEngine, EntityContext, OrchestrationContext, RetryPolicy, TaskFailedError, TaskTimeoutError

engine = DurableEngine()

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PATIENT = RetryPolicy(first_retry_interval=HOUR, max_number_of_attempts=5, backoff_coefficient=2.0)


# ── activities ───────────────────────────────────────────────────────────────────────────────────────────────────


@engine.activity
async def charge_card(customer: str, cents: int = 100) -> str:
    raise AssertionError("a test must not charge a card")


@engine.activity
def send_mail(to: str) -> bool:
    raise AssertionError("a test must not send mail")


@engine.activity
def work_in_thread(seconds: float) -> str:
    time.sleep(seconds)
    return threading.current_thread().name


@engine.activity(executor="process")
def work_in_process() -> int:
    return os.getpid()


@engine.activity
async def work_on_the_loop(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "real"


# ── an entity ────────────────────────────────────────────────────────────────────────────────────────────────────


@engine.entity
class Counter:
    value: int = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def asked_at(self, ctx: EntityContext) -> datetime:
        return ctx.now


# ── orchestrators ────────────────────────────────────────────────────────────────────────────────────────────────


@engine.orchestrator
async def subscription(ctx: OrchestrationContext, customer: str) -> str:
    """A month on trial, then the first payment."""
    await ctx.create_timer(30 * DAY)
    receipt = await ctx.call_activity(charge_card, customer)
    mailed = await ctx.call_activity("send_mail", customer, return_type=bool)
    return receipt if mailed else "nobody was told"


@engine.orchestrator
async def moments(ctx: OrchestrationContext, hours: list[float]) -> list[float]:
    """When timers set together fire, in the order in which they do."""
    began, fired = ctx.current_utc_datetime, list[float]()

    async def wait(time: float) -> None:
        await ctx.create_timer(time * HOUR)
        fired.append((ctx.current_utc_datetime - began) / HOUR)

    await asyncio.gather(*map(wait, hours))
    return fired


@engine.orchestrator
async def retries(ctx: OrchestrationContext) -> float:
    """Hours until the card is charged."""
    began = ctx.current_utc_datetime
    await ctx.call_activity(charge_card, "ada", retry=PATIENT)
    return (ctx.current_utc_datetime - began) / HOUR


@engine.orchestrator
async def approval(ctx: OrchestrationContext) -> str:
    try:
        return await ctx.wait_for_external_event("Approved", timeout=7 * DAY, return_type=str)
    except TaskTimeoutError:
        return "nobody cared"


@engine.orchestrator
async def waits_for_ever(ctx: OrchestrationContext) -> None:
    await ctx.wait_for_external_event("Godot")


@engine.orchestrator
async def started_at(ctx: OrchestrationContext) -> datetime:
    return ctx.current_utc_datetime


@engine.orchestrator
async def parent(ctx: OrchestrationContext, hours: list[float]) -> list[float]:
    await ctx.create_timer(HOUR)
    return await ctx.call_sub_orchestrator(moments, hours)


@engine.orchestrator
async def parent_of_waiting(ctx: OrchestrationContext) -> None:
    await ctx.call_sub_orchestrator(waits_for_ever, instance_id="child")


@engine.orchestrator
async def daily(ctx: OrchestrationContext, customer: str, day: int, days: int) -> int:
    await ctx.create_timer(DAY)
    await ctx.call_activity(charge_card, customer, day)
    if day < days:
        ctx.continue_as_new(customer, day + 1, days)
    return day


@engine.orchestrator
async def eternal(ctx: OrchestrationContext) -> None:
    await ctx.create_timer(1000 * DAY)
    ctx.continue_as_new()


@engine.orchestrator
async def counts(ctx: OrchestrationContext) -> list[int]:
    counter, found = ctx.entity(Counter, "c"), list[int]()
    for amount in (1, 2):
        await ctx.create_timer(DAY)
        found.append(await counter.call(Counter.add, amount))
    return found


@engine.orchestrator
async def works(ctx: OrchestrationContext) -> list[str]:
    """Real work beside a long timer: the timer must not end first."""
    timer, found = ctx.create_timer(365 * DAY), list[str]()
    for call in (ctx.call_activity(work_in_thread, 0.05), ctx.call_activity(work_in_process), ctx.call_activity(work_on_the_loop, 0.05)):
        found.append(str(await call))
        assert not timer.done()
    await timer
    return found


@engine.orchestrator
async def works_long(ctx: OrchestrationContext, seconds: float) -> None:
    await ctx.call_activity(work_in_thread, seconds)


@engine.orchestrator
async def impatient(ctx: OrchestrationContext) -> str:
    try:
        return await ctx.call_activity(charge_card, "ada", timeout=HOUR)
    except TaskTimeoutError:
        return "too slow"


@engine.orchestrator
async def careful(ctx: OrchestrationContext) -> str:
    try:
        return await ctx.call_activity(charge_card, "ada")
    except TaskFailedError as error:
        return f"{error.details.type}: {error.details.message}"


@engine.orchestrator
async def stuck(ctx: OrchestrationContext) -> None:
    await asyncio.Event().wait()
