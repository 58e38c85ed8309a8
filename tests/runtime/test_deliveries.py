"""Activities whose workers die: how often they are delivered, and with whom."""

from __future__ import annotations

import asyncio

import pytest

from durable_core import ActivityContext, DurableEngine, OrchestrationContext, RetryPolicy, TaskFailedError, activity, orchestrator
from durable_core.backend import AbandonWorker
from durable_core.runtime.worker import isolation
from tests.runtime.support import PATIENCE, SECOND, engine_with, until


async def lose_worker(engine: DurableEngine) -> None:
    """As if its process had died: it is given up, and starts afresh with its next heartbeat."""
    await engine.backend.apply([AbandonWorker(engine._session.worker.id)])


def test_a_call_fails_when_its_workers_died_again_and_again(url, run, caplog):
    deliveries: list[int] = []

    @activity
    async def deadly(ctx: ActivityContext) -> None:
        deliveries.append(ctx.delivery)
        await asyncio.Event().wait()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        try:
            await ctx.call_activity(deadly, retry=RetryPolicy(max_number_of_attempts=5, first_retry_interval=0 * SECOND))
        except TaskFailedError as error:
            return f"{error.details.type}: {error.details.message}"
        return "it lives"

    engine = engine_with(deadly, root, heartbeat_s=0.05, max_deliveries=3)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            for number in (1, 2, 3):
                await until(lambda number=number: len(deliveries) == number)
                await lose_worker(engine)
            return await handle.result(PATIENCE)

    assert run(main).startswith("ProcessDied: activity 'deadly' was given to a worker 3 times, and each died")
    assert deliveries == [1, 2, 3], "a policy does not try it again"
    assert "was given to a worker 3 times" in caplog.text


def test_a_suspect_runs_without_company_for_a_while(url, run, monkeypatch):
    """Nothing else is begun meanwhile, neither orchestrations nor activities; a long one does not hold the worker up for ever."""
    monkeypatch.setattr(isolation, "_FIRST_S", 0.6)
    begun: list[tuple[str, float]] = []
    release = asyncio.Event()

    def note(who: str) -> None:
        begun.append((who, asyncio.get_running_loop().time()))

    @activity
    async def long(ctx: ActivityContext) -> int:
        note(f"long {ctx.delivery}")
        await release.wait()
        return ctx.delivery

    @activity
    async def other() -> None:
        note("other")

    @orchestrator
    async def honest(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(long)

    @orchestrator
    async def company(ctx: OrchestrationContext) -> None:
        note("company")
        await ctx.call_activity(other)

    engine = engine_with(long, other, honest, company, heartbeat_s=0.05)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(honest)
            for number in (1, 2, 3):
                await until(lambda number=number: begun and begun[-1][0] == f"long {number}")
                if number < 3:
                    await lose_worker(engine)
            await (await engine.client.schedule_new_orchestration(company)).result(PATIENCE)
            release.set()
            return await handle.result(PATIENCE)

    assert run(main) == 3
    assert [who for who, _ in begun] == ["long 1", "long 2", "long 3", "company", "other"]
    times = dict(begun)
    assert times["other"] - times["long 3"] >= 0.6


@pytest.mark.parametrize(("delivery", "seconds"), [(1, None), (2, None), (3, 10.0), (4, 60.0), (5, 360.0)])
def test_the_longer_the_more_often_its_workers_died(delivery, seconds):
    asked: list[float] = []

    class Clock:
        def call_later(self, seconds, _callback):
            asked.append(seconds)

    alone = isolation.Isolation(Clock(), lambda: None)
    alone.begin(isolation.ClaimedTask("t", "i", "x", "act", b"", delivery))
    assert asked == ([] if seconds is None else [seconds])
    assert alone.active == (seconds is not None)
