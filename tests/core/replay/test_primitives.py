"""The primitives of asyncio that are ours on our loop: found under every name that they have, the same on every Python, and asyncio's elsewhere.

These run on every Python that the machine has (``make matrix``), and say the same on all of them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable_core.errors import TaskFailedError
from durable_core.events import CommandCancelled, TaskScheduled, TimerCreated
from durable_core.replay import primitives, synchronisation
from durable_core.replay.context import OrchestrationContext
from tests.core.replay.driver import Driven, completed, failed, fired, raised
from tests.core.replay.programs import echo, fail, square

KNOWN = (square, echo, fail)
PROJECT = Path(__file__).resolve().parents[3]


def inputs(driven: Driven) -> list[str | None]:
    return [command.input for command in driven.asked if isinstance(command, TaskScheduled)]


def result_of(fn: Any, *messages: Any) -> Any:
    with Driven(fn, known=KNOWN) as driven:
        for message in messages:
            driven.apply(message)
        return driven.result


# ── where they are found ──────────────────────────────────────────────────────────────────────────────────────────

EARLY = """
from asyncio import Condition, Semaphore, TaskGroup, as_completed, create_task, gather, run, sleep

async def kinds():
    completing = as_completed([create_task(sleep(0))])
    for one in completing:
        await one
    outer = gather(sleep(0))
    await outer
    return [type(each).__module__ for each in (outer, completing, TaskGroup(), Semaphore(), Condition())]

from tests.core.replay.driver import Driven

async def ours(ctx):
    return await kinds()

print(*Driven(ours).result)
print(*run(kinds()))
"""


def test_names_that_were_imported_before_the_engine_lead_to_ours_too() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run([sys.executable, "-c", EARLY], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    inside, outside = ended.stdout.splitlines()
    assert inside == " ".join([primitives.__name__] * 2 + [synchronisation.__name__] * 3)
    assert "durable_core" not in outside


def test_on_another_loop_everything_is_asyncios() -> None:
    async def orchestrated(ctx: OrchestrationContext) -> None:
        pass

    Driven(orchestrated).execution.close()  # ours are in place now

    async def elsewhere() -> None:
        assert type(asyncio.TaskGroup()) is asyncio.TaskGroup
        assert type(asyncio.Semaphore()) is asyncio.Semaphore
        assert type(asyncio.Condition()) is asyncio.Condition
        outer = asyncio.gather(asyncio.sleep(0, "a"), asyncio.sleep(0, "b"))
        assert not isinstance(outer, primitives.Gathering)
        assert list(await outer) == ["a", "b"]
        assert await asyncio.wait_for(asyncio.sleep(0, "c"), timeout=5) == "c"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), timeout=0)
        assert sorted([await each for each in asyncio.as_completed([asyncio.sleep(0, 1), asyncio.sleep(0, 2)], timeout=5)]) == [1, 2]

    asyncio.run(elsewhere())


def test_a_class_of_the_users_has_ours_below_it() -> None:
    class Counting(asyncio.TaskGroup):
        made = 0

        def create_task(self, *args: Any, **kwargs: Any) -> Any:
            Counting.made += 1
            return super().create_task(*args, **kwargs)

    async def counted(ctx: OrchestrationContext) -> list[Any]:
        async with Counting() as group:
            task = group.create_task(asyncio.sleep(0, "x"))
        bounded = asyncio.BoundedSemaphore(1)
        try:
            bounded.release()
        except ValueError as error:
            return [task.result(), isinstance(group, synchronisation.TaskGroup), isinstance(bounded, synchronisation.Semaphore), str(error)]
        return []

    assert result_of(counted) == ["x", True, True, "BoundedSemaphore released too many times"]
    assert Counting.made == 1


# ── wait_for ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wait_for_runs_a_coroutine_in_the_task_that_waits() -> None:
    """Until 3.11 asyncio's makes a task of it, and the second call goes first."""

    async def quote(ctx: OrchestrationContext) -> list[str]:
        async def price(currency: str) -> str:
            return await ctx.call_activity(echo, currency)

        return list(await asyncio.gather(asyncio.wait_for(price("EUR"), 600), price("USD")))

    with Driven(quote, known=KNOWN) as driven:
        assert inputs(driven) == ['"EUR"', '"USD"']
        driven.apply(completed(1, "EUR"), completed(2, "USD"))
        assert driven.result == ["EUR", "USD"]


