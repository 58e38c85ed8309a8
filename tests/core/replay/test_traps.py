"""The traps of docs/semantics, one by one. A test's name begins with the trap's number."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import gc
import logging
import subprocess
import sys
import threading
from asyncio import events
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from durable_core.definitions.entity import EntityId
from durable_core.errors import (
    ArgumentsError,
    ForbiddenInOrchestratorError,
    InvalidInstanceIdError,
    NonDeterminismError,
    NotRegisteredError,
    OutsideOrchestratorError,
    PayloadError,
    TaskFailedError,
    TaskTimeoutError,
)
from durable_core.events import (
    CommandCancelled,
    EntityOperationCompleted,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTerminated,
    MessageEvent,
    SubOrchestrationCompleted,
    TaskScheduled,
    TimerCreated,
)
from durable_core.moments import LATEST_US
from durable_core.replay.closing import LEAKED
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.fan_in import when_all, when_any
from durable_core.replay.machine import Limits
from durable_core.retry import RetryPolicy
from tests.core.replay.driver import SECOND, START_US, Driven, completed, failed, fired, raised
from tests.core.replay.programs import Counter, child, echo, fail, flaky, seconds, square

KNOWN = (square, echo, fail, flaky, Counter, child)


PROJECT = Path(__file__).resolve().parents[3]


def cancellations(driven: Driven) -> list[Any]:
    return [event for event in driven.asked if isinstance(event, CommandCancelled)]


def leaks_since(before: int) -> list[object]:
    return LEAKED[before:]


# ── 1: one message at a time ──────────────────────────────────────────────────────────────────────────────────────


def test_trap_01_two_completions_of_one_batch_do_not_race() -> None:
    async def first_of_two(ctx: OrchestrationContext) -> list[int]:
        tasks = [ctx.call_activity(square, 1), ctx.call_activity(square, 2)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return [len(done), len(pending)]

    with Driven(first_of_two, known=KNOWN) as driven:
        driven.apply(completed(2), completed(1))
        assert driven.result == [1, 1]


def test_trap_01_a_result_before_a_timeout_in_one_batch_is_in_time() -> None:
    async def limited(ctx: OrchestrationContext) -> str:
        try:
            async with asyncio.timeout(5):
                return await ctx.call_activity(echo, "x")
        except TimeoutError:
            return "late"

    for messages, result in ((completed(1, "x", 6), fired(1, 5, 6)), "x"), ((fired(1, 5, 6), completed(1, "x", 6)), "late"):
        with Driven(limited, known=KNOWN) as driven:
            driven.apply(*messages)
            assert driven.result == result


# ── 2: sets ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trap_02_sets_of_tasks_and_futures_iterate_in_the_same_order_on_every_run() -> None:
    orders = []

    async def sets(ctx: OrchestrationContext) -> None:
        loop = asyncio.get_running_loop()
        calls: list[Any] = [ctx.call_activity(square, i) for i in range(20)]
        tasks: list[Any] = [asyncio.create_task(asyncio.sleep(0)) for _ in range(20)]
        futures: list[Any] = [loop.create_future() for _ in range(20)]
        orders.append([[made.index(one) for one in set(made)] for made in (calls, tasks, futures)])

    for execution_id in ("x1", "x1", "x1"):
        Driven(sets, known=KNOWN, execution_id=execution_id).execution.close()
    assert orders[0] == orders[1] == orders[2]


def test_trap_02_a_bare_future_has_no_order_and_one_of_the_loop_has() -> None:
    """Its class is C's: nothing of ours is asked when one is made. Where this fails, the page can promise more."""
    hashes: list[bool] = []

    async def made(ctx: OrchestrationContext) -> None:
        futures: list[Any] = [asyncio.Future(), asyncio.get_running_loop().create_future()]
        hashes.extend(hash(future) == object.__hash__(future) for future in futures)

    Driven(made, known=KNOWN).execution.close()
    assert hashes == [True, False]


def test_trap_02_hashes_differ_between_executions_and_equality_is_identity() -> None:
    futures: list[Any] = []

    async def one(ctx: OrchestrationContext) -> None:
        futures.extend((ctx.call_activity(square, 1), asyncio.create_task(asyncio.sleep(0)), asyncio.get_running_loop().create_future()))

    Driven(one, known=KNOWN, execution_id="x1").execution.close()
    Driven(one, known=KNOWN, execution_id="x2").execution.close()
    assert len({hash(future) for future in futures}) == 6
    assert all((a == b) == (a is b) for a in futures for b in futures)


def test_trap_02_gathers_in_a_set_have_an_order() -> None:
    orders = []

    async def gathers(ctx: OrchestrationContext) -> None:
        made = [asyncio.gather(ctx.call_activity(square, i)) for i in range(20)]
        garbage.append([object() for _ in range(7)])
        orders.append([made.index(one) for one in set(made)])

    garbage: list[object] = []
    for _ in range(3):
        Driven(gathers, known=KNOWN).execution.close()
    assert orders[0] == orders[1] == orders[2]


def test_trap_02_a_gather_on_another_loop_keeps_its_hash() -> None:
    loop = asyncio.new_event_loop()
    try:
        outer = asyncio.gather(loop.create_future(), return_exceptions=True)
        assert hash(outer) == object.__hash__(outer)
        outer.cancel()
    finally:
        loop.close()


def test_trap_02_as_completed_over_a_set_of_coroutines_is_refused_and_says_how() -> None:
    async def completing(ctx: OrchestrationContext) -> str:
        async def one() -> None:
            await ctx.call_activity(square, 1)

        try:
            for task in asyncio.as_completed({one(), one()}):
                await task
        except ForbiddenInOrchestratorError as error:
            return str(error)
        return "not refused"

    driven = Driven(completing, known=KNOWN)
    assert "give a list, or wrap each in asyncio.create_task first" in driven.result
    assert "completing" in driven.result


def test_trap_02_as_completed_over_a_list_of_coroutines_begins_them_in_its_order() -> None:
    async def completing(ctx: OrchestrationContext) -> list[str]:
        async def one(i: int) -> str:
            return await ctx.call_activity(echo, str(i))

        return [await task for task in asyncio.as_completed([one(i) for i in range(1, 5)])]

    with Driven(completing, known=KNOWN) as driven:
        assert [command.input for command in driven.asked if isinstance(command, TaskScheduled)] == ['"1"', '"2"', '"3"', '"4"']
        driven.apply(*(completed(i, str(i)) for i in (3, 1, 4, 2)))
        assert driven.result == ["3", "1", "4", "2"]


