"""Giving something up: what becomes of the activity, the child, the entity call that nobody waits for any more."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from durable_core import ActivityContext, InstanceStatus, OrchestrationContext, TaskFailedError, activity, entity, orchestrator
from durable_core.events import CommandCancelled, EntityOperationCompleted, TaskCompleted, TaskScheduled
from tests.runtime.support import PATIENCE, SECOND, engine_with, until, until_status


class Gate:
    """An async activity that says when it runs, waits to be let through, and says if it was cancelled."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.cancelled: list[str] = []
        self.open = asyncio.Event()

    def activity(self):
        @activity(name="gated")
        async def gated(key: str) -> str:
            self.running.append(key)
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled.append(key)
                raise
            return key

        return gated


@orchestrator
async def waiting(ctx: OrchestrationContext) -> str:
    return await ctx.wait_for_external_event("go", return_type=str)


# ── activities ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_activity_that_has_not_started_is_removed(url, run):
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        first, second, third = (ctx.call_activity(gated, key) for key in ("first", "second", "third"))
        await ctx.wait_for_external_event("cancel")
        second.cancel()
        await ctx.wait_for_external_event("end")
        return await first + await third

    engine = engine_with(gated, root, max_async_activities=1)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: gate.running)
            await client.raise_event("r", "cancel")

            async def cancelled():
                return any(isinstance(event, CommandCancelled) for event in await client.get_history("r"))

            await until(cancelled)
            gate.open.set()
            await client.raise_event("r", "end")
            return await handle.result(PATIENCE), await client.get_history("r")

    result, history = run(main)
    assert result == "firstthird"
    assert gate.running == ["first", "third"]
    assert gate.cancelled == []
    assert [event.id for event in history if isinstance(event, CommandCancelled)] == [2]