def test_wait_for_without_any_time() -> None:
    async def impatient(ctx: OrchestrationContext) -> list[str]:
        begun = []

        async def begin() -> None:
            begun.append("begun")

        loop = asyncio.get_running_loop()
        done = loop.create_future()
        done.set_result("done")
        log = [await asyncio.wait_for(done, 0)]
        for awaitable in (begin(), loop.create_future(), ctx.call_activity(echo, "x")):
            try:
                await asyncio.wait_for(awaitable, -1)
            except TimeoutError as error:
                log.append(type(error.__cause__).__name__)
        return [*log, *begun, await asyncio.wait_for(asyncio.sleep(0, "no limit"), None)]

    assert result_of(impatient) == ["done", "CancelledError", "CancelledError", "CancelledError", "no limit"]


def test_wait_for_gives_up_what_takes_too_long() -> None:
    async def late(ctx: OrchestrationContext) -> str:
        try:
            return await asyncio.wait_for(ctx.call_activity(echo, "x"), 5)
        except TimeoutError:
            return "late"

    with Driven(late, known=KNOWN) as driven:
        assert TimerCreated(1, driven.execution.loop.now_us + 5_000_000) in driven.asked
        driven.apply(fired(1, 5))
        assert CommandCancelled("task", 1) in driven.asked
        assert driven.result == "late"


# ── gather ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gather_of_what_has_ended_takes_no_step() -> None:
    """Until 3.11 asyncio's takes one to see it."""

    async def gathers(ctx: OrchestrationContext) -> list[Any]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(1)
        empty: Any = asyncio.gather()
        all_done = asyncio.gather(done, done)
        log: list[Any] = [empty.done(), all_done.done()]
        return [*log, await empty, await all_done]

    assert result_of(gathers) == [True, True, [], [1, 1]]


def test_a_gather_fails_with_the_first_failure_and_looks_at_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def gathers(ctx: OrchestrationContext) -> list[Any]:
        calls = [ctx.call_activity(fail, name) for name in "ab"]
        log: list[Any] = []
        try:
            await asyncio.gather(*calls)
        except TaskFailedError as error:
            log.append(error.details.message)
        outcomes = await asyncio.gather(*calls, ctx.call_activity(echo, "c"), return_exceptions=True)
        return log + [getattr(getattr(each, "details", None), "message", each) for each in outcomes]

    assert result_of(gathers, failed(2, message="b"), failed(1, message="a"), completed(3, "c")) == ["b", "a", "b", "c"]
    assert not caplog.records


def test_to_cancel_a_gather_is_to_cancel_its_members() -> None:
    async def gathers(ctx: OrchestrationContext) -> list[Any]:
        outer = asyncio.gather(ctx.call_activity(echo, "a"), ctx.call_activity(echo, "b"), return_exceptions=True)
        log: list[Any] = [outer.cancel("enough"), outer.done()]
        try:
            await outer
        except asyncio.CancelledError as error:
            log.append(str(error))
        return [*log, outer.cancel()]

    assert result_of(gathers) == [True, False, "enough", False]


def test_a_cancelled_member_is_a_failure() -> None:
    async def gathers(ctx: OrchestrationContext) -> list[str]:
        call = ctx.call_activity(echo, "a")
        outer, outcomes = asyncio.gather(call), asyncio.gather(call, return_exceptions=True)
        call.cancel()
        try:
            await outer
        except asyncio.CancelledError:
            return [type(each).__name__ for each in await outcomes]
        return []

    assert result_of(gathers) == ["CancelledError"]


# ── as_completed ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_as_completed_begins_at_once_and_gives_the_futures_themselves_to_async_for() -> None:
    """Until 3.12 asyncio's begins with the first ``next``, and knows no ``async for``."""

    async def with_timer(ctx: OrchestrationContext) -> list[Any]:
        calls = {ctx.call_activity(echo, name): name for name in "abc"}
        ended: Any = asyncio.as_completed(calls, timeout=5)
        await ctx.wait_for_external_event("go")
        return [calls[call] async for call in ended]

    with Driven(with_timer, known=KNOWN) as driven:
        assert [type(command) for command in driven.asked] == [TaskScheduled] * 3 + [TimerCreated]
        driven.apply(completed(3, "c"), completed(1, "a"), raised("go"), completed(2, "b"))
        assert CommandCancelled("timer", 1) in driven.asked
        assert driven.result == ["c", "a", "b"]


def test_as_completed_has_a_limit() -> None:
    async def completing(ctx: OrchestrationContext) -> list[str]:
        log = []
        for one in asyncio.as_completed([ctx.call_activity(echo, name) for name in "ab"], timeout=5):
            try:
                log.append(await one)
            except TimeoutError:
                log.append("late")
        return log

    assert result_of(completing, completed(2, "b"), fired(1, 5)) == ["b", "late"]