def test_trap_02_as_completed_over_tasks_has_one_order() -> None:
    async def completing(ctx: OrchestrationContext) -> list[str]:
        async def one(i: int) -> str:
            await asyncio.sleep(0)
            return await ctx.call_activity(echo, str(i))

        tasks = [asyncio.create_task(one(i)) for i in range(4)]
        return [await task for task in asyncio.as_completed(tasks)]

    with Driven(completing, known=KNOWN) as driven:
        driven.apply(*(completed(i, str(i)) for i in (3, 1, 4, 2)))
        assert driven.result == ["3", "1", "4", "2"]


# ── 3: create_task takes what ctx.call_… returns ──────────────────────────────────────────────────────────────────


def test_trap_03_a_task_group_takes_a_call() -> None:
    async def grouped(ctx: OrchestrationContext) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.call_activity(square, i)) for i in range(3)]
        return [task.result() for task in tasks]

    with Driven(grouped, known=KNOWN) as driven:
        driven.apply(completed(2, 1), completed(1, 0), completed(3, 4))
        assert driven.result == [0, 1, 4]


def test_trap_03_a_task_of_a_call_that_is_cancelled_cancels_the_call() -> None:
    async def cancelling(ctx: OrchestrationContext) -> None:
        before = asyncio.create_task(ctx.call_activity(square, 1))
        after = asyncio.create_task(ctx.call_activity(square, 2))
        before.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        after.cancel()
        await asyncio.wait([before, after])

    with Driven(cancelling, known=KNOWN) as driven:
        assert cancellations(driven) == [CommandCancelled("task", 1), CommandCancelled("task", 2)]


def test_trap_03_a_shielded_call_outlives_its_task() -> None:
    async def shielding(ctx: OrchestrationContext) -> int:
        call = ctx.call_activity(square, 1)
        shielded: Any = asyncio.shield(call)
        task: asyncio.Task[int] = asyncio.create_task(shielded)
        task.cancel()
        return await call

    with Driven(shielding, known=KNOWN) as driven:
        assert driven.asked == [TaskScheduled(1, "square", "1", 1)]
        driven.apply(completed(1, 7))
        assert driven.result == 7


def test_trap_03_a_task_group_that_is_shutting_down_refuses_a_call_like_a_coroutine() -> None:
    async def refused(ctx: OrchestrationContext) -> str:
        async def late(group: asyncio.TaskGroup) -> None:
            try:
                await asyncio.sleep(9)
            finally:
                group.create_task(ctx.call_activity(echo, "late"))

        refusals = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(late(group))
                await asyncio.sleep(0)
                raise KeyError("enough")
        except* RuntimeError as errors:
            refusals = [str(error) for error in errors.exceptions]
        except* KeyError:
            pass
        return str(refusals)

    with Driven(refused, known=KNOWN) as driven:
        assert "shutting down" in driven.result
        assert CommandCancelled("task", 1) in driven.asked


# ── 4: newer Pythons ──────────────────────────────────────────────────────────────────────────────────────────────


def test_trap_04_no_task_is_eager_and_keywords_of_newer_pythons_are_taken() -> None:
    log = []

    async def eager(ctx: OrchestrationContext) -> None:
        async def one() -> None:
            log.append("in the task")

        loop: Any = asyncio.get_running_loop()
        task = loop.create_task(one(), name="named", context=contextvars.Context(), eager_start=True, something_new=1)
        log.append(f"made {task.get_name()}")
        await task

    Driven(eager).execution.close()
    assert log == ["made named", "in the task"]


def test_trap_04_no_task_factory_can_be_set() -> None:
    async def factory(ctx: OrchestrationContext) -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **_: None)

    with Driven(factory) as driven:
        assert driven.failure.type == "durable_core.errors.ForbiddenInOrchestratorError"


# ── 5: handles and timers ─────────────────────────────────────────────────────────────────────────────────────────


def test_trap_05_a_ready_handle_that_was_cancelled_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def handles(ctx: OrchestrationContext) -> None:
        loop = asyncio.get_running_loop()
        handle = loop.call_soon(log.append, "cancelled")
        loop.call_soon(log.append, "run")
        handle.cancel()
        await asyncio.sleep(0)

    Driven(handles).execution.close()
    assert log == ["run"]
    assert not caplog.records


@pytest.mark.parametrize("delay", [0, -1, -0.0])
def test_trap_05_sleeping_for_nothing_makes_no_timer(delay: float) -> None:
    async def sleeper(ctx: OrchestrationContext) -> None:
        await asyncio.sleep(delay)
        asyncio.get_running_loop().call_later(delay, print)

    with Driven(sleeper) as driven:
        assert driven.asked == []
        assert isinstance(driven.ending, ExecutionCompleted)


def test_trap_05_sleeping_for_no_number_is_an_error() -> None:
    async def sleeper(ctx: OrchestrationContext) -> None:
        await asyncio.sleep(float("nan"))

    with Driven(sleeper) as driven:
        assert driven.failure.type == "ValueError"
        assert driven.asked == []


def test_trap_05_sleeping_for_ever_is_a_timer_at_the_end_of_time() -> None:
    async def sleeper(ctx: OrchestrationContext) -> None:
        await asyncio.sleep(float("inf"))

    with Driven(sleeper) as driven:
        assert driven.asked == [TimerCreated(1, LATEST_US)]


@pytest.mark.parametrize(
    ("delay", "expected_us"),
    [
        (1, 1_000_000),
        (0.1, 100_000),
        (0.1 + 0.2, 300_000),
        (8.36, 8_360_000),
        (1e-9, 1),
        (1.0000004, 1_000_000),
        (86_400 * 365.25, 31_557_600_000_000),
    ],
)
def test_trap_05_delays_are_rounded_to_microseconds(delay: float, expected_us: int) -> None:
    async def sleeper(ctx: OrchestrationContext) -> None:
        await asyncio.sleep(delay)

    with Driven(sleeper) as driven:
        assert driven.asked == [TimerCreated(1, START_US + expected_us)]


@pytest.mark.parametrize("delay", [1e12, 1e30, 1e305, sys.float_info.max])
def test_trap_05_a_timer_beyond_all_dates_is_the_last_date(delay: float) -> None:
    """Stores hold 64 bits, and 1e305 seconds overflow a float on the way to microseconds."""

    async def sleeper(ctx: OrchestrationContext) -> None:
        async with asyncio.timeout(delay):
            await ctx.call_activity(echo, "x", timeout=timedelta.max, retry=RetryPolicy(first_retry_interval=timedelta.max))

    with Driven(sleeper, known=KNOWN) as driven:
        driven.apply(failed(1))
        timers = [event for event in driven.history if isinstance(event, TimerCreated)]
        assert [timer.due_us for timer in timers] == [LATEST_US] * 3


