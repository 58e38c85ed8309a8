"""Waiting for several things: ``gather`` and ``TaskGroup`` by asyncio's rules, ``when_all`` and ``when_any`` by Durable Task's."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from durable_core.errors import TaskFailedError
from durable_core.events import CommandCancelled, ExecutionCompleted, TaskScheduled
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.fan_in import when_all, when_any
from tests.core.replay.driver import Driven, completed, failed, fired, raised
from tests.core.replay.programs import echo, fail, seconds, square

KNOWN = (square, echo, fail)


# ── gather ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gather_gives_results_in_argument_order() -> None:
    async def gathering(ctx: OrchestrationContext) -> list[int]:
        return list(await asyncio.gather(*(ctx.call_activity(square, i) for i in range(4))))

    with Driven(gathering, known=KNOWN) as driven:
        driven.apply(*(completed(i, i * 10) for i in (3, 1, 4, 2)))
        assert driven.result == [10, 20, 30, 40]


def test_gather_raises_the_first_failure_at_once_and_siblings_go_on() -> None:
    async def gathering(ctx: OrchestrationContext) -> list[Any]:
        calls = [ctx.call_activity(square, i) for i in range(3)]
        try:
            await asyncio.gather(*calls)
        except TaskFailedError as error:
            return [error.task_id, await calls[0]]
        return []

    with Driven(gathering, known=KNOWN) as driven:
        driven.apply(failed(2))
        assert driven.asked == [], "nothing is cancelled"
        driven.apply(failed(3), completed(1, 5))
        assert driven.result == [2, 5]


def test_gather_cancelled_cancels_all() -> None:
    async def gathering(ctx: OrchestrationContext) -> None:
        async with asyncio.timeout(1):
            await asyncio.gather(*(ctx.call_activity(square, i) for i in range(3)))

    with Driven(gathering, known=KNOWN) as driven:
        driven.apply(fired(1, 1))
        assert driven.asked == [CommandCancelled("task", i) for i in (1, 2, 3)]


def test_empty_fan_outs_work() -> None:
    async def nothing(ctx: OrchestrationContext) -> list[Any]:
        async with asyncio.TaskGroup():
            pass
        return [list(await asyncio.gather()), await when_all([]), list(asyncio.as_completed([]))]

    with Driven(nothing) as driven:
        assert driven.result == [[], [], []]
    with Driven(waits_for_any_of_nothing) as driven:
        assert driven.failure.type == "ValueError"


async def waits_for_any_of_nothing(ctx: OrchestrationContext) -> None:
    await when_any([])


def test_results_after_the_end_are_dropped() -> None:
    async def forgetting(ctx: OrchestrationContext) -> int:
        ctx.call_activity(square, 1)
        return 1

    with Driven(forgetting, known=KNOWN) as driven:
        assert driven.apply(completed(1, 1), failed(1)).events == ()


# ── TaskGroup ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_group_cancels_siblings_in_a_fixed_order_and_raises_a_group() -> None:
    async def grouping(ctx: OrchestrationContext) -> list[str]:
        caught = []
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    for i in range(5):
                        group.create_task(ctx.call_activity(square, i))
            except TaskFailedError:
                caught.append("as a bare failure")
        except* TaskFailedError as failures:
            caught += [f"call {error.task_id}" for error in failures.exceptions if isinstance(error, TaskFailedError)]
        return caught

    with Driven(grouping, known=KNOWN) as driven:
        driven.apply(failed(3))
        # Which order is a matter of the execution id's digest; that it is the same under every hash seed is told by test_hash_seeds.
        assert sorted(driven.asked, key=repr) == [CommandCancelled("task", i) for i in (1, 2, 4, 5)]
        assert driven.result == ["call 3"]


def test_a_failure_in_the_body_of_a_task_group_removes_what_was_scheduled() -> None:
    async def grouping(ctx: OrchestrationContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.call_activity(square, 1))
            await ctx.call_activity(fail, "x")

    with Driven(grouping, known=KNOWN) as driven:
        driven.apply(failed(2))
        assert driven.asked == [CommandCancelled("task", 1)]
        assert driven.failure.type == "ExceptionGroup"
        assert driven.failure.is_caused_by(ValueError)


# ── when_all ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_when_all_waits_for_every_task_and_raises_the_first_failure_in_argument_order() -> None:
    async def waiting(ctx: OrchestrationContext) -> list[Any]:
        try:
            await when_all([ctx.call_activity(square, i) for i in range(4)])
        except TaskFailedError as error:
            return [error.task_id, ctx.history_length]
        return []

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(failed(3), completed(1, 1))
        driven.apply(failed(2))
        assert driven.ending is None
        driven.apply(completed(4, 1))
        assert driven.result == [2, 9]


def test_when_all_looks_at_every_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Only one is raised; the others are neither warned of nor recorded as unawaited."""

    async def waiting(ctx: OrchestrationContext) -> str:
        async def falling(i: int) -> None:
            await ctx.call_activity(square, i)

        try:
            await when_all([falling(1), falling(2), ctx.call_activity(square, 3), ctx.call_activity(square, 4)])
        except TaskFailedError:
            pass
        return await ctx.call_activity(echo, "end")

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(failed(4), failed(3), failed(1), failed(2))
        gc.collect()
        driven.apply(completed(5, "end"))
        assert driven.ending == ExecutionCompleted('"end"', ())
    assert not caplog.records