def test_as_completed_takes_no_single_awaitable() -> None:
    async def completing(ctx: OrchestrationContext) -> str:
        try:
            asyncio.as_completed(ctx.call_activity(echo, "a"))  # type: ignore[arg-type]
        except TypeError as error:
            return str(error)
        return ""

    assert result_of(completing) == "as_completed takes an iterable of awaitables, not DurableTask"


# ── TaskGroup ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_group_whose_member_fails_leaves_its_task_uncancelled() -> None:
    """Until 3.12 asyncio's counts it as cancelled, and the timeout around it raises ``CancelledError``."""

    async def grouped(ctx: OrchestrationContext) -> list[Any]:
        log: list[Any] = []
        try:
            async with asyncio.timeout(5):
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(ctx.call_activity(fail, "a"))
                        group.create_task(ctx.call_activity(echo, "b"))
                except* TaskFailedError:
                    current = asyncio.current_task()
                    log.append(current.cancelling() if current else None)
                await ctx.call_activity(echo, "c")
        except TimeoutError:
            log.append("late")
        return log

    assert result_of(grouped, failed(1), fired(1, 5)) == [0, "late"]


def test_a_cancellation_from_outside_is_not_lost_in_a_groups_failure() -> None:
    """Until 3.12 asyncio's forgets the timeout when a member fails while it is cancelled for it."""

    async def grouped(ctx: OrchestrationContext) -> list[str]:
        async def resists() -> None:
            try:
                await ctx.call_activity(echo, "a")
            finally:
                raise KeyError("in the end")

        log = []
        try:
            async with asyncio.timeout(5):
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(resists())
                except* KeyError:
                    log.append("failed")
                await ctx.call_activity(echo, "never answered")
        except TimeoutError:
            log.append("late")
        await asyncio.sleep(0)  # and it is over then
        return log

    assert result_of(grouped, fired(1, 5)) == ["failed", "late"]


def test_a_groups_failure_that_leaves_the_timeout_takes_its_cancellation_with_it() -> None:
    async def grouped(ctx: OrchestrationContext) -> list[str]:
        async def resists() -> None:
            try:
                await ctx.call_activity(echo, "a")
            finally:
                raise KeyError("in the end")

        try:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(resists())
        except* KeyError:
            pass
        return [await ctx.call_activity(echo, "b")]

    assert result_of(grouped, fired(1, 5), completed(2, "b")) == ["b"]


def test_a_task_that_cancels_itself_is_cancelled_also_if_it_takes_that_back() -> None:
    """Since 3.13 asyncio's ``uncancel`` takes it back; older ones cannot."""

    async def itself(ctx: OrchestrationContext) -> list[Any]:
        current: Any = asyncio.current_task()
        current.cancel()
        log = [current.cancelling(), current.uncancel(), current.uncancel()]
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return [*log, "cancelled"]
        return log

    assert result_of(itself) == [1, 0, 0, "cancelled"]


# ── Semaphore, Condition ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_semaphore_lets_nobody_wait_for_whom_there_is_room() -> None:
    async def shared(ctx: OrchestrationContext) -> list[str]:
        semaphore, log = asyncio.Semaphore(0), list[str]()

        async def enter(name: str) -> None:
            async with semaphore:
                log.append(name)

        tasks = [asyncio.create_task(enter(name)) for name in "abcd"]
        await asyncio.sleep(0)
        semaphore.release()
        tasks[0].cancel()  # it was its turn
        tasks[1].cancel()  # it was not
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log.append(f"{semaphore.locked()}")
        await asyncio.wait(tasks)
        return [*log, f"{semaphore.locked()}"]

    assert result_of(shared) == ["c", "True", "d", "False"]


def test_a_notification_that_reaches_somebody_cancelled_is_passed_on() -> None:
    """Until 3.12 asyncio's drops it, and ``b`` waits for ever."""

    async def notified(ctx: OrchestrationContext) -> list[str]:
        condition, log = asyncio.Condition(), list[str]()

        async def wait(name: str) -> None:
            async with condition:
                await condition.wait()
                log.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in "ab"]
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
            tasks[0].cancel()
        await asyncio.wait(tasks)
        async with condition:
            waiting = asyncio.create_task(wait("c"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        async with condition:
            condition.notify_all()
        await waiting
        try:
            condition.notify()
        except RuntimeError as error:
            log.append(str(error))
        return log

    assert result_of(notified) == ["b", "c", "cannot notify on un-acquired lock"]