def test_trap_05_a_timer_cancelled_after_it_fired_is_tolerated() -> None:
    async def late(ctx: OrchestrationContext) -> str:
        future = asyncio.get_running_loop().create_future()
        handle = asyncio.get_running_loop().call_later(1, future.set_result, "fired")
        result: str = await future
        handle.cancel()
        handle.cancel()
        return result

    with Driven(late) as driven:
        driven.apply(fired(1, 1))
        assert driven.result == "fired"
        assert driven.asked == []


def test_trap_05_a_timer_that_fires_after_it_was_cancelled_is_dropped() -> None:
    async def cancelled(ctx: OrchestrationContext) -> str:
        async with asyncio.timeout(1):
            await ctx.call_activity(echo, "a")
        return await ctx.call_activity(echo, "b")

    with Driven(cancelled, known=KNOWN) as driven:
        driven.apply(completed(1, "a"), fired(1, 1))
        assert CommandCancelled("timer", 1) in driven.asked
        driven.apply(completed(2, "b"))
        assert driven.result == "b"


def test_trap_05_time_is_at_least_the_due_time_of_the_timer_that_fired() -> None:
    async def times(ctx: OrchestrationContext) -> list[str]:
        await ctx.create_timer(seconds(2))
        return [ctx.current_utc_datetime.isoformat(), str(asyncio.get_running_loop().time())]

    with Driven(times) as driven:
        driven.apply(fired(1, 2, at_s=1.5))  # a clock that went back
        assert driven.result == ["2023-11-14T22:13:22+00:00", "2.0"]


# ── 6: cancelling ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_trap_06_a_command_is_cancelled_once() -> None:
    async def twice(ctx: OrchestrationContext) -> list[bool]:
        call = ctx.call_activity(echo, "x", timeout=seconds(9))
        cancelled = [call.cancel(), call.cancel()]
        await asyncio.wait([call])
        return [*cancelled, call.cancel()]

    with Driven(twice, known=KNOWN) as driven:
        assert driven.result == [True, False, False]
        assert [event for event in driven.asked if isinstance(event, CommandCancelled)] == [
            CommandCancelled("task", 1),
            CommandCancelled("timer", 1),
        ]


def test_trap_06_what_was_answered_is_not_cancelled() -> None:
    async def late(ctx: OrchestrationContext) -> list[bool]:
        call = ctx.call_activity(echo, "x")
        await call
        return [call.cancel(), call.cancelled()]

    with Driven(late, known=KNOWN) as driven:
        driven.apply(completed(1, "x"))
        assert driven.result == [False, False]
        assert driven.asked == []


def test_trap_06_a_completion_that_raced_the_cancellation_is_dropped() -> None:
    async def racing(ctx: OrchestrationContext) -> list[Any]:
        call = ctx.call_activity(echo, "x")
        called = ctx.call_sub_orchestrator(child, 1)
        asked = ctx.entity(Counter, "e").call(Counter.get)
        await asyncio.sleep(1)
        for task in (call, called, asked):
            task.cancel()
        await ctx.wait_for_external_event("go")
        return [call.cancelled(), called.cancelled(), asked.cancelled()]

    with Driven(racing, known=KNOWN) as driven:
        driven.apply(fired(1, 1), completed(1, "x", 1))
        assert driven.asked == [CommandCancelled("task", 1), CommandCancelled("child", 1, "x1:0001"), CommandCancelled("entity", 1)]
        driven.apply(SubOrchestrationCompleted(1, "1"), EntityOperationCompleted(1, "2"))
        driven.apply(raised("go"))
        assert driven.result == [True, True, True]


def test_trap_06_cancelling_before_the_first_step() -> None:
    ran = []

    async def cancelling(ctx: OrchestrationContext) -> str:
        async def never() -> None:
            ran.append(1)

        task = asyncio.create_task(never())
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return await ctx.call_activity(echo, "next")
        return "not cancelled"

    with Driven(cancelling, known=KNOWN) as driven:
        driven.apply(completed(1, "next"))
        assert driven.result == "next"
        assert ran == []


def test_trap_06_repeated_completions_are_dropped() -> None:
    async def two(ctx: OrchestrationContext) -> list[str]:
        return [await ctx.call_activity(echo, "a"), await ctx.call_activity(echo, "b")]

    with Driven(two, known=KNOWN) as driven:
        driven.apply(completed(1, "a"), completed(1, "again"), failed(1), completed(99, "nobody's"))
        driven.apply(completed(2, "b"))
        assert driven.result == ["a", "b"]


# ── 7: engine exceptions are never raised into user code; closing ─────────────────────────────────────────────────


async def insatiable(ctx: OrchestrationContext) -> None:
    while True:
        try:
            await ctx.call_activity(square, 1)
        except BaseException:
            pass


def test_trap_07_swallowing_everything_under_a_mismatch_terminates(caplog: pytest.LogCaptureFixture) -> None:
    with Driven(insatiable, known=KNOWN) as driven:
        driven.apply(completed(1, 1))
    history = [driven.history[0], TaskScheduled(1, "cube", "1", 1), *driven.history[2:]]
    before = len(LEAKED)
    replayed = Driven(insatiable, known=KNOWN, start=False)
    assert len(list(replayed.execution.replay(history))) == 1, "it stops at the problem"
    assert isinstance(replayed.execution.problem, NonDeterminismError)
    with pytest.raises(NonDeterminismError):
        replayed.execution.take_turn()
    caplog.clear()
    replayed.execution.close()
    assert len(leaks_since(before)) == 1, "what swallows even GeneratorExit is kept for ever"
    assert len(caplog.records) == 1
    assert "order-7" in caplog.text


def test_trap_07_swallowing_everything_under_closing_terminates(caplog: pytest.LogCaptureFixture) -> None:
    driven = Driven(insatiable, known=KNOWN)
    history_length = driven.execution.history_length
    before = len(LEAKED)
    driven.execution.close()
    driven.execution.close()
    assert driven.execution.history_length == history_length
    assert len(leaks_since(before)) == 1
    assert caplog.text.count("could not be ended") == 1


def test_trap_07_spinning_and_swallowing_under_closing_terminates() -> None:
    steps: list[int] = []

    async def spinning(ctx: OrchestrationContext) -> None:
        call = ctx.call_activity(square, 1)
        while True:
            try:
                await (asyncio.sleep(0) if steps else call)
            except BaseException:
                pass
            steps.append(1)

    before = len(LEAKED)
    driven = Driven(spinning, known=KNOWN)
    driven.execution.close()
    assert len(steps) == 10
    assert len(leaks_since(before)) == 1


def test_trap_07_code_that_resists_a_few_times_ends_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    resisted = []

    async def resisting(ctx: OrchestrationContext) -> None:
        for _ in range(6):
            try:
                await ctx.call_activity(square, 1)
            except BaseException:
                resisted.append(1)

    before = len(LEAKED)
    Driven(resisting, known=KNOWN).execution.close()
    assert len(resisted) == 6
    assert not leaks_since(before)
    assert not caplog.records


