"""``when_all`` and ``when_any``: Durable Task's two ways to wait for several tasks, beside asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar, overload

from durable_core.errors import OutsideOrchestratorError
from durable_core.replay.futures import DurableTask, orchestrators_loop
from durable_core.replay.loop import DeterministicLoop

T = TypeVar("T")
T2 = TypeVar("T2")
T3 = TypeVar("T3")


def _futures(tasks: tuple[Any, ...], name: str) -> tuple[DeterministicLoop, list[Any]]:
    loop = orchestrators_loop()
    if loop is None:
        raise OutsideOrchestratorError(f"{name} works inside an orchestrator; elsewhere use asyncio.gather or asyncio.wait")
    if len(tasks) == 1 and not hasattr(tasks[0], "__await__"):
        tasks = tuple(tasks[0])
    return loop, [task if hasattr(task, "add_done_callback") else loop.create_task(task) for task in tasks]


@overload
def when_all(first: Awaitable[T], second: Awaitable[T2], /) -> DurableTask[tuple[T, T2]]: ...
@overload
def when_all(first: Awaitable[T], second: Awaitable[T2], third: Awaitable[T3], /) -> DurableTask[tuple[T, T2, T3]]: ...
@overload
def when_all(tasks: Iterable[Awaitable[T]], /) -> DurableTask[list[T]]: ...
def when_all(*tasks: Any) -> Any:
    """Wait for *every* task, then give their results in argument order, or raise the first failure in argument order.

    Unlike ``asyncio.gather``, which raises as soon as one fails while the others go on. An iterable gives a list, several arguments a
    tuple.
    """
    as_tuple = len(tasks) > 1
    loop, futures = _futures(tasks, "when_all")
    left = len(futures)

    def cancel_all(_outer: Any) -> None:
        for future in futures:
            future.cancel()

    outer: DurableTask[Any] = DurableTask(loop, "when_all", on_cancel=cancel_all)

    def finish() -> None:
        try:
            results = [future.result() for future in futures]
        except (Exception, asyncio.CancelledError) as error:  # the first, in argument order
            outer.set_exception(error)
        else:
            outer.set_result(tuple(results) if as_tuple else results)

    def one_done(future: Any) -> None:
        nonlocal left
        left -= 1
        if not future.cancelled():
            future.exception()  # counts as looked at: only the first failure is raised, the others are not unawaited
        if left == 0 and not outer.done():
            finish()

    for future in futures:
        future.add_done_callback(one_done)
    if not futures:
        finish()
    return outer


@overload
def when_any(*tasks: DurableTask[T]) -> DurableTask[DurableTask[T]]: ...
@overload
def when_any(tasks: Iterable[DurableTask[T]], /) -> DurableTask[DurableTask[T]]: ...
@overload
def when_any(*tasks: DurableTask[Any]) -> DurableTask[DurableTask[Any]]: ...  # of different types: a call and a timer
def when_any(*tasks: Any) -> Any:
    """Wait for the task that ends first, and give that *task*, failed or not: await it for its result. The others go on."""
    loop, futures = _futures(tasks, "when_any")
    if not futures:
        raise ValueError("when_any of nothing would wait for ever")
    outer: DurableTask[Any] = DurableTask(loop, "when_any")
    for future in futures:
        future.add_done_callback(outer.succeed)
    return outer
