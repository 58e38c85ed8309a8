"""Operations and activities that end in what is no ``Exception``: a failure like any other, that hangs nobody and ends no host."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable_core import EntityId, OrchestrationContext, TaskFailedError, activity, entity, orchestrator
from tests.runtime.support import PATIENCE, engine_with, until


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancels_its_task() -> None:
    own_task().cancel()
    await asyncio.sleep(10)


async def is_cancelled_by_a_task_of_its_own() -> None:
    task = own_task()

    async def helper() -> None:
        task.cancel()

    helping = asyncio.create_task(helper())
    await asyncio.sleep(10)
    await helping


async def awaits_what_is_cancelled() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


class Own(BaseException):
    pass


def raises(error: type[BaseException]) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


SYNC: dict[str, Callable[[], Any]] = {
    "SystemExit": lambda: sys.exit(2),
    "CancelledError": raises(asyncio.CancelledError),
    "GeneratorExit": raises(GeneratorExit),
    "StopIteration": raises(StopIteration),
    "StopAsyncIteration": raises(StopAsyncIteration),
    "Own": raises(Own),
}
ON_THE_LOOP: dict[str, Callable[[], Any]] = {
    **SYNC,
    "cancels its task": cancels_its_task,
    "is cancelled by a task of its own": is_cancelled_by_a_task_of_its_own,
    "awaits what is cancelled": awaits_what_is_cancelled,
}
IN_A_THREAD: dict[str, Callable[[], Any]] = {**SYNC, "KeyboardInterrupt": raises(KeyboardInterrupt)}


@entity
class Rough:
    served: int = 0

    async def end(self, how: str) -> None:
        self.served = 100
        if awaitable := ON_THE_LOOP[how]():
            await awaitable

    def end_in_a_thread(self, how: str) -> None:
        self.served = 100
        IN_A_THREAD[how]()

    async def cancel_and_return(self) -> int:
        own_task().cancel()
        self.served += 1
        return self.served

    async def serve(self) -> int:
        await asyncio.sleep(0)
        self.served += 1
        return self.served


@activity
async def end(how: str) -> None:
    if awaitable := ON_THE_LOOP[how]():
        await awaitable


@activity
def end_in_a_thread(how: str) -> None:
    IN_A_THREAD[how]()


@activity(executor="process")
def exit_in_a_process() -> None:
    sys.exit(2)


@activity
async def cancel_and_return() -> str:
    own_task().cancel()
    return "done"


@orchestrator
async def call_entities(ctx: OrchestrationContext, operation: str, ways: list[str]) -> list[Any]:
    async def one(how: str) -> list[Any]:
        rough = EntityId("rough", how)
        try:
            await ctx.call_entity(rough, operation, how)
        except TaskFailedError as error:
            return [how, error.details.type.rpartition(".")[2], await ctx.call_entity(rough, "serve")]
        raise AssertionError("it should have failed")

    return await asyncio.gather(*map(one, ways))


@orchestrator
async def call_activities(ctx: OrchestrationContext, name: str, ways: list[str]) -> list[Any]:
    async def one(how: str) -> list[str]:
        try:
            return [how, await ctx.call_activity(name, *([how] if how else []))]
        except TaskFailedError as error:
            return [how, error.details.type.rpartition(".")[2]]

    return await asyncio.gather(*map(one, ways))


@orchestrator
async def both(ctx: OrchestrationContext) -> list[int]:
    rough = ctx.entity(Rough, "k")
    calls = [rough.call(Rough.cancel_and_return), rough.call(Rough.serve), rough.call(Rough.serve)]
    return [await call for call in calls]


DEFINITIONS = (Rough, end, end_in_a_thread, exit_in_a_process, cancel_and_return, call_entities, call_activities, both)
WAYS = {"end": ON_THE_LOOP, "end_in_a_thread": IN_A_THREAD}


def told(how: str) -> set[str]:
    """The type of the failure. A coroutine cannot raise a StopIteration."""
    if how.startswith("Stop"):
        return {how, "RuntimeError"}
    return {how} if how in IN_A_THREAD else {"CancelledError"}


def play(url: str, run: Any, fn: Any, *args: Any) -> Any:
    engine = engine_with(*DEFINITIONS)

    async def main() -> Any:
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(fn, *args)).result(PATIENCE)

    return run(main)


@pytest.mark.parametrize("name", list(WAYS))
def test_whatever_an_operation_ends_in_is_its_failure(url, run, name):
    """And it is rolled back, and the entity serves the next one."""
    ended = play(url, run, call_entities, name, list(WAYS[name]))
    kinds = {how: kind for how, kind, served in ended if served == 1}
    assert kinds.keys() == WAYS[name].keys()
    assert all(kind in told(how) for how, kind in kinds.items()), kinds


@pytest.mark.parametrize("name", list(WAYS))
def test_whatever_an_activity_ends_in_is_its_failure(url, run, name):
    kinds = dict(play(url, run, call_activities, name, list(WAYS[name])))
    assert all(kind in told(how) for how, kind in kinds.items()), kinds


def test_an_activity_that_exits_its_process_in_order_fails(url, run):
    assert play(url, run, call_activities, "exit_in_a_process", [""]) == [["", "SystemExit"]]


def test_a_cancellation_that_nobody_waited_for_hits_no_other_operation(url, run):
    assert play(url, run, both) == [1, 2, 3]


def test_an_activity_that_cancels_its_task_and_returns_has_returned(url, run):
    assert play(url, run, call_activities, "cancel_and_return", [""]) == [["", "done"]]


begun = threading.Event()
finishing = threading.Event()


@entity
class Slow:
    async def work(self) -> str:
        begun.set()
        await asyncio.sleep(0 if finishing.is_set() else 60)
        return "done"


@activity
async def work() -> str:
    begun.set()
    await asyncio.sleep(0 if finishing.is_set() else 60)
    return "done"


@orchestrator
async def working(ctx: OrchestrationContext, what: str) -> str:
    if what == "activity":
        return await ctx.call_activity(work)
    return await ctx.entity(Slow, "k").call(Slow.work)


@pytest.mark.parametrize("how", ["it closes", "the loop ends", "everything is cancelled"])
@pytest.mark.parametrize("what", ["activity", "entity"])
def test_what_the_end_of_the_worker_cuts_off_runs_again(tmp_path, what, how):
    """It is nobody's failure."""
    begun.clear()
    finishing.clear()
    engine = engine_with(Slow, work, working, drain_s=0.01)
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def host(closing: asyncio.Event) -> None:
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(working, what, instance_id="i")
            await closing.wait()

    async def begin() -> None:
        closing = asyncio.Event()
        hosting = asyncio.create_task(host(closing))
        await until(begun.is_set)
        if how == "it closes":
            closing.set()
            await hosting
        elif how == "everything is cancelled":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait([hosting])

    async def finish() -> Any:
        async with engine.open(url):
            state = await engine.client.get_instance("i")
            assert state is not None
            assert not state.is_ended
            finishing.set()
            return (await engine.client.wait_for_completion("i", PATIENCE)).output_as(str)

    asyncio.run(begin())
    finishing.set()
    assert asyncio.run(finish()) == "done"