def all_commands(ctx: OrchestrationContext) -> list[Any]:
    ctx.set_custom_status("x")
    ctx.continue_as_new()
    ctx.send_event("other", "hello")
    ctx.signal_entity(EntityId("counter", "e"), "add", 1)
    ctx.entity(Counter, "e").signal(Counter.add, 1)
    loop = asyncio.get_running_loop()
    loop.call_later(5, print)
    policy = RetryPolicy()
    return [
        ctx.call_activity(square, 1),
        ctx.call_activity(square, 1, retry=policy, timeout=seconds(5)),
        ctx.call_activity("by name", 1, timeout=seconds(5)),
        ctx.call_sub_orchestrator(child, 1),
        ctx.call_sub_orchestrator(child, 1, retry=policy, timeout=seconds(5)),
        ctx.create_timer(seconds(5)),
        ctx.wait_for_external_event("never", timeout=seconds(5)),
        ctx.call_entity(EntityId("counter", "e"), "get"),
        ctx.entity(Counter, "e").call(Counter.get),
        asyncio.create_task(asyncio.sleep(5)),
        when_all([ctx.call_activity(square, 1)]),
        when_any(ctx.call_activity(square, 1)),
    ]


def test_trap_07_while_closing_every_command_is_silent_and_never_answers() -> None:
    seen: list[list[bool]] = []

    async def commanding(ctx: OrchestrationContext) -> None:
        try:
            await ctx.call_activity(square, 1)
        finally:
            tasks = all_commands(ctx)
            seen.append([task.done() for task in tasks])
            for task in tasks:
                task.cancel()

    driven = Driven(commanding, known=KNOWN)
    before, length = len(LEAKED), driven.execution.history_length
    driven.execution.close()
    assert seen == [[False] * 12]
    assert driven.execution.history_length == length
    assert driven.execution.take_turn().custom_status is None
    assert not leaks_since(before)


def _started_message(driven: Driven) -> ExecutionStarted:
    return ExecutionStarted(driven.bound.name, None, 0, at_us=START_US)


def test_trap_07_after_a_mismatch_every_command_is_silent_and_the_step_is_the_last() -> None:
    seen: list[str] = []

    async def commanding(ctx: OrchestrationContext) -> None:
        ctx.call_activity(echo, "changed")
        tasks = all_commands(ctx)
        seen.append("same step")
        try:
            await asyncio.sleep(0)
            seen.append("next step")
        finally:
            assert not any(task.done() for task in tasks[:-3])

    driven = Driven(commanding, known=KNOWN, start=False)
    list(driven.execution.replay([_started_message(driven), TaskScheduled(1, "square", "1", 1)]))
    assert seen == ["same step"]
    assert isinstance(driven.execution.problem, NonDeterminismError)
    driven.execution.close()


def test_trap_07_closing_cancels_the_newest_first_and_runs_finally_on_this_thread() -> None:
    log: list[Any] = []

    async def deep(ctx: OrchestrationContext) -> None:
        async def one(name: str) -> None:
            try:
                await ctx.call_activity(echo, name)
            finally:
                log.append((name, threading.get_ident()))

        try:
            await asyncio.gather(*(one(name) for name in "abc"))
        finally:
            log.append(("root", threading.get_ident()))

    driven = Driven(deep, known=KNOWN)
    driven.execution.close()
    assert [name for name, _ in log] == ["c", "b", "a", "root"]
    assert {thread for _, thread in log} == {threading.get_ident()}
    del driven
    gc.collect()
    assert len(log) == 4, "nothing is left for the garbage collector"


def test_trap_07_what_leaks_is_not_run_by_the_garbage_collector() -> None:
    log: list[str] = []

    async def resisting(ctx: OrchestrationContext) -> None:
        try:
            await ctx.call_activity(square, 1)
        finally:
            while len(log) < 11:
                try:
                    await ctx.call_activity(square, 1)
                except GeneratorExit:
                    log.append("ended")

    before = len(LEAKED)
    driven = Driven(resisting, known=KNOWN)
    driven.execution.close()
    count = len(log)
    del driven
    gc.collect()
    assert len(log) == count
    assert len(leaks_since(before)) == 1


LEAKS_AND_ENDS = """
import asyncio, gc, os
from durable_core.replay.closing import LEAKED
from tests.core.replay.driver import Driven
from tests.core.replay.programs import KNOWN, square

swallowed = 0

async def insatiable(ctx) -> None:
    global swallowed
    while True:
        try:
            await ctx.call_activity(square, 1)
        except BaseException:
            swallowed += 1
            if swallowed == 1000:
                os._exit(1)

async def outer(ctx) -> None:
    await insatiable(ctx)

driven = Driven(outer, known=KNOWN)
driven.execution.close()
assert swallowed == 10
del driven
LEAKED.clear()
gc.collect()
"""


def test_trap_07_what_leaks_does_not_run_when_the_interpreter_empties_the_list() -> None:
    """It would for ever, since at that point every command raises."""
    subprocess.run([sys.executable, "-c", LEAKS_AND_ENDS], cwd=PROJECT, timeout=60, check=True)


