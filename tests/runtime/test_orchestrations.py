"""Orchestrations end to end: what the machine promises holds through worker, store and client."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_core import (
    DurableEngine,
    EntityId,
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStatus,
    OrchestrationContext,
    OrchestrationFailedError,
    RetryPolicy,
    TaskFailedError,
    TaskTimeoutError,
    WorkerOptions,
)
from durable_core.events import ExecutionStarted, TaskCompleted, TaskScheduled
from tests.runtime import module_activities

SECOND = timedelta(seconds=1)


def make_engine(**options: Any) -> DurableEngine:
    engine = DurableEngine(options=WorkerOptions(**options))

    @engine.activity
    async def double(x: int) -> int:
        return 2 * x

    @engine.activity
    async def refuse(x: int) -> int:
        raise ValueError(f"no {x}")

    @engine.activity
    async def forever() -> None:
        await asyncio.Event().wait()

    @engine.orchestrator
    async def fan(ctx: OrchestrationContext, n: int) -> list[int]:
        return await asyncio.gather(*(ctx.call_activity(double, i) for i in range(n)))

    @engine.orchestrator
    async def failing(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(refuse, 7)

    @engine.orchestrator
    async def parent(ctx: OrchestrationContext, child: str, argument: Any) -> Any:
        return await ctx.call_sub_orchestrator(child, argument) if argument is not None else await ctx.call_sub_orchestrator(child)

    @engine.orchestrator
    async def waiting(ctx: OrchestrationContext) -> str:
        return await ctx.wait_for_external_event("go", return_type=str)

    @engine.orchestrator
    async def stuck_in_activity(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(forever)

    return engine


def test_a_fan_out_gives_results_in_argument_order(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration("fan", 50, return_type=list[int])
            return await handle.result()

    assert run(main) == [2 * i for i in range(50)]


def test_an_empty_fan_out_ends(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration("fan", 0)).result()

    assert run(main) == []


def test_a_fan_out_larger_than_the_activity_limit_is_run_in_portions(url, run):
    engine = make_engine(max_async_activities=7)
    running, most = 0, 0

    @engine.activity
    async def counted(x: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return x

    @engine.orchestrator
    async def wide(ctx: OrchestrationContext) -> int:
        return sum(await asyncio.gather(*(ctx.call_activity(counted, i) for i in range(100))))

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(wide)).result()

    assert run(main) == sum(range(100))
    assert 1 < most <= 7


def test_a_failure_carries_its_details_through_parent_and_client(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            with pytest.raises(OrchestrationFailedError) as caught:
                await (await engine.client.schedule_new_orchestration("parent", "failing", None)).result()
            return caught.value

    error = run(main)
    assert error.details is not None
    assert [link.type.rpartition(".")[2] for link in error.details.chain()] == ["TaskFailedError", "TaskFailedError", "ValueError"]
    assert error.details.is_caused_by(ValueError)
    assert not error.details.is_caused_by(KeyError)
    assert "no 7" in str(error.details.inner.inner)


def test_children_run_and_know_their_parent(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def child(ctx: OrchestrationContext, x: int) -> list[Any]:
        assert ctx.parent is not None
        return [ctx.parent.instance_id, ctx.parent.task_id, x]

    @engine.orchestrator
    async def root(ctx: OrchestrationContext) -> list[list[Any]]:
        return await asyncio.gather(*(ctx.call_sub_orchestrator(child, x, instance_id=f"{ctx.instance_id}-child-{x}") for x in range(3)))

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root, instance_id="root")
            return await handle.result()

    assert run(main) == [["root", x + 1, x] for x in range(3)]


def test_a_child_id_that_is_taken_fails_the_call_and_hangs_nobody(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        try:
            await ctx.call_sub_orchestrator("waiting", instance_id="taken")
        except TaskFailedError as error:
            return error.details.type
        return "started"

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration("waiting", instance_id="taken")
            return await (await engine.client.schedule_new_orchestration(root)).result()

    assert run(main).endswith("InstanceAlreadyExistsError")


def test_durable_sleep_and_timeout_of_a_call(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def sleepy(ctx: OrchestrationContext) -> float:
        before = ctx.current_utc_datetime
        await asyncio.sleep(0.2)
        return (ctx.current_utc_datetime - before).total_seconds()

    @engine.orchestrator
    async def impatient(ctx: OrchestrationContext) -> str:
        try:
            await ctx.call_activity("forever", timeout=timedelta(milliseconds=100))
        except TaskTimeoutError:
            return "timed out"
        return "?"

    async def main():
        async with engine.open(url):
            slept = await (await engine.client.schedule_new_orchestration(sleepy)).result()
            return slept, await (await engine.client.schedule_new_orchestration(impatient)).result()

    slept, answer = run(main)
    assert 0.2 <= slept < 5
    assert answer == "timed out"


def test_a_cancelled_activity_is_told(url, run):
    engine = make_engine()
    told = asyncio.Event()

    @engine.activity
    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.set()
            raise

    @engine.orchestrator
    async def root(ctx: OrchestrationContext) -> str:
        try:
            async with asyncio.timeout(0.1):
                await ctx.call_activity(patient)
        except TimeoutError:
            return "gave up"
        return "?"

    async def main():
        async with engine.open(url):
            answer = await (await engine.client.schedule_new_orchestration(root)).result()
            await asyncio.wait_for(told.wait(), 10)
            return answer

    assert run(main) == "gave up"


def test_retries_run_on_recorded_time(url, run):
    engine = make_engine()
    attempts = []

    @engine.activity
    async def flaky(x: int) -> int:
        attempts.append(x)
        if len(attempts) < 3:
            raise OSError("not yet")
        return x

    @engine.orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(
            flaky, 5, retry=RetryPolicy(max_number_of_attempts=5, first_retry_interval=timedelta(milliseconds=20))
        )

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root, instance_id="r")
            return await handle.result(), await engine.client.get_history("r")

    result, history = run(main)
    assert result == 5
    assert [(e.id, e.attempt) for e in history if isinstance(e, TaskScheduled)] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_sync_activities_run_outside_the_loop(url, run, kind):
    engine = DurableEngine()
    engine.register(module_activities)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(f"in_{kind}", 4)).result()

    answers = run(main)
    assert [square for square, _, _ in answers] == [0, 1, 4, 9]
    assert all((process == os.getpid()) == (kind == "thread") for _, process, _ in answers)
    assert all((process, thread) != (os.getpid(), threading.get_ident()) for _, process, thread in answers)


def test_ids_reuse_policies_and_unknown_instances(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            client = engine.client
            first = await client.schedule_new_orchestration("fan", 1, instance_id="same")
            await first.result()
            with pytest.raises(InstanceAlreadyExistsError, match="same"):
                await client.schedule_new_orchestration("fan", 2, instance_id="same")
            again = await client.schedule_new_orchestration("fan", 2, instance_id="same", reuse_policy="return_existing")
            assert await again.result() == [0]
            anew = await client.schedule_new_orchestration("fan", 2, instance_id="same", reuse_policy="replace_ended")
            assert await anew.result() == [0, 2]
            assert await client.get_instance("nobody") is None
            for ask in (
                client.wait_for_completion("nobody"),
                client.get_history("nobody"),
                client.terminate("nobody"),
                client.raise_event("nobody", "x"),
            ):
                with pytest.raises(InstanceNotFoundError, match="nobody"):
                    await ask

    run(main)


def test_states_as_a_client_sees_them(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def telling(ctx: OrchestrationContext, n: int) -> int:
        ctx.set_custom_status({"step": 1})
        await ctx.wait_for_external_event("go")
        return n

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(telling, 3, instance_id="i", tags={"team": "a"})
            state = await client.wait_for_start("i", 10 * SECOND)
            assert state.runtime_status is InstanceStatus.RUNNING
            assert state.custom_status_as(dict[str, int]) == {"step": 1}
            assert state.input_as(int) == 3
            assert state.output_as(int) is None
            assert state.tags == {"team": "a"}
            assert abs(state.created_at - datetime.now(UTC)) < timedelta(minutes=1)
            with pytest.raises(TimeoutError):
                await client.wait_for_completion("i", timedelta(milliseconds=50))
            assert await client.raise_event("i", "GO")
            state = await client.wait_for_completion("i", 10 * SECOND)
            assert (state.runtime_status, state.output_as(int)) == (InstanceStatus.COMPLETED, 3)
            assert await client.raise_event("i", "go") is False
            history = await client.get_history("i")
            assert isinstance(history[0], ExecutionStarted)
            assert state.history_length == len(history)
            return [found.instance_id async for found in client.query_instances(name="telling")]

    assert run(main) == ["i"]


def test_terminate_reaches_children_and_a_typed_handle_says_so(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration("parent", "waiting", None, instance_id="p")
            async with asyncio.timeout(10):
                while not (children := [state async for state in client.query_instances(parent="p")]):
                    await asyncio.sleep(0.01)
            assert await client.terminate("p", output="enough")
            with pytest.raises(OrchestrationFailedError, match="terminated"):
                await handle.result()
            state = await client.wait_for_completion(children[0].instance_id, 10 * SECOND)
            assert state.runtime_status is InstanceStatus.TERMINATED
            assert (await handle.state()).output_as(str) == "enough"
            assert await client.terminate("p") is False

    run(main)


def test_suspend_holds_messages_back_and_resume_goes_on_in_order(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def collecting(ctx: OrchestrationContext) -> list[int]:
        return [await ctx.wait_for_external_event("n", return_type=int) for _ in range(3)]

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(collecting, instance_id="c")
            await client.wait_for_start("c")
            await client.raise_event("c", "n", 1)
            await client.suspend("c", "hold on")
            async with asyncio.timeout(10):
                while (await client.get_instance("c")).runtime_status is not InstanceStatus.SUSPENDED:
                    await asyncio.sleep(0.01)
            await client.raise_event("c", "n", 2)
            await client.raise_event("c", "n", 3)
            with pytest.raises(TimeoutError):
                await handle.result(timedelta(milliseconds=200))
            await client.resume("c")
            return await handle.result(10 * SECOND)

    assert run(main) == [1, 2, 3]


def test_continue_as_new_carries_buffered_events_over(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def generations(ctx: OrchestrationContext, seen: list[int]) -> list[int]:
        seen = [*seen, await ctx.wait_for_external_event("n", return_type=int)]
        if len(seen) < 5:
            ctx.continue_as_new(seen)
        return seen

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(generations, [], instance_id="g")
            for n in range(5):
                await engine.client.raise_event("g", "n", n)
            result = await handle.result(20 * SECOND)
            history = await engine.client.get_history("g")
            return result, len([event for event in history if isinstance(event, ExecutionStarted)])

    assert run(main) == ([0, 1, 2, 3, 4], 1)


def test_events_that_arrive_in_one_batch_reach_the_generations_one_by_one(url, run):
    engine = make_engine()

    @engine.orchestrator
    async def one_each(ctx: OrchestrationContext, n: int) -> int:
        await ctx.wait_for_external_event("item", return_type=int)
        if n < 20:
            ctx.continue_as_new(n + 1)
        return n

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(one_each, 1)
            await engine.client.wait_for_start(handle.id)
            await asyncio.gather(*(engine.client.raise_event(handle.id, "item", i) for i in range(20)))
            return await handle.result(20 * SECOND)

    assert run(main) == 20


def test_an_activity_that_outlives_its_orchestration_leaves_no_task_behind(url, run):
    engine = make_engine()
    ran = []

    @engine.activity
    async def forgotten(x: int) -> int:
        await asyncio.sleep(0.05 * x)
        ran.append(x)
        return x

    @engine.orchestrator
    async def fire_and_forget(ctx: OrchestrationContext) -> int:
        for x in range(1, 5):
            ctx.call_activity(forgotten, x)
        return await ctx.call_activity(forgotten, 0)

    async def main():
        async with engine.open(url):
            assert await (await engine.client.schedule_new_orchestration(fire_and_forget)).result() == 0
            async with asyncio.timeout(10):
                while len(ran) < 5:
                    await asyncio.sleep(0.01)
        async with engine.open(url):
            await asyncio.sleep(0.3)
        return sorted(ran)

    assert run(main) == [0, 1, 2, 3, 4]


def test_a_delayed_start(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            start = time.monotonic()
            handle = await engine.client.schedule_new_orchestration("fan", 1, start_at=datetime.now(UTC) + timedelta(milliseconds=400))
            await handle.result(20 * SECOND)
            return time.monotonic() - start

    assert 0.35 <= run(main) < 10


def test_an_entity_counts_exactly_under_concurrent_calls_and_signals(url, run):
    engine = make_engine()

    @engine.entity
    class Counter:
        value: int = 0

        def add(self, n: int) -> int:
            self.value += n
            return self.value

        async def fail_after_change(self) -> None:
            self.value += 1_000
            raise ValueError("rolled back")

    @engine.orchestrator
    async def counting(ctx: OrchestrationContext, n: int) -> bool:
        counter = ctx.entity(Counter, "k")

        async def one(i: int) -> int:
            counter.signal(Counter.add, 1)
            return await counter.call(Counter.add, 1)

        seen = await asyncio.gather(*(one(i) for i in range(n)))
        try:
            await counter.call(Counter.fail_after_change)
        except TaskFailedError as error:
            assert error.details.type == "ValueError"  # noqa: PT017
        return len(set(seen)) == n

    async def main():
        async with engine.open(url):
            handles = [await engine.client.schedule_new_orchestration(counting, 20) for _ in range(5)]
            assert all([await handle.result() for handle in handles])
            await engine.client.signal_entity(EntityId("Counter", "k"), Counter.add, 5)
            async with asyncio.timeout(10):
                while (await engine.client.get_entity(Counter, "k")).value != 205:
                    await asyncio.sleep(0.01)
            assert await engine.client.get_entity(Counter, "unused") is None

    run(main)


def test_a_reopened_engine_goes_on(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = make_engine()

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration("waiting", instance_id="w")
            await engine.client.wait_for_start("w")
        async with engine.open(url, worker=False):
            await engine.client.raise_event("w", "go", "on")
        async with engine.open(url):
            return await engine.client.get_handle("waiting", "w").result(20 * SECOND)

    assert run(main) == "on"


def test_a_small_cache_evicts_and_replays(url, run):
    engine = make_engine(max_cached_instances=3)

    async def main():
        async with engine.open(url):
            client = engine.client
            for i in range(20):
                await client.schedule_new_orchestration("waiting", instance_id=f"w{i}")
                await client.wait_for_start(f"w{i}")
            assert len(engine._session.worker.turns._live) <= 4
            for i in range(20):
                await client.raise_event(f"w{i}", "go", str(i))
            return [await client.get_handle("waiting", f"w{i}").result(20 * SECOND) for i in range(20)]

    assert run(main) == [str(i) for i in range(20)]


def test_a_client_in_another_engine_sees_the_end(tmp_path, run):
    """The web front end: an engine without a worker, here on its own handle of the same file."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    front, back = make_engine(), make_engine()

    async def main():
        async with back.open(url), front.open(url, worker=False):
            handle = await front.client.schedule_new_orchestration("fan", 3)
            return await handle.result(20 * SECOND)

    assert run(main) == [0, 2, 4]


def test_histories_are_dense_and_complete(url, run):
    engine = make_engine()

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration("fan", 200, instance_id="f")
            await handle.result()
            return await engine.client.get_history("f")

    history = run(main)
    scheduled = [event.id for event in history if isinstance(event, TaskScheduled)]
    completed = [event.id for event in history if isinstance(event, TaskCompleted)]
    assert scheduled == list(range(1, 201))
    assert sorted(completed) == scheduled
