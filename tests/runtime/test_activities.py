"""What an activity is told, and how often it runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from durable_core import ActivityContext, OrchestrationContext, activity, orchestrator
from durable_core.backend import AbandonWorker
from durable_core.events import CommandCancelled, TaskScheduled
from tests.runtime.support import PATIENCE, engine_with, until


def test_a_context_says_which_call_this_is(url, run, caplog):
    seen: list[ActivityContext] = []

    @activity
    async def first(ctx: ActivityContext, n: int) -> None:
        seen.append(ctx)
        ctx.logger.info("at work on %d", n)

    @activity
    def second(ctx: ActivityContext) -> None:
        seen.append(ctx)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(first, 5)
        await ctx.call_activity(second)

    engine = engine_with(first, second, root)

    async def main():
        async with engine.open(url):
            await (await engine.client.schedule_new_orchestration(root, instance_id="r")).result(PATIENCE)

    with caplog.at_level(logging.INFO, "durable_core.activity"):
        run(main)
    assert [(ctx.instance_id, ctx.name, ctx.attempt, ctx.delivery, ctx.cancelled) for ctx in seen] == [
        ("r", "first", 1, 1, False),
        ("r", "second", 1, 1, False),
    ]
    assert len({ctx.idempotency_key for ctx in seen}) == 2
    [record] = [record for record in caplog.records if record.name.startswith("durable_core.activity")]
    assert record.getMessage() == "at work on 5"
    extra = {"instance_id": "r", "activity": "first", "attempt": 1, "delivery": 1}
    assert record.__dict__.items() >= extra.items()


def test_a_redelivery_has_the_same_key_and_the_next_number(tmp_path, run):
    """The worker of the first delivery is given up, as one that died."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    seen: list[tuple[str, int, int]] = []

    @activity
    async def slow(ctx: ActivityContext) -> int:
        seen.append((ctx.idempotency_key, ctx.attempt, ctx.delivery))
        if len(seen) == 1:
            await asyncio.Event().wait()
        return ctx.delivery

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(slow)

    engine = engine_with(slow, root, drain_s=0.05)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: seen)
            await engine.backend.apply([AbandonWorker(engine._session.worker.id)])
        async with engine.open(url):
            return await engine.client.get_handle(root, "r").result(PATIENCE)

    assert run(main) == 2
    [(key, *first), (same, *second)] = seen
    assert (key, first, second) == (same, [1, 1], [1, 2])


def test_a_call_that_is_cancelled_in_its_own_turn_stays_in_the_history_and_never_runs(url, run):
    ran: list[int] = []

    @activity
    async def note(n: int) -> int:
        ran.append(n)
        return n

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        first, second = ctx.call_activity(note, 1), ctx.call_activity(note, 2)
        first.cancel()
        ctx.create_timer(ctx.current_utc_datetime).cancel()
        return [await second]

    engine = engine_with(note, root, max_cached_instances=0)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            return await handle.result(PATIENCE), await engine.client.get_history(handle.id)

    result, history = run(main)
    assert (result, ran) == ([2], [2])
    assert [event.id for event in history if isinstance(event, TaskScheduled)] == [1, 2]
    assert [(event.kind, event.id) for event in history if isinstance(event, CommandCancelled)] == [("task", 1), ("timer", 1)]


def test_a_bound_method_brings_its_object_along(url, run):
    class Mailer:
        def __init__(self, sender: str) -> None:
            self.sender = sender

        async def send(self, to: str) -> str:
            return f"{self.sender} to {to}"

    mail = activity(Mailer("me").send)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity(mail, "you")

    engine = engine_with(mail, root)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)

    assert run(main) == "me to you"