def test_a_running_async_activity_is_cancelled(url, run):
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        task = ctx.call_activity(gated, "a")
        await ctx.wait_for_external_event("cancel")
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"

    engine = engine_with(gated, root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            await until(lambda: gate.running)
            await engine.client.raise_event(handle.id, "cancel")
            result = await handle.result(PATIENCE)
            await until(lambda: gate.cancelled)
            return result

    assert run(main) == "cancelled"


def test_a_running_sync_activity_sees_that_it_was_cancelled(url, run):
    started, seen = threading.Event(), threading.Event()

    @activity
    def polling(ctx: ActivityContext) -> None:
        started.set()
        deadline = time.monotonic() + 20
        while not ctx.cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        if ctx.cancelled:
            seen.set()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        call = ctx.call_activity(polling)
        await ctx.wait_for_external_event("cancel")
        call.cancel()
        return "gave up"

    engine = engine_with(polling, root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            await until(started.is_set)
            await engine.client.raise_event(handle.id, "cancel")
            result = await handle.result(PATIENCE)
            await until(seen.is_set, 10)
            return result

    assert run(main) == "gave up"


def test_one_that_is_cancelled_as_it_starts_leaves_its_place_to_others(url, run):
    gate = Gate()
    gate.open.set()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext, key: str) -> str:
        return await ctx.call_activity(gated, key)

    engine = engine_with(gated, root, max_async_activities=1)

    async def main():
        async with engine.open(url):
            activities = engine._session.worker.turns.activities
            start, cancelled = activities.start, []

            def start_and_cancel(task, holder, *, reserved):
                start(task, holder, reserved=reserved)
                activities.cancel(task.id)
                cancelled.append(task.id)

            activities.start = start_and_cancel
            first = await engine.client.schedule_new_orchestration(root, "first")
            await until(lambda: cancelled)
            activities.start = start
            second = await engine.client.schedule_new_orchestration(root, "second")
            assert await second.result(PATIENCE) == "second"
            await engine.client.terminate(first.id)

    run(main)
    assert gate.running == ["second"]


def test_an_activity_that_runs_in_another_worker_is_cancelled_there(tmp_path, run):
    """The heartbeat tells that worker."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        try:
            async with asyncio.timeout(3600):
                task = ctx.call_activity("gated", "a")
                await ctx.wait_for_external_event("cancel")
                task.cancel()
                await task
        except asyncio.CancelledError:
            pass
        return "gave up"

    decides, works = engine_with(root), engine_with(gated, heartbeat_s=0.05)

    async def main():
        async with decides.open(url), works.open(url):
            handle = await decides.client.schedule_new_orchestration(root)
            await until(lambda: gate.running)
            await decides.client.raise_event(handle.id, "cancel")
            result = await handle.result(PATIENCE)
            await until(lambda: gate.cancelled)
            return result

    assert run(main) == "gave up"


@pytest.mark.parametrize("how", ["task group", "timeout", "wait_for", "call timeout"])
def test_every_way_of_giving_up_reaches_the_activity(url, run, how):
    gate = Gate()
    gated = gate.activity()

    @activity
    async def failing() -> None:
        await until(lambda: gate.running)
        raise ValueError("no")

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        caught: list[str] = []
        try:
            if how == "task group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(ctx.call_activity(gated, "a"))
                    group.create_task(ctx.call_activity(failing))
            elif how == "call timeout":
                await ctx.call_activity(gated, "a", timeout=SECOND)
            else:
                call = ctx.call_activity(gated, "a")
                await ctx.wait_for_external_event("it runs")
                if how == "wait_for":
                    await asyncio.wait_for(call, 0.05)
                async with asyncio.timeout(0.05):
                    await call
        except* (TaskFailedError, TimeoutError) as failures:
            caught = [type(error).__name__ for error in failures.exceptions]
        return caught

    engine = engine_with(gated, failing, root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            await until(lambda: gate.running)
            await engine.client.raise_event(handle.id, "it runs")
            result = await handle.result(PATIENCE)
            await until(lambda: gate.cancelled)
            return result, await engine.client.get_history(handle.id)

    result, history = run(main)
    assert result == [{"task group": "TaskFailedError", "call timeout": "TaskTimeoutError"}.get(how, "TimeoutError")]
    assert [(event.kind, event.id) for event in history if isinstance(event, CommandCancelled)] == [("task", 1)]


def test_a_timeout_covers_the_time_in_the_queue(url, run):
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        first = ctx.call_activity(gated, "first")
        try:
            await ctx.call_activity(gated, "second", timeout=0.2 * SECOND)
        except TimeoutError as error:
            ctx.set_custom_status(type(error).__name__)
        return [await first]

    engine = engine_with(gated, root, max_async_activities=1)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)

            async def timed_out():
                return (await handle.state()).custom_status_as(str)

            assert await until(timed_out) == "TaskTimeoutError"
            gate.open.set()
            return await handle.result(PATIENCE)

    assert run(main) == ["first"]
    assert gate.running == ["first"]


def test_terminate_drops_what_has_not_started_and_cancels_what_runs(url, run):
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        return await asyncio.gather(ctx.call_activity(gated, "runs"), ctx.call_activity(gated, "queued"))

    @orchestrator
    async def after(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity(gated, "after")

    engine = engine_with(gated, root, after, max_async_activities=1, heartbeat_s=0.05)

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: gate.running)
            await client.terminate("r")
            await until_status(client, "r", InstanceStatus.TERMINATED)
            await until(lambda: gate.cancelled)
            gate.open.set()
            return await (await client.schedule_new_orchestration(after)).result(PATIENCE)

    assert run(main) == "after"
    assert gate.running == ["runs", "after"]
    assert gate.cancelled == ["runs"]


def test_terminate_reaches_activities_of_other_workers_and_of_its_own_turn(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        ctx.call_activity("gated", "first")
        await ctx.wait_for_external_event("more")
        await ctx.call_activity("gated", "second")

    decides, works = engine_with(root), engine_with(gated, heartbeat_s=0.05)

    async def main():
        async with decides.open(url), works.open(url):
            client = decides.client
            await client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: gate.running)
            await asyncio.gather(client.raise_event("r", "more"), client.terminate("r"))
            await until_status(client, "r", InstanceStatus.TERMINATED)
            await until(lambda: "first" in gate.cancelled)
            await until(lambda: gate.running == gate.cancelled)

    run(main)


def test_an_orchestration_that_ends_leaves_its_unstarted_activities_to_run(url, run):
    gate = Gate()
    gated = gate.activity()

    @orchestrator
    async def root(ctx: OrchestrationContext, fail: bool) -> None:
        for key in ("a", "b"):
            ctx.call_activity(gated, f"{key}{fail}")
        await ctx.create_timer(0 * SECOND)
        if fail:
            raise ValueError("the end")

    engine = engine_with(gated, root, max_async_activities=1)

    async def main():
        async with engine.open(url):
            for fail in (False, True):
                handle = await engine.client.schedule_new_orchestration(root, fail)
                state = await engine.client.wait_for_completion(handle.id, PATIENCE)
                assert state.runtime_status is (InstanceStatus.FAILED if fail else InstanceStatus.COMPLETED)
            assert gate.running == ["aFalse"]
            gate.open.set()
            await until(lambda: len(gate.running) == 4)
            history = await engine.client.get_history(handle.id)
            assert not any(isinstance(event, TaskCompleted) for event in history)
            assert len([event for event in history if isinstance(event, TaskScheduled)]) == 2

    run(main)
    assert sorted(gate.running) == ["aFalse", "aTrue", "bFalse", "bTrue"]


# ── children ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_cancelling_the_call_of_a_child_terminates_it(url, run):
    @orchestrator
    async def grandparent(ctx: OrchestrationContext) -> str:
        return await ctx.call_sub_orchestrator(waiting, instance_id="grandchild")

    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        child = ctx.call_sub_orchestrator(grandparent, instance_id="child")
        await ctx.wait_for_external_event("cancel")
        child.cancel()
        return "gave up"

    engine = engine_with(waiting, grandparent, root)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root, instance_id="r")
            await until_status(client, "grandchild", InstanceStatus.RUNNING)
            await client.raise_event("r", "cancel")
            assert await handle.result(PATIENCE) == "gave up"
            for id in ("child", "grandchild"):
                assert (await client.wait_for_completion(id, PATIENCE)).runtime_status is InstanceStatus.TERMINATED

    run(main)


def test_a_timeout_of_a_child_terminates_it(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.call_sub_orchestrator(waiting, instance_id="child", timeout=0.2 * SECOND)
        except TimeoutError:
            return "too slow"

    engine = engine_with(waiting, root)

    async def main():
        async with engine.open(url):
            assert await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE) == "too slow"
            assert (await engine.client.wait_for_completion("child", PATIENCE)).runtime_status is InstanceStatus.TERMINATED

    run(main)


# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_cancelling_an_entity_call_drops_its_reply_and_not_its_effect(url, run):
    entered, leave = asyncio.Event(), asyncio.Event()

    @entity
    class Slow:
        value: int = 0

        async def add(self, n: int) -> int:
            entered.set()
            await leave.wait()
            self.value += n
            return self.value

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int | str]:
        slow = ctx.entity(Slow, "k")
        first, second = slow.call(Slow.add, 1), slow.call(Slow.add, 10)
        await ctx.wait_for_external_event("cancel")
        first.cancel()
        results = await asyncio.gather(first, second, return_exceptions=True)
        return [result if isinstance(result, int) else type(result).__name__ for result in results]

    engine = engine_with(Slow, root)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root)
            await asyncio.wait_for(entered.wait(), 20)
            await client.raise_event(handle.id, "cancel")

            async def cancelled():
                return any(isinstance(event, CommandCancelled) for event in await client.get_history(handle.id))

            await until(cancelled)
            leave.set()
            assert await handle.result(PATIENCE) == ["CancelledError", 11]
            assert (await client.get_entity(Slow, "k")).value == 11
            return await client.get_history(handle.id)

    history = run(main)
    assert 2 in [event.id for event in history if isinstance(event, EntityOperationCompleted)]
