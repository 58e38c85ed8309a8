"""Durable timers: never early, once, in order, across restarts."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from durable_core import DurableEngine, InstanceStatus, OrchestrationContext, orchestrator
from durable_core.events import TimerCreated, TimerFired
from durable_core.testing.memory import MemoryBackend
from tests.runtime.support import PATIENCE, SECOND, engine_with, until_status


@orchestrator
async def sleeping(ctx: OrchestrationContext, seconds: float) -> float:
    before = ctx.current_utc_datetime
    await asyncio.sleep(seconds)
    return (ctx.current_utc_datetime - before).total_seconds()


def test_a_timer_fires_on_time_by_the_wall_clock_and_by_the_recorded_one(url, run):
    engine = engine_with(sleeping)

    async def main():
        async with engine.open(url):
            start = time.time()
            slept = await (await engine.client.schedule_new_orchestration(sleeping, 0.3)).result(PATIENCE)
            return slept, time.time() - start

    recorded, real = run(main)
    assert recorded >= 0.3
    assert real >= 0.299


def test_timers_fire_once_each_in_order_of_their_due_times(url, run):
    @orchestrator
    async def several(ctx: OrchestrationContext) -> list[int]:
        fired: list[int] = []

        async def one(n: int) -> None:
            await ctx.create_timer(n * 0.05 * SECOND)
            fired.append(n)

        await asyncio.gather(*(one(n) for n in (4, 1, 3, 2, 5)))
        return fired

    engine = engine_with(several)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(several)
            return await handle.result(PATIENCE), await engine.client.get_history(handle.id)

    fired, history = run(main)
    assert fired == [1, 2, 3, 4, 5]
    due = {event.id: event.due_us for event in history if isinstance(event, TimerCreated)}
    assert [(event.id, event.at_us >= due[event.id]) for event in history if isinstance(event, TimerFired)] == [
        (id, True) for id in (2, 4, 3, 1, 5)
    ]


@pytest.mark.parametrize("due", ["while closed", "after it is open again"])
def test_a_timer_survives_a_restart(tmp_path, run, due):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = engine_with(sleeping)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(sleeping, 0.4 if due == "while closed" else 1.0)
            await until_status(engine.client, handle.id, InstanceStatus.RUNNING)
        if due == "while closed":
            await asyncio.sleep(0.5)
        async with engine.open(url):
            slept = await engine.client.get_handle(sleeping, handle.id).result(PATIENCE)
            history = await engine.client.get_history(handle.id)
        return slept, [type(event) for event in history].count(TimerFired)

    slept, fired = run(main)
    assert slept >= (0.4 if due == "while closed" else 1.0)
    assert fired == 1


def test_a_timer_may_be_due_in_any_future(url, run):
    @orchestrator
    async def patient(ctx: OrchestrationContext) -> str:
        far = [ctx.create_timer(timedelta(days=365_000)), ctx.create_timer(datetime(9999, 12, 31, tzinfo=UTC))]
        await ctx.wait_for_external_event("go")
        return f"{sum(timer.done() for timer in far)} have fired"

    engine = engine_with(patient)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(patient)
            await engine.client.raise_event(handle.id, "go")
            return await handle.result(PATIENCE)

    assert run(main) == "0 have fired"


@pytest.mark.parametrize("jumps_s", [(365 * 86_400, 0), (-3_600,)], ids=["a year ahead and back", "an hour back"])
def test_timers_go_on_when_the_clock_is_set(run, jumps_s):
    engine = DurableEngine()
    set_by_s = 0

    @engine.orchestrator
    async def waits(ctx: OrchestrationContext, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "fired"

    async def main() -> str:
        nonlocal set_by_s
        backend = MemoryBackend(
            clock_us=lambda: time.time_ns() // 1_000 + set_by_s * 1_000_000, monotonic_us=lambda: time.monotonic_ns() // 1_000
        )
        async with engine.open(backend=backend):
            for jump_s in jumps_s:
                set_by_s = jump_s
                handle = await engine.client.schedule_new_orchestration(waits, 0.0)
                await handle.result()
            handle = await engine.client.schedule_new_orchestration(waits, 0.2)
            return await handle.result(timedelta(seconds=20))

    assert run(main) == "fired"