def test_trap_07_a_big_fan_out_is_closed_whole(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def fan_out(ctx: OrchestrationContext) -> None:
        async def one(i: int) -> None:
            try:
                await ctx.call_activity(square, i)
            finally:
                ended.append(i)

        async with asyncio.TaskGroup() as group:
            for i in range(11_000):
                group.create_task(one(i))
            await ctx.wait_for_external_event("never")

    before = len(LEAKED)
    Driven(fan_out, known=KNOWN).execution.close()
    assert ended == list(reversed(range(11_000)))
    assert not leaks_since(before)
    assert not caplog.records


def test_trap_07_code_that_exits_while_being_closed_does_not_stop_the_closing(caplog: pytest.LogCaptureFixture) -> None:
    """Else an instance whose code says ``finally: sys.exit()`` could not be terminated."""
    ended = []

    async def exiting(ctx: OrchestrationContext) -> None:
        async def one() -> None:
            try:
                await ctx.call_activity(square, 1)
            finally:
                sys.exit(3)

        task = asyncio.create_task(one())
        try:
            await ctx.call_activity(square, 2)
        finally:
            ended.append(task)

    with Driven(exiting, known=KNOWN) as driven:
        driven.apply(ExecutionTerminated('"enough"'))
        assert driven.turn.ending == ExecutionTerminated('"enough"')
        assert len(ended) == 1
        assert "SystemExit" in caplog.text


def test_trap_07_code_that_raises_while_being_closed_is_told_of_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def raising(ctx: OrchestrationContext) -> None:
        while True:
            try:
                await ctx.call_activity(square, 1)
            except GeneratorExit:
                raise LookupError("at the end") from None

    before = len(LEAKED)
    Driven(raising, known=KNOWN).execution.close()
    assert "LookupError('at the end')" in caplog.text
    assert not leaks_since(before)


def test_trap_07_tasks_started_while_closing_are_closed_too() -> None:
    async def starting(ctx: OrchestrationContext) -> None:
        while True:
            try:
                await ctx.call_activity(square, 1)
            except GeneratorExit:
                asyncio.create_task(asyncio.sleep(1))  # noqa: RUF006
                raise

    Driven(starting, known=KNOWN).execution.close()
    gc.collect()  # a coroutine that was never awaited would warn, and warnings are errors here


def test_trap_07_a_termination_ends_the_code_and_records_nothing_after_it() -> None:
    async def cleaning(ctx: OrchestrationContext) -> None:
        try:
            await ctx.call_activity(square, 1)
        finally:
            await ctx.call_activity(square, 2)

    with Driven(cleaning, known=KNOWN) as driven:
        turn = driven.apply(ExecutionTerminated('"enough"'), completed(1, 1))
        assert turn.events == (ExecutionTerminated('"enough"'),)


async def waits_in_finally(ctx: OrchestrationContext, log: list[str], name: str) -> None:
    try:
        await ctx.call_activity(echo, name)
    except (asyncio.CancelledError, Exception):
        log.append(f"compensating {name}")
        raise
    finally:
        log.append(name)
        try:
            await ctx.call_activity(echo, f"cleaning {name}")
            log.append(f"{name} cleaned")
        except (asyncio.CancelledError, Exception):
            log.append(f"compensating {name} again")
            raise


ENDINGS: dict[str, Callable[[OrchestrationContext, list[str]], Awaitable[object]]] = {
    "await": lambda ctx, log: waits_in_finally(ctx, log, "a"),
    "gather": lambda ctx, log: asyncio.gather(*(waits_in_finally(ctx, log, name) for name in "ab")),
    "group": lambda ctx, log: in_group(ctx, log, wait_inside=False),
    "group, inside": lambda ctx, log: in_group(ctx, log, wait_inside=True),
    "timeout": lambda ctx, log: asyncio.wait_for(waits_in_finally(ctx, log, "a"), 60),
    "wait": lambda ctx, log: asyncio.wait([asyncio.create_task(waits_in_finally(ctx, log, "a"))]),
    "shield": lambda ctx, log: asyncio.shield(waits_in_finally(ctx, log, "a")),
    "generator": lambda ctx, log: in_generator(ctx, log),
    "not started": lambda ctx, log: not_started(ctx, log),
}


async def in_group(ctx: OrchestrationContext, log: list[str], *, wait_inside: bool) -> None:
    async with asyncio.TaskGroup() as group:
        for name in "ab":
            group.create_task(waits_in_finally(ctx, log, name))
        if wait_inside:
            await waits_in_finally(ctx, log, "inside")


async def in_generator(ctx: OrchestrationContext, log: list[str]) -> None:
    async def pages() -> AsyncIterator[int]:
        await waits_in_finally(ctx, log, "a")
        yield 1

    async with asyncio.timeout(60):
        async for _ in pages():
            raise AssertionError("a page")


async def not_started(ctx: OrchestrationContext, log: list[str]) -> None:
    call = ctx.call_activity(echo, "x")
    try:
        await call
    finally:
        asyncio.create_task(waits_in_finally(ctx, log, "never"))  # noqa: RUF006


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("terminated", [False, True])
def test_trap_07_code_is_ended_as_a_coroutine_that_is_closed(ending: str, terminated: bool, caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def order(ctx: OrchestrationContext) -> None:
        token = request.set("the orchestrator's")
        try:
            await ENDINGS[ending](ctx, log)
        except (asyncio.CancelledError, Exception) as error:
            log.append(f"compensating the order after {error!r}")
        finally:
            request.reset(token)
            async with asyncio.timeout(5):  # noqa: ASYNC100  # entering it takes a current task
                log.append("the order")
                ctx.logger.warning("the order ends")

    before = len(LEAKED)
    with Driven(order, known=KNOWN) as driven:
        if terminated:
            driven.apply(ExecutionTerminated(None))
    names = {"await": "a", "timeout": "a", "wait": "a", "shield": "a", "generator": "a", "not started": ""}.get(ending, "ba")
    assert log == [*names, *(["inside"] if "inside" in ending else []), "the order"]
    assert not caplog.records, "nothing has gone wrong, and what the code says now it says again when it goes on"
    assert not leaks_since(before)
    del driven
    gc.collect()
    assert log[-1] == "the order"


# ── 8: host state ─────────────────────────────────────────────────────────────────────────────────────────────────

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


def test_trap_08_context_variables_neither_leak_in_nor_out() -> None:
    seen: list[Any] = []

    async def looking(ctx: OrchestrationContext) -> None:
        seen.append((request.get(), decimal.getcontext().prec))
        request.set("the orchestrator's")
        decimal.getcontext().prec = 5
        await ctx.call_activity(square, 1)
        seen.append((request.get(), decimal.getcontext().prec))
        await asyncio.sleep(1)
        seen.append((request.get(), decimal.getcontext().prec))

    with decimal.localcontext() as host:
        host.prec = 11
        token = request.set("the host's")
        try:
            with Driven(looking, known=KNOWN) as driven:
                request.set("another turn's")
                driven.apply(completed(1, 1))
                driven.apply(fired(1, 1))
                assert isinstance(driven.ending, ExecutionCompleted)
            assert (request.get(), decimal.getcontext().prec) == ("another turn's", 11)
        finally:
            request.reset(token)
    assert seen == [("none", 28), ("the orchestrator's", 5), ("the orchestrator's", 5)]


def test_trap_08_the_hosts_running_loop_and_generator_hooks_come_back() -> None:
    inside: list[Any] = []

    async def looking(ctx: OrchestrationContext) -> None:
        inside.append((asyncio.get_running_loop() is driven.execution.loop, sys.get_asyncgen_hooks().firstiter is not firstiter))
        if len(inside) > 1:
            raise KeyboardInterrupt
        await ctx.call_activity(square, 1)

    def firstiter(_: Any) -> None:
        raise AssertionError("a generator of the orchestrator reached the host")

    driven = Driven(looking, known=KNOWN, start=False)
    again = Driven(looking, known=KNOWN, start=False)
    start = _started_message(driven)
    host = asyncio.new_event_loop()
    hooks = sys.get_asyncgen_hooks()
    events._set_running_loop(host)
    sys.set_asyncgen_hooks(firstiter=firstiter)
    try:
        driven.execution.apply(start)
        assert events._get_running_loop() is host
        assert sys.get_asyncgen_hooks().firstiter is firstiter
        with pytest.raises(KeyboardInterrupt):
            again.execution.apply(start)
        assert events._get_running_loop() is host
        assert sys.get_asyncgen_hooks().firstiter is firstiter
    finally:
        events._set_running_loop(None)
        sys.set_asyncgen_hooks(*hooks)
        host.close()
        driven.execution.close()
        again.execution.close()
    assert inside == [(True, True), (False, True)]


def test_trap_08_an_async_generator_that_is_dropped_cleans_up_as_on_any_loop() -> None:
    """What it holds is free again, for this code and on every replay."""
    log: list[str] = []

    async def pages(ctx: OrchestrationContext, one: asyncio.Semaphore) -> AsyncIterator[int]:
        async with one:
            try:
                for i in range(9):
                    yield i
            finally:
                await ctx.call_activity(echo, "cleaning")
                log.append("cleaned")

    async def reading(ctx: OrchestrationContext) -> str:
        one = asyncio.Semaphore(1)
        async for _ in pages(ctx, one):
            break
        log.append("left")
        async with one:
            return await ctx.call_activity(echo, "read")

    with Driven(reading, known=KNOWN) as driven:
        driven.apply(completed(1, "cleaning"))
        assert log == ["left", "cleaned"]
        driven.apply(completed(2, "read"))
        assert driven.result == "read"
    messages = [index for index, event in enumerate(driven.history) if index and isinstance(event, MessageEvent)]
    assert len(messages) == 2
    for length in messages:
        with Driven(reading, known=KNOWN, start=False) as again:
            list(again.execution.replay(driven.history[:length]))
            assert again.execution.problem is None


def test_trap_08_an_async_generator_in_a_cycle_is_closed_with_its_execution_and_without_commands() -> None:
    log: list[str] = []

    async def pages(ctx: OrchestrationContext, itself: list[Any]) -> AsyncIterator[int]:
        try:
            for i in range(9):
                yield i + len(itself)
        finally:
            log.append("closed")
            ctx.call_activity(echo, "cleaning")

    async def reading(ctx: OrchestrationContext) -> str:
        itself = list[Any]()
        itself.append(pages(ctx, itself))
        await anext(itself[0])
        del itself
        gc.collect()
        log.append("left")
        return await ctx.call_activity(echo, "read")

    with Driven(reading, known=KNOWN) as driven:
        assert log == ["left"], "not whenever the garbage collector finds it"
        driven.apply(completed(1, "read"))
        assert log == ["left", "closed"]
        assert [event for event in driven.history if isinstance(event, TaskScheduled)] == [TaskScheduled(1, "echo", '"read"', 1)]
        assert driven.result == "read"


def test_trap_08_an_async_generator_that_awaits_while_being_closed_ends_there(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def pages(ctx: OrchestrationContext) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            log.append("closing")
            await ctx.call_activity(square, 1)
            log.append("closed")

    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("broken")

    async def reading(ctx: OrchestrationContext) -> None:
        await anext(pages(ctx))
        await anext(failing())
        await ctx.call_activity(square, 1)

    before = len(LEAKED)
    Driven(reading, known=KNOWN).execution.close()
    assert not leaks_since(before)
    assert log == ["closing"], "what it awaits while it is being closed is never answered, and ends it there"
    assert len(caplog.records) == 1
    assert "LookupError: broken" in caplog.text
    gc.collect()


def test_trap_08_generators_made_while_closing_stay_with_the_loop() -> None:
    collected = []

    async def pages() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            collected.append(events._get_running_loop() is not None)

    async def resisting(ctx: OrchestrationContext) -> None:
        while True:
            try:
                await ctx.call_activity(square, 1)
            except GeneratorExit:
                async for _ in pages():
                    break
                raise

    Driven(resisting, known=KNOWN).execution.close()
    assert collected == [True]


OUTSIDE: list[Callable[[OrchestrationContext], object]] = [
    lambda ctx: ctx.call_activity(square, 1),
    lambda ctx: ctx.call_sub_orchestrator(child, 1),
    lambda ctx: ctx.create_timer(seconds(1)),
    lambda ctx: ctx.wait_for_external_event("go"),
    lambda ctx: ctx.send_event("other", "go"),
    lambda ctx: ctx.call_entity(EntityId("counter", "e"), "get"),
    lambda ctx: ctx.signal_entity(EntityId("counter", "e"), "get"),
    lambda ctx: ctx.entity(Counter, "e").call(Counter.get),
    lambda ctx: ctx.entity(Counter, "e").signal(Counter.get),
    lambda ctx: ctx.set_custom_status(1),
    lambda ctx: ctx.continue_as_new(),
    lambda ctx: ctx.new_uuid(),
]


@pytest.mark.parametrize("command", OUTSIDE)
def test_trap_08_commands_from_outside_or_from_another_orchestrators_loop_raise(command: Callable[[OrchestrationContext], object]) -> None:
    contexts: list[OrchestrationContext] = []

    async def lending(ctx: OrchestrationContext) -> None:
        contexts.append(ctx)
        await ctx.call_activity(square, 1)

    async def borrowing(ctx: OrchestrationContext) -> str:
        try:
            command(contexts[0])
        except OutsideOrchestratorError as error:
            return str(error)
        return "not refused"

    with Driven(lending, known=KNOWN) as lender:
        length = lender.execution.history_length
        with pytest.raises(OutsideOrchestratorError, match="lending"):
            command(contexts[0])
        with Driven(borrowing, known=KNOWN) as borrower:
            assert "lending" in borrower.result
        assert lender.execution.history_length == length
        assert lender.apply(completed(1, 1)).ending == ExecutionCompleted("null"), "no id was taken"


def test_trap_08_fan_in_outside_an_orchestrator_raises() -> None:
    for function in (when_all, when_any):
        with pytest.raises(OutsideOrchestratorError, match=function.__name__):
            function([])


# ── 9: exceptions that nobody awaited ─────────────────────────────────────────────────────────────────────────────


async def falls_behind(ctx: OrchestrationContext) -> str:
    async def falling(name: str) -> None:
        await ctx.call_activity(echo, name)
        raise RuntimeError(f"{name} fell")

    tasks = [asyncio.create_task(falling(name), name=name) for name in ("left", "right")]
    await ctx.wait_for_external_event("go")
    try:
        await tasks[1]
    except RuntimeError:
        pass
    return "done"


def test_trap_09_a_failed_task_warns_once_at_the_end_of_its_turn_and_is_recorded_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with Driven(falls_behind, known=KNOWN) as driven:
        driven.apply(completed(1, ""), completed(2, ""))
        assert [record.getMessage() for record in caplog.records] == [
            f"orchestrator 'falls_behind' of 'order-7': task {name!r} failed and nobody has awaited it (yet)" for name in ("left", "right")
        ]
        assert all(record.exc_info for record in caplog.records)
        caplog.clear()
        driven.apply(raised("other"))
        driven.apply(raised("go"))
        assert not caplog.records
        assert isinstance(driven.ending, ExecutionCompleted)
        assert [(failure.type, failure.message) for failure in driven.ending.unawaited] == [("RuntimeError", "left fell")]
    del driven
    gc.collect()
    assert not caplog.records


def test_trap_09_replay_does_not_warn_again(caplog: pytest.LogCaptureFixture) -> None:
    with Driven(falls_behind, known=KNOWN) as first:
        first.apply(completed(1, ""), completed(2, ""))
    caplog.clear()
    with Driven(falls_behind, known=KNOWN, history=first.history) as again:
        again.apply(raised("other"))
        assert not caplog.records
        again.apply(raised("go"))
        assert isinstance(again.ending, ExecutionCompleted)
        assert len(again.ending.unawaited) == 1


COLLECTORS: list[tuple[Callable[[list[asyncio.Task[None]]], Any], bool]] = [
    (lambda tasks: asyncio.gather(*tasks, return_exceptions=True), False),
    (asyncio.wait, False),
    (when_all, False),
    (lambda tasks: asyncio.wait(tasks, timeout=0), True),
    (lambda tasks: tasks[0].add_done_callback(set(tasks).discard) or asyncio.sleep(0), True),  # type: ignore[func-returns-value]
]


@pytest.mark.parametrize(("collect", "warned"), COLLECTORS)
def test_trap_09_what_will_be_looked_at_is_not_warned_of(
    collect: Callable[[list[asyncio.Task[None]]], Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """``gather(..., return_exceptions=True)`` looks when all have ended, turns later."""

    async def collecting(ctx: OrchestrationContext) -> None:
        async def falling() -> None:
            await ctx.call_activity(square, 1)
            raise RuntimeError("fell")

        async def going_on() -> None:
            await ctx.call_activity(square, 2)

        tasks = [asyncio.create_task(falling()), asyncio.create_task(going_on())]
        try:
            await collect(tasks)
        except RuntimeError:
            pass
        await ctx.wait_for_external_event("go")
        for task in tasks:
            await asyncio.wait([task])
            task.exception()

    with Driven(collecting, known=KNOWN) as driven:
        driven.apply(completed(1, 1))
        assert ("nobody has awaited it" in caplog.text) == warned
        caplog.clear()
        driven.apply(completed(2, 4))
        driven.apply(raised("go"))
        assert not driven.turn.events[-1].unawaited  # type: ignore[union-attr]
        assert not caplog.records


def test_trap_09_a_failed_orchestration_records_them_too_and_at_most_a_hundred() -> None:
    async def many(ctx: OrchestrationContext) -> None:
        async def falling(i: int) -> None:
            raise RuntimeError(f"{i}")

        for i in range(120):
            asyncio.create_task(falling(i))  # noqa: RUF006
        await asyncio.sleep(0)
        raise LookupError("the root")

    with Driven(many) as driven:
        assert isinstance(driven.ending, ExecutionFailed)
        assert [failure.message for failure in driven.ending.unawaited] == [f"{i}" for i in range(100)]
        assert driven.failure.message == "the root"


# ── 10: ids ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trap_10_each_attempt_has_an_id_of_its_own_and_a_late_result_is_nobodys() -> None:
    async def retried(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity(flaky, 1, "x", retry=RetryPolicy(first_retry_interval=seconds(1), max_number_of_attempts=3))

    with Driven(retried, known=KNOWN) as driven:
        assert driven.asked == [TaskScheduled(1, "flaky", '[1,"x"]', 2, 1)]
        driven.apply(failed(1, "ConnectionError"))
        assert driven.asked == [TimerCreated(1, START_US + SECOND)]
        driven.apply(completed(1, "late, while the timer runs"))
        driven.apply(fired(1, 1))
        assert driven.asked == [TaskScheduled(2, "flaky", '[1,"x"]', 2, 2, first=1)]
        driven.apply(completed(1, "late, while the second attempt runs"), failed(1))
        driven.apply(completed(2, "the second"))
        assert driven.result == "the second"


def test_trap_10_the_next_attempt_follows_its_failure_whatever_else_goes_on() -> None:
    """Retries react to the message itself: their command comes before those of the code that the message wakes."""

    async def busy(ctx: OrchestrationContext) -> None:
        flaky_call = ctx.call_activity(flaky, 1, "x", retry=RetryPolicy(first_retry_interval=timedelta(0)))
        other = ctx.call_activity(echo, "x")
        other.add_done_callback(lambda _: None)
        await asyncio.gather(flaky_call, other)

    with Driven(busy, known=KNOWN) as driven:
        driven.apply(failed(1, "ConnectionError"))
        assert driven.turn.events[1] == TaskScheduled(3, "flaky", '[1,"x"]', 2, 2, first=1)


def test_trap_10_a_cancelled_retry_is_cancelled_in_whatever_state_it_is() -> None:
    async def cancelling(ctx: OrchestrationContext) -> None:
        policy = RetryPolicy(first_retry_interval=seconds(5))
        waiting, running = (ctx.call_activity(flaky, 9, name, retry=policy) for name in ("waiting", "running"))
        await ctx.wait_for_external_event("stop")
        waiting.cancel()
        running.cancel()
        await ctx.wait_for_external_event("go")

    with Driven(cancelling, known=KNOWN) as driven:
        driven.apply(failed(1))
        driven.apply(raised("stop"))
        assert driven.asked == [CommandCancelled("timer", 1), CommandCancelled("task", 2)]
        driven.apply(failed(2), fired(1, 5))
        assert driven.asked == []


MISTAKES: list[tuple[type[Exception], Callable[[Any], object]]] = [
    (PayloadError, lambda ctx: ctx.call_activity("unknown", object())),
    (PayloadError, lambda ctx: ctx.call_activity(square, "three")),
    (ArgumentsError, lambda ctx: ctx.call_activity(square)),
    (NotRegisteredError, lambda ctx: ctx.call_activity(len, [])),
    (TypeError, lambda ctx: ctx.call_activity(square, 1, retry=3)),
    (TypeError, lambda ctx: ctx.call_activity(square, 1, timeout="3")),
    (ValueError, lambda ctx: ctx.call_activity(square, 1, timeout=timedelta(0))),
    (TypeError, lambda ctx: ctx.call_activity(square, 1, tags={"a": 1})),
    (PayloadError, lambda ctx: ctx.call_sub_orchestrator("unknown", object())),
    (InvalidInstanceIdError, lambda ctx: ctx.call_sub_orchestrator(child, 1, instance_id="@no")),
    (TypeError, lambda ctx: ctx.call_sub_orchestrator(child, 1, tags=["a"])),
    (PayloadError, lambda ctx: ctx.call_entity(EntityId("counter", "e"), "add", object())),
    (PayloadError, lambda ctx: ctx.signal_entity(EntityId("counter", "e"), "add", object())),
    (PayloadError, lambda ctx: ctx.entity(Counter, "e").call(Counter.add, "x")),
    (ArgumentsError, lambda ctx: ctx.entity(Counter, "e").signal(Counter.add)),
    (PayloadError, lambda ctx: ctx.send_event("other", "go", object())),
    (InvalidInstanceIdError, lambda ctx: ctx.send_event("", "go")),
    (ValueError, lambda ctx: ctx.send_event("other", "")),
    (ValueError, lambda ctx: ctx.wait_for_external_event("")),
    (ValueError, lambda ctx: ctx.create_timer(ctx.current_utc_datetime.replace(tzinfo=None))),
    (TypeError, lambda ctx: ctx.create_timer("5")),
    (OverflowError, lambda ctx: ctx.create_timer(timedelta.max)),
    (ValueError, lambda ctx: asyncio.get_running_loop().call_later(float("nan"), print)),
]


@pytest.mark.parametrize(("error", "mistake"), MISTAKES)
def test_trap_10_a_call_that_raises_takes_no_id_and_leaves_no_trace(
    error: type[Exception], mistake: Callable[[OrchestrationContext], object]
) -> None:
    async def mistaken(ctx: OrchestrationContext) -> None:
        with pytest.raises(error):
            mistake(ctx)
        ctx.send_event("other", "go")
        ctx.call_activity(square, 1)
        ctx.call_sub_orchestrator(child, 1)
        ctx.create_timer(seconds(1))

    with Driven(mistaken, known=KNOWN) as driven:
        assert [(type(event).__name__, getattr(event, "id", 0)) for event in driven.asked] == [
            ("EventSent", 1),
            ("TaskScheduled", 1),
            ("SubOrchestrationStarted", 1),
            ("TimerCreated", 1),
        ]


LARGE = "x" * 200

TOO_LARGE: list[Callable[[Any], object]] = [
    lambda ctx: ctx.call_activity(echo, LARGE),
    lambda ctx: ctx.call_sub_orchestrator("unknown", LARGE),
    lambda ctx: ctx.call_entity(EntityId("counter", "e"), "add", LARGE),
    lambda ctx: ctx.signal_entity(EntityId("counter", "e"), "add", LARGE),
    lambda ctx: ctx.entity(Counter, "e").call(Counter.add, 10**200),
    lambda ctx: ctx.entity(Counter, "e").signal(Counter.add, 10**200),
    lambda ctx: ctx.send_event("other", "go", LARGE),
    lambda ctx: ctx.set_custom_status(LARGE),
    lambda ctx: ctx.continue_as_new(LARGE),
]


@pytest.mark.parametrize("command", TOO_LARGE)
def test_trap_10_a_value_over_the_stores_limit_is_an_error_before_anything_is_asked_for(
    command: Callable[[OrchestrationContext], object],
) -> None:
    async def large(ctx: OrchestrationContext, text: str = "") -> None:
        command(ctx)

    with Driven(large, known=KNOWN, max_payload_bytes=100) as driven:
        assert driven.failure.type == "durable_core.errors.PayloadTooLargeError"
        assert driven.asked == []
        assert driven.turn.custom_status is None


def test_trap_10_a_result_over_the_stores_limit_fails_the_orchestration() -> None:
    async def large(ctx: OrchestrationContext) -> str:
        return LARGE

    with Driven(large, max_payload_bytes=100) as driven:
        assert driven.failure.type == "durable_core.errors.PayloadTooLargeError"
        assert "large" in driven.failure.message


# ── 11: a long history ────────────────────────────────────────────────────────────────────────────────────────────


def test_trap_11_cold_replay_yields_after_every_message() -> None:
    async def long(ctx: OrchestrationContext, n: int) -> int:
        for i in range(n):
            await ctx.call_activity(square, i)
        return n

    with Driven(long, 500, known=KNOWN) as live:
        for i in range(500):
            live.apply(completed(i + 1, i * i))
        assert live.result == 500
    again = Driven(long, known=KNOWN, start=False).execution
    replay = again.replay(iter(live.history))
    assert isinstance(replay, Generator)
    lengths = [again.history_length for _ in replay]
    assert len(lengths) == 501
    assert all(later - sooner <= 2 for sooner, later in pairwise(lengths)), "a slice is one message and its commands"
    assert again.ending == live.ending


def test_trap_11_a_replay_that_is_given_up_halfway_can_be_closed() -> None:
    async def two(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(square, 1)
        await ctx.call_activity(square, 2)

    with Driven(two, known=KNOWN) as live:
        live.apply(completed(1, 1))
    halfway = Driven(two, known=KNOWN, start=False).execution
    replay = halfway.replay(live.history)
    next(replay)
    assert halfway.replaying
    halfway.close()


def test_trap_11_the_step_limit_is_for_one_message_not_for_a_history() -> None:
    async def long(ctx: OrchestrationContext) -> int:
        for i in range(100):
            await ctx.call_activity(square, i)
        return 100

    limits = Limits(steps_per_turn=20)
    with Driven(long, known=KNOWN, limits=limits) as live:
        live.apply(*(completed(i + 1, 0) for i in range(100)))
        assert live.result == 100
    with Driven(long, known=KNOWN, limits=limits, history=live.history) as again:
        assert again.execution.problem is None
        assert again.result == 100


# ── all of them together ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_timeout_of_a_call_and_its_result_never_both_win() -> None:
    async def limited(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.call_activity(echo, "x", timeout=seconds(1))
        except TaskTimeoutError:
            return "late"

    with Driven(limited, known=KNOWN) as driven:
        driven.apply(fired(1, 1), completed(1, "x"))
        assert driven.result == "late"
        assert driven.asked == [CommandCancelled("task", 1)]


def test_a_failed_call_can_be_awaited_again() -> None:
    async def again(ctx: OrchestrationContext) -> list[str]:
        call, seen = ctx.call_activity(fail, "x"), []
        for _ in range(2):
            try:
                await call
            except TaskFailedError as error:
                seen.append(error.details.message)
        return seen

    with Driven(again, known=KNOWN) as driven:
        driven.apply(failed(1, message="x"))
        assert driven.result == ["x", "x"]


def test_logging_is_quiet_in_all_of_this(caplog: pytest.LogCaptureFixture) -> None:
    async def fine(ctx: OrchestrationContext) -> list[str]:
        return list(await asyncio.gather(*(ctx.call_activity(echo, str(i)) for i in range(3))))

    with caplog.at_level(logging.DEBUG), Driven(fine, known=KNOWN) as driven:
        driven.apply(completed(1, "a"), completed(2, "b"), completed(3, "c"))
        assert driven.result == ["a", "b", "c"]
    assert not caplog.records
