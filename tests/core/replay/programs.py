"""Orchestrators that use all of asyncio and all of the context, each with the world that it needs. ``PROGRAMS`` lists them.

They are written to be sensitive: what they ask for next depends on the order in which things woke up, on the iteration order of sets, and
on what was cancelled when.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from durable_core.definitions.activity import ActivityContext, activity
from durable_core.definitions.entity import EntityId, entity
from durable_core.definitions.orchestrator import orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import TaskFailedError, TaskTimeoutError
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.fan_in import when_all, when_any
from durable_core.retry import RetryContext, RetryPolicy
from tests.core.replay.driver import Program, registry_of


@activity
def square(x: int) -> int:
    return x * x


@activity
async def echo(text: str) -> str:
    return text


@activity
def fail(message: str) -> str:
    raise ValueError(message)


@activity
def flaky(info: ActivityContext, failures: int, value: str) -> str:
    """In these tests ``attempt`` is the attempt of the retry policy: the world delivers each task once."""
    if info.attempt <= failures:
        raise ConnectionError(f"attempt {info.attempt}")
    return value


@entity
class Counter:
    value: int = 0

    def add(self, by: int) -> int:
        self.value += by
        return self.value

    def get(self) -> int:
        return self.value

    def refuse(self) -> int:
        raise PermissionError("no")


@orchestrator
async def child(ctx: OrchestrationContext, x: int) -> int:
    raise AssertionError("children are answered by the world")


KNOWN = (square, echo, fail, flaky, Counter, child)

PROGRAMS: dict[str, Program] = {}


def program(
    *args: Any, events: tuple[tuple[float, str, Any], ...] = (), children: dict[str, Callable[..., Any]] | None = None
) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Program]:
    def register(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Program:
        definition = orchestrator(fn)
        made = PROGRAMS[definition.name] = Program(definition, registry(definition), args, events, children or {})
        return made

    return register


def registry(definition: Any) -> Registry:
    return registry_of(definition, *KNOWN)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# ── asyncio ───────────────────────────────────────────────────────────────────────────────────────────────────────


@program(6)
async def gather_then_more(ctx: OrchestrationContext, n: int) -> list[Any]:
    async def one(i: int) -> int:
        first = await ctx.call_activity(square, i)
        return await ctx.call_activity(square, first)

    values = await asyncio.gather(*(one(i) for i in range(n)))
    mixed = await asyncio.gather(ctx.call_activity(fail, "a"), ctx.call_activity(echo, "b"), one(3), return_exceptions=True)
    return [values, [str(value) for value in mixed]]


@program()
async def gather_fails_and_siblings_go_on(ctx: OrchestrationContext) -> list[str]:
    seen: list[str] = []

    async def slow(name: str) -> None:
        await asyncio.sleep(2)
        seen.append(await ctx.call_activity(echo, name))

    with_failure = asyncio.gather(ctx.call_activity(fail, "x"), slow("a"), slow("b"))
    try:
        await with_failure
    except TaskFailedError as failure:
        seen.append(failure.details.message)
    await asyncio.sleep(6)
    return seen


@program()
async def wait_first_completed(ctx: OrchestrationContext) -> list[str]:
    pending: set[asyncio.Future[str]] = {ctx.call_activity(echo, f"call {i}") for i in range(5)}
    order: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            order.append(task.result())
            await ctx.call_activity(echo, f"after {task.result()}")
        if len(order) >= 3:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending) if pending else None
            break
    return order


@program()
async def wait_returns_sets(ctx: OrchestrationContext) -> list[str]:
    """What is asked for next follows the iteration order of both sets."""

    async def two(i: int) -> str:
        await asyncio.sleep(i % 3)
        return await ctx.call_activity(echo, f"{i}")

    tasks = [asyncio.create_task(two(i)) for i in range(9)]
    done, pending = await asyncio.wait(tasks, timeout=2.5)
    for task in done:
        await ctx.call_activity(echo, f"done {task.result()}")
    for task in pending:
        ctx.call_activity(echo, f"late {task.get_name()}")
    done, _ = await asyncio.wait(tasks)
    return [task.result() for task in done]


@program()
async def gathers_in_a_set(ctx: OrchestrationContext) -> list[str]:
    """``gather`` makes its outer future itself; here their order decides."""
    pending = {asyncio.gather(ctx.call_activity(echo, f"{i}"), ctx.call_activity(square, i)) for i in range(7)}
    order: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for group in done:
            order.append(group.result()[0])
            await ctx.call_activity(echo, f"after {order[-1]}")
        for group in pending:
            ctx.call_activity(echo, f"still {len(order)} {group.done()}")
    return order


@program()
async def wait_for_in_a_fan_out(ctx: OrchestrationContext) -> list[str]:
    async def one(i: int) -> str:
        try:
            return await asyncio.wait_for(ctx.call_activity(echo, f"{i}"), 0.4 * i)
        except TimeoutError:
            return await ctx.call_activity(echo, f"late {i}")

    return list(await asyncio.gather(*(one(i) for i in range(6))))


@program()
async def wait_for_over_coroutines(ctx: OrchestrationContext) -> list[str]:
    """3.11 makes a task of each, 3.12 awaits it in place: calls and timers are asked for in another order, each kind in the same."""

    async def one(i: int) -> str:
        first = await ctx.call_activity(echo, f"{i}")
        await asyncio.sleep(0.1)
        return await ctx.call_activity(echo, f"{first} again")

    results = await asyncio.gather(*(asyncio.wait_for(one(i), 0.7 * i) for i in range(1, 6)), return_exceptions=True)
    return [str(result) or type(result).__name__ for result in results]


@program()
async def timeouts_nested(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []
    for outer, inner in ((1, 2), (2, 1), (0, 1), (3, 3), (5, 0)):
        try:
            async with asyncio.timeout(outer):
                try:
                    async with asyncio.timeout(inner):
                        log.append(await ctx.call_activity(echo, f"{outer}/{inner}"))
                except TimeoutError:
                    log.append(f"inner {outer}/{inner}")
                await ctx.call_activity(square, outer)
        except TimeoutError:
            log.append(f"outer {outer}/{inner}")
    return log


@program()
async def timeouts_rescheduled(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(1)
    try:
        async with limit:
            for i in range(8):
                limit.reschedule(loop.time() + 1.5)
                log.append(await ctx.call_activity(echo, f"{i}"))
            limit.reschedule(None)
            await asyncio.sleep(10)
            limit.reschedule(loop.time() - 1)
            await asyncio.sleep(10)
    except TimeoutError:
        log.append(f"expired {limit.expired()}")
    return log


@program()
async def task_group_fails(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []

    async def worker(name: str, steps: int) -> None:
        try:
            for step in range(steps):
                await ctx.call_activity(echo, f"{name}{step}")
            if name == "c":
                await ctx.call_activity(fail, name)
        except asyncio.CancelledError:
            log.append(f"cancelled {name}")
            await ctx.call_activity(echo, f"cleaning {name}")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for name, steps in (("a", 4), ("b", 1), ("c", 2), ("d", 3)):
                group.create_task(worker(name, steps))
            group.create_task(ctx.call_activity(echo, "directly"))
    except* TaskFailedError as failures:
        log += [str(failure) for failure in failures.exceptions]
    return log


@program()
async def task_group_of_calls(ctx: OrchestrationContext) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.call_activity(square, i)) for i in range(5)]
        inner = group.create_task(ctx.call_activity(echo, "x"))
    log: list[Any] = [task.result() for task in tasks] + [inner.result()]
    try:
        async with asyncio.TaskGroup() as group:
            for i in range(3):
                group.create_task(ctx.call_activity(square, i))
            raise KeyError("before their first step")
    except* KeyError:
        log.append("none was started")
    await ctx.create_timer(seconds(4))
    return log


@program(7)
async def semaphore_limits_what_is_scheduled(ctx: OrchestrationContext, n: int) -> list[int]:
    limit, running, most = asyncio.Semaphore(2), 0, 0

    async def one(i: int) -> int:
        nonlocal running, most
        async with limit:
            running += 1
            most = max(most, running)
            try:
                return await ctx.call_activity(square, i)
            finally:
                running -= 1

    results = await asyncio.gather(*(one(i) for i in range(n)))
    assert most == 2
    return list(results)


@program()
async def bounded_semaphore_and_cancelled_waiters(ctx: OrchestrationContext) -> list[str]:
    limit, log = asyncio.BoundedSemaphore(1), []

    async def one(i: int) -> None:
        async with asyncio.timeout(1 + i / 2), limit:
            log.append(await ctx.call_activity(echo, f"{i}"))

    for i, outcome in enumerate(await asyncio.gather(*(one(i) for i in range(6)), return_exceptions=True)):
        log.append(f"{i}: {type(outcome).__name__}")
    return log


@program()
async def queue_producers_and_consumers(ctx: OrchestrationContext) -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=2)
    log: list[str] = []

    async def produce(name: str) -> None:
        for i in range(4):
            await queue.put(await ctx.call_activity(echo, f"{name}{i}"))

    async def consume(name: str) -> None:
        while True:
            item = await queue.get()
            log.append(f"{name} took {item}")
            await ctx.call_activity(echo, f"{name} has {item}")
            queue.task_done()

    consumers = [asyncio.create_task(consume(name)) for name in ("x", "y", "z")]
    await asyncio.gather(produce("a"), produce("b"))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return log


@program()
async def priority_queue(ctx: OrchestrationContext) -> list[int]:
    queue: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()

    async def put(i: int) -> None:
        queue.put_nowait(await ctx.call_activity(square, 5 - i))

    async with asyncio.TaskGroup() as group:
        for i in range(5):
            group.create_task(put(i))
        return [await queue.get() for _ in range(5)]


@program()
async def event_and_condition(ctx: OrchestrationContext) -> list[str]:
    ready, changed, log, stock = asyncio.Event(), asyncio.Condition(), [], 0

    async def consumer(name: str, need: int) -> None:
        nonlocal stock
        await ready.wait()
        async with changed:
            await changed.wait_for(lambda: stock >= need)
            stock -= need
            log.append(await ctx.call_activity(echo, f"{name} took {need}"))
            changed.notify_all()

    async def producer() -> None:
        nonlocal stock
        for i in range(5):
            await ctx.call_activity(square, i)
            async with changed:
                stock += 2
                changed.notify(2)
            if i == 1:
                ready.set()

    async with asyncio.TaskGroup() as group:
        for name, need in (("a", 3), ("b", 1), ("c", 2), ("d", 4)):
            group.create_task(consumer(name, need))
        group.create_task(producer())
    return log


@program()
async def barrier(ctx: OrchestrationContext) -> list[str]:
    meeting, log = asyncio.Barrier(3), []

    async def walker(name: str) -> None:
        for stage in range(3):
            await ctx.call_activity(echo, f"{name} walks {stage}")
            place = await meeting.wait()
            log.append(f"{name} {stage} {place}")
            if place == 0:
                await ctx.call_activity(echo, f"{name} first at {stage}")

    await asyncio.gather(*(walker(name) for name in "abc"))
    try:
        async with asyncio.timeout(1):
            await meeting.wait()
    except (TimeoutError, asyncio.BrokenBarrierError) as error:
        log.append(type(error).__name__)
    return log


@program()
async def lock_is_fair(ctx: OrchestrationContext) -> list[str]:
    lock, log = asyncio.Lock(), []

    async def one(name: str) -> None:
        for _ in range(2):
            async with lock:
                log.append(await ctx.call_activity(echo, name))

    tasks = [asyncio.create_task(one(name)) for name in "abcd"]
    await asyncio.sleep(3)
    tasks[2].cancel()
    await asyncio.wait(tasks)
    return log


@program()
async def as_completed_over_tasks(ctx: OrchestrationContext) -> list[str]:
    async def one(i: int) -> str:
        await asyncio.sleep((i * 3) % 4)
        return await ctx.call_activity(echo, f"{i}")

    tasks = [asyncio.create_task(one(i)) for i in range(8)]
    order: list[str] = []
    try:
        for next_one in asyncio.as_completed(tasks, timeout=5):
            order.append(await next_one)
            await ctx.call_activity(echo, f"got {order[-1]}")
    except TimeoutError:
        order.append("timeout")
    return order


@program()
async def shield(ctx: OrchestrationContext) -> list[str]:
    call = ctx.call_activity(echo, "kept")
    try:
        async with asyncio.timeout(0.5):
            await asyncio.shield(call)
        log = ["in time"]
    except TimeoutError:
        log = ["too late"]
    waiter = asyncio.create_task(asyncio.wait_for(asyncio.shield(call), 1))
    await asyncio.sleep(0)
    waiter.cancel()
    log.append(type((await asyncio.gather(waiter, return_exceptions=True))[0]).__name__)
    return [*log, await call]


@program()
async def async_generators(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []

    async def pages(name: str) -> AsyncIterator[str]:
        try:
            for i in range(4):
                yield await ctx.call_activity(echo, f"{name}{i}")
        finally:
            log.append(f"closed {name}")

    @asynccontextmanager
    async def session(name: str) -> AsyncIterator[str]:
        yield await ctx.call_activity(echo, f"open {name}")
        await ctx.call_activity(echo, f"close {name}")

    async def reader(name: str, most: int) -> None:
        async with session(name) as opened:
            log.append(opened)
            async for page in pages(name):
                log.append(page)
                if len(log) > most:
                    break

    await asyncio.gather(reader("a", 3), reader("b", 9), reader("c", 20))
    abandoned = pages("never finished")
    log.append(await anext(abandoned))
    return log


who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@program()
async def context_variables(ctx: OrchestrationContext) -> list[str]:
    log = [who.get()]
    who.set("root")

    async def one(name: str) -> None:
        log.append(f"{name} inherits {who.get()}")
        who.set(name)
        await ctx.call_activity(echo, name)
        log.append(f"{name} has {who.get()}")

    await asyncio.gather(one("a"), one("b"))
    return [*log, who.get()]


@program()
async def cancellations_swallowed(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []

    async def stubborn(name: str) -> str:
        for attempt in range(3):
            try:
                return await ctx.call_activity(echo, f"{name} {attempt}")
            except asyncio.CancelledError:
                log.append(f"{name} goes on after {attempt}")
        return name

    task = asyncio.create_task(stubborn("a"))
    for _ in range(2):
        await asyncio.sleep(0.7)
        task.cancel()
        await asyncio.sleep(0)
    log.append(await task)
    try:
        async with asyncio.timeout(1):
            log.append(await stubborn("b"))
            await asyncio.sleep(3)
    except TimeoutError:
        log.append("timeout")
    return log


@program()
async def cancelled_before_the_first_step(ctx: OrchestrationContext) -> list[str]:
    log: list[str] = []

    async def never(name: str) -> None:
        log.append(name)
        await ctx.call_activity(echo, name)

    for task in (asyncio.create_task(never("a")), asyncio.create_task(never("b"))):
        task.cancel()
    call = ctx.call_activity(echo, "cancelled at once")
    call.cancel()
    again = ctx.call_activity(echo, "after it")
    try:
        await call
    except asyncio.CancelledError:
        log.append("cancelled")
    return [*log, await again]


@program()
async def timers(ctx: OrchestrationContext) -> list[str]:
    start = ctx.current_utc_datetime
    log: list[str] = []

    async def at(name: str, delay: float) -> None:
        await ctx.create_timer(seconds(delay))
        log.append(f"{name} {(ctx.current_utc_datetime - start) >= seconds(delay)}")
        await ctx.call_activity(echo, name)

    given_up = ctx.create_timer(start + seconds(9))
    await asyncio.gather(at("c", 3), at("a", 1), at("past", -5), at("b", 2), asyncio.sleep(0), asyncio.sleep(-1))
    given_up.cancel()
    return log


@program()
async def loop_callbacks(ctx: OrchestrationContext) -> list[str]:
    loop = asyncio.get_running_loop()
    log: list[str] = []
    future = loop.create_future()
    loop.call_later(1, log.append, "second")
    loop.call_soon(log.append, "first")
    handle = loop.call_later(0.5, log.append, "never")
    handle.cancel()
    loop.call_at(loop.time() + 2, future.set_result, "third")
    log.append(await future)
    return [*log, await ctx.call_activity(echo, "end")]


# ── the context ───────────────────────────────────────────────────────────────────────────────────────────────────


def _leaf(x: int) -> int:
    if x == 2:
        raise LookupError("leaf 2 fell")
    return x * 10


@program(children={"child": _leaf, "elsewhere": _leaf})
async def children(ctx: OrchestrationContext) -> list[Any]:
    calls = [ctx.call_sub_orchestrator(child, i) for i in range(4)]
    named = ctx.call_sub_orchestrator("elsewhere", 7, instance_id="the-seventh", return_type=int)
    dropped = ctx.call_sub_orchestrator(child, 9)
    results = await asyncio.gather(*calls, named, return_exceptions=True)
    dropped.cancel()
    retried = ctx.call_sub_orchestrator(child, 2, retry=RetryPolicy(max_number_of_attempts=2, first_retry_interval=seconds(0.3)))
    outcome = await asyncio.gather(retried, return_exceptions=True)
    return [str(result) for result in (*results, *outcome)]


@program()
async def entities(ctx: OrchestrationContext) -> list[Any]:
    here, there = ctx.entity(Counter, "here"), ctx.entity(Counter, "there")
    here.signal(Counter.add, 5)
    totals = await asyncio.gather(*(here.call(Counter.add, i) for i in range(4)), there.call(Counter.get))
    ctx.signal_entity(EntityId("Counter", "there"), "add", 3)
    ctx.send_event("somebody", "hello", {"from": ctx.instance_id})
    by_name = await ctx.call_entity(EntityId("counter", "there"), "get", return_type=int)
    async with ctx.lock_entities(there, here, there):
        totals += await asyncio.gather(here.call(Counter.add, 1), there.call(Counter.add, -1))
        there.signal_at(seconds(3), Counter.add, 1)
    try:
        async with asyncio.timeout(1):
            await here.call(Counter.refuse)
    except (TaskFailedError, TimeoutError) as error:
        return [*totals, by_name, type(error).__name__]
    return []


@program(events=((0.5, "Go", 1), (0.5, "go", 2), (1.5, "stop", "now"), (2.5, "GO", 3), (4, "go", 4), (5, "unwanted", 0)))
async def external_events(ctx: OrchestrationContext) -> list[Any]:
    log: list[Any] = []

    async def waiter(name: str, limit: float) -> None:
        try:
            value = await ctx.wait_for_external_event("go", return_type=int, timeout=seconds(limit))
            log.append([name, value])
        except TaskTimeoutError:
            log.append([name, "timeout"])
        await ctx.call_activity(echo, name)

    stop = ctx.wait_for_external_event("STOP")
    given_up = asyncio.create_task(waiter("given up", 9))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(waiter("a", 3), waiter("b", 3), waiter("c", 1), waiter("d", 2))
    log.append(await stop)
    async with asyncio.timeout(10):
        log.append(await ctx.wait_for_external_event("Go"))
    return log


@program()
async def retries(ctx: OrchestrationContext) -> list[str]:
    policy = RetryPolicy(first_retry_interval=seconds(0.5), backoff_coefficient=2, max_number_of_attempts=4, max_retry_interval=seconds(1))

    def decide(failed: RetryContext) -> bool | timedelta:
        return seconds(failed.attempt / 4) if failed.failure.is_caused_by(ConnectionError) and failed.elapsed < seconds(6) else False

    calls = [
        ctx.call_activity(flaky, 2, "third time", retry=policy),
        ctx.call_activity(flaky, 9, "never", retry=policy),
        ctx.call_activity(flaky, 1, "at once", retry=RetryPolicy(first_retry_interval=seconds(0))),
        ctx.call_activity(flaky, 3, "as decided", retry=RetryPolicy(max_number_of_attempts=9, handler=decide)),
        ctx.call_activity(fail, "hopeless", retry=RetryPolicy(non_retriable=(ValueError,))),
        ctx.call_activity(flaky, 9, "out of time", retry=RetryPolicy(max_number_of_attempts=99, retry_timeout=seconds(4))),
    ]
    cancelled = ctx.call_activity(flaky, 9, "cancelled", retry=RetryPolicy(max_number_of_attempts=99, first_retry_interval=seconds(0.2)))
    results = await asyncio.gather(*calls, return_exceptions=True)
    cancelled.cancel()
    return [str(result) for result in results]


@program()
async def call_timeouts(ctx: OrchestrationContext) -> list[str]:
    policy = RetryPolicy(max_number_of_attempts=20, first_retry_interval=seconds(0.4))
    calls = [ctx.call_activity(echo, f"{i}", timeout=seconds(0.3 + i / 2)) for i in range(6)]
    calls += [ctx.call_activity(flaky, 9, "retried", retry=policy, timeout=seconds(i)) for i in range(1, 4)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [f"{result}" for result in results]


@program()
async def when_all_and_any(ctx: OrchestrationContext) -> list[Any]:
    calls = [ctx.call_activity(echo, f"{i}") for i in range(4)]
    first = await when_any(calls)
    log: list[Any] = [first.task_id, await first, await when_all(calls)]
    both = await when_all(ctx.call_activity(square, 3), ctx.call_activity(echo, "x"))
    log.append(both)
    try:
        await when_all([ctx.call_activity(echo, "fine"), ctx.call_activity(fail, "one"), ctx.call_activity(fail, "two")])
    except TaskFailedError as failure:
        log.append(failure.details.message)
    winner = await when_any(ctx.call_activity(fail, "three"), ctx.call_activity(echo, "y"))
    log.append(winner.name)
    timer = ctx.create_timer(seconds(1.5))
    log.append((await when_any(ctx.call_activity(square, 2), timer)).name)
    return log


@program(0, events=((0.1, "item", "a"), (0.2, "item", "b"), (1.0, "item", "c"), (1.1, "item", "d"), (1.2, "item", "e"), (6, "item", "f")))
async def continues_as_new(ctx: OrchestrationContext, taken: int) -> list[Any] | None:
    item = await ctx.wait_for_external_event("item", return_type=str)
    ctx.set_custom_status({"item": item, "taken": taken})
    await ctx.call_activity(echo, item)
    if taken == 5:
        return [str(ctx.new_uuid()), ctx.random.random()]
    ctx.call_activity(echo, "never answered in this generation")
    ctx.continue_as_new(taken + 1)
    return None


@program()
async def nested_helpers(ctx: OrchestrationContext) -> int:
    async def countdown(n: int) -> int:
        if n == 0:
            return await ctx.call_activity(square, 3)
        if n % 2:
            async with asyncio.TaskGroup() as group:
                left, right = group.create_task(countdown(n - 1)), group.create_task(ctx.call_activity(square, n))
            return left.result() + right.result()
        return await countdown(n - 1) + await countdown(0)

    return await countdown(4)


@program()
async def chance_and_time(ctx: OrchestrationContext) -> list[Any]:
    names = [f"{i}" for i in range(5)]
    ctx.random.shuffle(names)
    log: list[Any] = []
    for name in names:
        log.append(await ctx.call_activity(echo, f"{name} {ctx.new_uuid()}"))
        if ctx.random.random() < 0.5:
            await asyncio.sleep(ctx.random.uniform(0, 3))
        ctx.set_custom_status([name, ctx.history_length])
        log.append(ctx.current_utc_datetime.isoformat())
    return log


@program()
async def failures_nobody_awaits(ctx: OrchestrationContext) -> str:
    async def falls(name: str) -> None:
        await ctx.call_activity(echo, name)
        raise RuntimeError(name)

    tasks = [asyncio.create_task(falls(f"{i}")) for i in range(4)]
    ctx.call_activity(fail, "not awaited either")
    await asyncio.sleep(2)
    try:
        await tasks[1]
    except RuntimeError as error:
        return str(error)
    return ""


@program()
async def fails_in_a_group(ctx: OrchestrationContext) -> None:
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(ctx.call_activity(fail, name))


@program()
async def ends_with_tasks_at_work(ctx: OrchestrationContext) -> str:
    async def ticker(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                await ctx.call_activity(echo, f"tick {name}")
        finally:
            await ctx.call_activity(echo, f"nobody records this of {name}")

    for name in "abc":
        asyncio.create_task(ticker(name))  # noqa: RUF006  # our loop holds tasks strongly
    return await ctx.call_activity(echo, "done")
