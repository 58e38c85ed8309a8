"""External events end to end: names, order, who gets which, and what becomes of those that nobody takes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from durable_core import InstanceNotFoundError, InstanceStatus, OrchestrationContext, TaskTimeoutError, activity, orchestrator
from durable_core.events import EventRaised
from tests.runtime.support import PATIENCE, SECOND, engine_with, until, until_status


async def result_of(url: str, root: Any, *events: tuple[str, Any], others: tuple[Any, ...] = ()) -> Any:
    engine = engine_with(root, *others)
    async with engine.open(url):
        handle = await engine.client.schedule_new_orchestration(root)
        await engine.client.wait_for_start(handle.id, PATIENCE)
        for name, data in events:
            assert await engine.client.raise_event(handle.id, name, data)
        return await handle.result(PATIENCE)


def test_names_are_case_insensitive_and_events_are_buffered_in_order(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        await ctx.wait_for_external_event("start")
        return [await ctx.wait_for_external_event(name) for name in ("item", "ITEM", "other", "Item")]

    events = [("item", 1), ("Item", 2), ("OTHER", "o"), ("iTEM", 3), ("START", None)]
    assert run(lambda: result_of(url, root, *events)) == [1, 2, "o", 3]


def test_waiters_of_one_name_are_served_first_come_first_served(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int]:
        return await asyncio.gather(*(ctx.wait_for_external_event("n", return_type=int) for _ in range(5)))

    assert run(lambda: result_of(url, root, *(("n", n) for n in range(5)))) == [0, 1, 2, 3, 4]


def test_a_cancelled_wait_consumes_nothing(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        given_up, kept = ctx.wait_for_external_event("n"), ctx.wait_for_external_event("n")
        await ctx.wait_for_external_event("cancel")
        given_up.cancel()
        return [await kept, await ctx.wait_for_external_event("n")]

    assert run(lambda: result_of(url, root, ("cancel", None), ("n", 1), ("n", 2))) == [1, 2]


@pytest.mark.parametrize("how", ["argument", "asyncio.timeout", "wait_for"])
def test_a_wait_that_timed_out_consumes_nothing(url, run, how):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> Any:
        try:
            if how == "argument":
                await ctx.wait_for_external_event("n", timeout=0.05 * SECOND)
            elif how == "asyncio.timeout":
                async with asyncio.timeout(0.05):
                    await ctx.wait_for_external_event("n")
            else:
                await asyncio.wait_for(ctx.wait_for_external_event("n"), 0.05)
        except TimeoutError as error:
            ctx.set_custom_status(type(error) is TaskTimeoutError)
        return await ctx.wait_for_external_event("n")

    engine = engine_with(root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)

            async def timed_out():
                state = await handle.state()
                return state if state.serialized_custom_status is not None else None

            assert (await until(timed_out)).custom_status_as(bool) is (how == "argument")
            await engine.client.raise_event(handle.id, "n", "late")
            return await handle.result(PATIENCE)

    assert run(main) == "late"


def test_an_event_is_typed_and_one_that_does_not_fit_fails_its_wait_alone(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        first, second = (ctx.wait_for_external_event("n", return_type=int) for _ in range(2))
        results = await asyncio.gather(first, second, return_exceptions=True)
        return [result if isinstance(result, int) else type(result).__name__ for result in results]

    assert run(lambda: result_of(url, root, ("n", "five"), ("n", 5))) == ["PayloadError", 5]


def test_whom_an_event_does_not_reach(url, run):
    @orchestrator
    async def short(ctx: OrchestrationContext) -> int:
        return 1

    @orchestrator
    async def sends(ctx: OrchestrationContext) -> str:
        ctx.send_event("nobody", "n", 1)
        ctx.send_event("ended", "n", 1)
        return "sent"

    engine = engine_with(short, sends)

    async def main():
        async with engine.open(url):
            client = engine.client
            with pytest.raises(InstanceNotFoundError, match="nobody"):
                await client.raise_event("nobody", "n")
            handle = await client.schedule_new_orchestration(short, instance_id="ended")
            await handle.result(PATIENCE)
            before = await client.get_history("ended")
            assert await client.raise_event("ended", "n", 1) is False
            assert await (await client.schedule_new_orchestration(sends)).result(PATIENCE) == "sent"
            assert await client.get_history("ended") == before

    run(main)


def test_orchestrations_send_events_to_each_other(url, run):
    @orchestrator
    async def pong(ctx: OrchestrationContext) -> str:
        who = await ctx.wait_for_external_event("ping", return_type=str)
        ctx.send_event(who, "pong", "hello")
        return who

    @orchestrator
    async def ping(ctx: OrchestrationContext) -> str:
        ctx.send_event("pong", "PING", ctx.instance_id)
        return await ctx.wait_for_external_event("pong", return_type=str)

    engine = engine_with(ping, pong)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(pong, instance_id="pong")
            return await (await engine.client.schedule_new_orchestration(ping)).result(PATIENCE)

    assert run(main) == "hello"


def test_events_before_the_start_are_kept(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int]:
        return [await ctx.wait_for_external_event("n", return_type=int) for _ in range(3)]

    engine = engine_with(root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root, start_at=datetime.now(UTC) + 0.5 * SECOND)
            for n in range(3):
                assert await engine.client.raise_event(handle.id, "n", n)
            return await handle.result(PATIENCE)

    assert run(main) == [0, 1, 2]


# ── continue-as-new ───────────────────────────────────────────────────────────────────────────────────────────


def test_events_that_nobody_took_go_on_with_the_next_generation_in_order(url, run):
    """Those of the same turn too: everything is sent while the instance is suspended, and applied in one go."""

    @orchestrator
    async def root(ctx: OrchestrationContext, generation: int) -> list[Any]:
        if generation == 0:
            await ctx.wait_for_external_event("go")
            ctx.continue_as_new(1)
            return []
        return [await ctx.wait_for_external_event(name) for name in ("a", "b", "a", "b")]

    engine = engine_with(root)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root, 0)
            await client.wait_for_start(handle.id, PATIENCE)
            await client.suspend(handle.id)
            await until_status(client, handle.id, InstanceStatus.SUSPENDED)
            for name, data in [("a", 1), ("B", 2), ("go", None), ("A", 3), ("b", 4)]:
                await client.raise_event(handle.id, name, data)
            await client.resume(handle.id)
            result = await handle.result(PATIENCE)
            return result, (await client.get_history(handle.id))[0].carried

    result, carried = run(main)
    assert result == [1, 2, 3, 4]
    assert [(type(event), event.name) for event in carried][:2] == [(EventRaised, "a"), (EventRaised, "B")]


def test_completions_and_timers_of_an_old_generation_are_dropped(url, run):
    leave = asyncio.Event()
    ran: list[int] = []

    @activity
    async def slow(generation: int) -> int:
        if generation == 0:
            await leave.wait()
        ran.append(generation)
        return generation

    @orchestrator
    async def child(ctx: OrchestrationContext) -> int:
        await ctx.wait_for_external_event("go")
        return -1

    @orchestrator
    async def root(ctx: OrchestrationContext, generation: int) -> list[Any]:
        if generation == 0:
            ctx.call_activity(slow, 0)
            ctx.create_timer(0.2 * SECOND)
            ctx.call_sub_orchestrator(child, instance_id="child")
            await ctx.wait_for_external_event("next")
            ctx.continue_as_new(1)
            return []
        timer = ctx.create_timer(3600 * SECOND)  # the ids of this generation are those of the last one: nobody may mix them up
        other = ctx.call_sub_orchestrator(child, instance_id="other")
        call = ctx.call_activity(slow, 1)
        results = [await call]
        await ctx.wait_for_external_event("end")
        return [*results, timer.done(), other.done()]

    engine = engine_with(slow, child, root)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root, 0)
            await until_status(client, "child", InstanceStatus.RUNNING)
            await client.raise_event(handle.id, "next")
            await until_status(client, "other", InstanceStatus.RUNNING)
            leave.set()
            await client.raise_event("child", "go")
            await client.wait_for_completion("child", PATIENCE)
            await until(lambda: sorted(ran) == [0, 1])
            await asyncio.sleep(0.3)  # the first generation's timer would be due by now
            await client.raise_event(handle.id, "end")
            return await handle.result(PATIENCE), await client.get_history(handle.id)

    result, history = run(main)
    assert result == [1, False, False]
    kinds = [type(event).__name__ for event in history]
    assert kinds.count("TaskCompleted") == 1
    assert "TimerFired" not in kinds
    assert "SubOrchestrationCompleted" not in kinds


def test_a_generation_keeps_name_parent_tags_and_status_and_has_an_execution_of_its_own(url, run):
    @orchestrator
    async def child(ctx: OrchestrationContext, seen: list[str]) -> list[str]:
        assert ctx.parent is not None
        seen = [*seen, f"{ctx.parent.instance_id} {ctx.execution_id}"]
        ctx.set_custom_status(len(seen))
        await asyncio.sleep(0.01)
        if len(seen) < 3:
            ctx.continue_as_new(seen)
        return seen

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        return await ctx.call_sub_orchestrator(child, [], instance_id="child", tags={"team": "a"})

    engine = engine_with(child, root)

    async def main():
        async with engine.open(url):
            seen = await (await engine.client.schedule_new_orchestration(root, instance_id="r")).result(PATIENCE)
            return seen, await engine.client.get_instance("child")

    seen, state = run(main)
    assert [line.split()[0] for line in seen] == ["r"] * 3
    assert len(set(seen)) == 3
    assert (state.tags, state.custom_status_as(int), state.runtime_status) == ({"team": "a"}, 3, InstanceStatus.COMPLETED)
