"""anyio in an orchestrator: httpx, starlette and others are made of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
import pytest

from durable_core import InstanceStatus, OrchestrationContext, activity, orchestrator
from durable_core.events import Event, ExecutionCompleted, MessageEvent
from tests.core.replay.driver import Driven, completed, fired
from tests.core.replay.programs import KNOWN, echo
from tests.runtime.support import PATIENCE, engine_with, until_status


async def group(ctx: OrchestrationContext) -> list[str]:
    found: list[str] = []

    async def one(name: str) -> None:
        found.append(await ctx.call_activity(echo, name))

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(one, name)
    return found


async def started(ctx: OrchestrationContext) -> str:
    async def service(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        task_status.started(await ctx.call_activity(echo, "ready"))
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        said: str = await tasks.start(service)
        tasks.cancel_scope.cancel()
    return said


async def limited(ctx: OrchestrationContext) -> list[Any]:
    with anyio.move_on_after(3) as scope:
        await ctx.call_activity(echo, "slow")
    try:
        with anyio.fail_after(3):
            await anyio.sleep(60)
    except TimeoutError:
        return [scope.cancelled_caught, anyio.current_time()]
    return []


async def shielded(ctx: OrchestrationContext) -> str:
    said = ""
    with anyio.move_on_after(3):
        try:
            await ctx.call_activity(echo, "slow")
        finally:
            with anyio.CancelScope(shield=True):
                said = await ctx.call_activity(echo, "cleaned")
    return said


async def primitives(ctx: OrchestrationContext) -> list[int]:
    event, lock, semaphore, limiter = anyio.Event(), anyio.Lock(), anyio.Semaphore(1), anyio.CapacityLimiter(1)
    condition = anyio.Condition()
    send, receive = anyio.create_memory_object_stream[int](1)
    got: list[int] = []

    async def reading() -> None:
        async with receive:
            async for number in receive:
                got.append(number)  # noqa: PERF401
        event.set()
        async with condition:
            condition.notify_all()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reading)
        async with send:
            for number in range(3):
                async with lock, semaphore, limiter:
                    await ctx.call_activity(echo, str(number))
                    await send.send(number)
        await event.wait()
    return got


PROGRAMS: dict[Callable[..., Any], tuple[list[Any], Any]] = {
    group: ([completed(2, "b"), completed(1, "a"), completed(3, "c")], ["b", "a", "c"]),
    started: ([completed(1, "ready")], "ready"),
    limited: ([fired(1, 3), fired(2, 6)], [True, 6.0]),
    shielded: ([fired(1, 3), completed(2, "cleaned")], "cleaned"),
    primitives: ([completed(1, "0"), completed(2, "1"), completed(3, "2")], [0, 1, 2]),
}


def replayed(program: Callable[..., Any], history: list[Event]) -> None:
    for length in [index for index, event in enumerate(history) if index and isinstance(event, MessageEvent)]:
        with Driven(program, known=KNOWN, start=False) as again:
            list(again.execution.replay(history[:length]))
            assert again.execution.problem is None


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_anyio_works_in_an_orchestrator_and_on_every_replay(program, caplog):
    messages, result = PROGRAMS[program]
    with Driven(program, known=KNOWN) as driven:
        for message in messages:
            driven.apply(message)
        assert driven.result == result
    replayed(program, driven.history)
    with Driven(program, known=KNOWN):
        pass  # closed half-way
    assert not caplog.records


def test_cancel_scopes_are_cancelled_in_the_order_of_their_making():
    """They sit in a set, and sets of ordinary objects iterate by address."""
    order: list[int] = []

    async def cancelling(ctx: OrchestrationContext) -> None:
        async def one(number: int) -> None:
            with anyio.CancelScope():
                try:
                    await ctx.call_activity(echo, str(number))
                finally:
                    order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, number)
            await ctx.call_activity(echo, "go")
            tasks.cancel_scope.cancel()

    with Driven(cancelling, known=KNOWN) as driven:
        go = next(event for event in driven.history if getattr(event, "input", None) == '"go"')
        driven.apply(completed(go.id, "go"))  # type: ignore[attr-defined]
        assert isinstance(driven.ending, ExecutionCompleted)
    assert order == list(range(100))


@pytest.mark.parametrize(
    "leaving",
    [
        lambda: anyio.to_thread.run_sync(print),
        lambda: anyio.to_process.run_sync(print),
        lambda: anyio.open_file("x"),
        lambda: anyio.Path("x").exists(),
        lambda: anyio.run_process([sys.executable, "-V"]),
    ],
)
def test_what_leaves_the_loop_by_anyio_is_refused_with_its_line(leaving):
    async def leave(ctx: OrchestrationContext) -> None:
        await leaving()

    with Driven(leave, known=KNOWN) as driven:
        [*_, failure] = driven.failure.chain()
        assert failure.type == "durable_core.errors.ForbiddenInOrchestratorError"
        assert "test_anyio.py" in failure.message
        assert "activity" in failure.message


def test_elsewhere_anyio_is_untouched(run):
    async def main() -> None:
        assert await anyio.to_thread.run_sync(lambda: 1) == 1
        with anyio.CancelScope() as scope:  # noqa: ASYNC100
            assert type(scope._child_scopes) is set  # type: ignore[attr-defined]

    run(main)


@activity
async def double(n: int) -> int:
    return 2 * n


@orchestrator
async def doubling(ctx: OrchestrationContext) -> list[int]:
    found: list[int] = []

    async def one(n: int) -> None:
        found.append(await ctx.call_activity(double, n))

    with anyio.fail_after(3600):
        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(one, n)
    await ctx.wait_for_external_event("go")
    return sorted(found)


def test_a_task_group_survives_a_restart(run, url):
    async def main() -> None:
        async with engine_with(double, doubling).open(url) as engine:
            await engine.client.schedule_new_orchestration(doubling, instance_id="one")
            await until_status(engine.client, "one", InstanceStatus.RUNNING)
            await asyncio.sleep(0)
        async with engine_with(double, doubling).open(url) as engine:
            await engine.client.raise_event("one", "go")
            assert await engine.client.get_handle(doubling, "one").result(PATIENCE) == [0, 2, 4, 6, 8]

    if not url.startswith("memory"):
        run(main)


def test_the_engine_does_not_import_anyio():
    code = "import sys, durable_core; sys.exit('anyio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