def test_when_all_gives_a_list_for_an_iterable_and_a_tuple_for_several() -> None:
    async def waiting(ctx: OrchestrationContext) -> list[str]:
        one: Any = ctx.call_activity(square, 1)
        values: list[Any] = [await when_all([one]), await when_all(one, one), await when_all(iter([one, one])), await when_all(one)]
        return [repr(value) for value in values]

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(completed(1, 1))
        assert driven.result == ["[1]", "(1, 1)", "[1, 1]", "[1]"]


def test_when_all_takes_coroutines_and_tasks_and_starts_them_in_order() -> None:
    async def waiting(ctx: OrchestrationContext) -> list[Any]:
        async def one(i: int) -> int:
            return await ctx.call_activity(square, i)

        return await when_all([one(1), asyncio.create_task(one(2)), ctx.call_activity(square, 3), asyncio.gather(one(4))])

    with Driven(waiting, known=KNOWN) as driven:
        # The two that are tasks or futures already were made first.
        assert [event.input for event in driven.asked if isinstance(event, TaskScheduled)] == ["3", "2", "4", "1"]
        driven.apply(*(completed(i, i * 10) for i in (1, 2, 3, 4)))
        assert driven.result == [40, 20, 10, [30]]


def test_when_all_cancelled_cancels_all_and_a_cancelled_member_counts_as_a_failure() -> None:
    async def waiting(ctx: OrchestrationContext) -> str:
        calls = [ctx.call_activity(square, i) for i in range(2)]
        all_of_them = when_all(calls)
        await ctx.wait_for_external_event("go")
        all_of_them.cancel()
        single = ctx.call_activity(square, 9)
        member = when_all([single])
        single.cancel()
        try:
            await member
        except asyncio.CancelledError:
            return f"{calls[0].cancelled()} {calls[1].cancelled()} {member.cancelled()}"
        return "not raised"

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(raised("go"))
        assert [event for event in driven.asked if isinstance(event, CommandCancelled)] == [CommandCancelled("task", i) for i in (1, 2, 3)]
        assert driven.result == "True True False"


# ── when_any ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_when_any_gives_the_task_that_ended_first_and_cancels_none(caplog: pytest.LogCaptureFixture) -> None:
    async def waiting(ctx: OrchestrationContext) -> list[Any]:
        calls = [ctx.call_activity(square, i) for i in range(3)]
        first = await when_any(calls)
        again = await when_any(*calls)
        done = [call.done() for call in calls]
        return [calls.index(first), await first, again is first, done, await when_all(calls)]

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(completed(2, 7), completed(1, 1), completed(3, 9))
        assert driven.result == [1, 7, True, [False, True, False], [1, 7, 9]]
        assert driven.asked == []
    assert not caplog.records, "the second to end is not given again"


def test_when_any_gives_a_failed_task_without_raising() -> None:
    async def waiting(ctx: OrchestrationContext) -> str:
        first = await when_any(ctx.call_activity(fail, "x"), ctx.call_activity(echo, "y"))
        try:
            return await first
        except TaskFailedError as error:
            return f"failed: {error.details.message}"

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(failed(1, message="x"))
        assert driven.result == "failed: x"


def test_when_any_of_several_that_have_ended_gives_the_first_argument() -> None:
    async def waiting(ctx: OrchestrationContext) -> int:
        calls = [ctx.call_activity(square, i) for i in range(3)]
        await when_all(calls)
        return calls.index(await when_any(calls[1], calls[0], calls[2]))

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(*(completed(i, 1) for i in (3, 2, 1)))
        assert driven.result == 1


def test_when_any_cancelled_leaves_the_others_alone() -> None:
    async def waiting(ctx: OrchestrationContext) -> int:
        call = ctx.call_activity(square, 1)
        try:
            async with asyncio.timeout(1):
                await when_any(call)
        except TimeoutError:
            pass
        return await call

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(fired(1, 1))
        driven.apply(completed(1, 4))
        assert driven.result == 4


def test_when_any_of_a_call_and_a_timer() -> None:
    async def racing(ctx: OrchestrationContext) -> str:
        call, timer = ctx.call_activity(echo, "x"), ctx.create_timer(seconds(5))
        if await when_any(call, timer) is timer:
            return "too slow"
        timer.cancel()
        return await call

    for message, result in ((completed(1, "x"), "x"), (fired(1, 5), "too slow")):
        with Driven(racing, known=KNOWN) as driven:
            driven.apply(message)
            assert driven.result == result


# ── a semaphore limits what is scheduled ──────────────────────────────────────────────────────────────────────────


def test_a_semaphore_wakes_first_in_first_out() -> None:
    async def limited(ctx: OrchestrationContext) -> None:
        limit = asyncio.Semaphore(2)

        async def one(i: int) -> None:
            async with limit:
                await ctx.call_activity(square, i)

        await asyncio.gather(*(one(i) for i in range(5)))

    with Driven(limited, known=KNOWN) as driven:
        scheduled = [event.input for event in driven.asked if isinstance(event, TaskScheduled)]
        for id in (2, 1, 3, 4, 5):
            driven.apply(completed(id, 0))
            scheduled += [event.input for event in driven.asked if isinstance(event, TaskScheduled)]
        assert scheduled == ["0", "1", "2", "3", "4"]
        assert isinstance(driven.ending, ExecutionCompleted)
