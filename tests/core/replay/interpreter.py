"""One generic orchestrator for random programs: a program is a tree of nodes, each a list of an operation's name and its arguments.

``test_random_programs.py`` draws such trees by hypothesis, ``exchange.py`` by a seed that means the same on every Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from attrs import define, field

from durable_core.definitions.orchestrator import orchestrator
from durable_core.errors import LockingRulesViolationError, TaskFailedError, TaskTimeoutError
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.fan_in import when_all, when_any
from durable_core.retry import RetryPolicy
from tests.core.replay.programs import Counter, child, echo, fail, flaky, registry, seconds, square

Node = list[Any]


@define
class Interpreter:
    """What a program's log says depends on every order there is: of wake-ups, of sets, of cancellations."""

    ctx: OrchestrationContext
    log: list[str] = field(factory=list)
    semaphore: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(2))
    lock: asyncio.Lock = field(factory=asyncio.Lock)
    queues: list[asyncio.Queue[str]] = field(factory=lambda: [asyncio.Queue(), asyncio.Queue()])
    narrow: asyncio.Queue[str] = field(factory=lambda: asyncio.Queue(1))
    condition: asyncio.Condition = field(factory=asyncio.Condition)
    flag: asyncio.Event = field(factory=asyncio.Event)
    kept: list[Any] = field(factory=list)
    next_input: Any = None

    def start(self, node: Node) -> Awaitable[Any]:
        """A call as the task that the context returns, anything else as a coroutine; what a section forbids fails when it is awaited, as
        all else does."""
        try:
            return self._start(node)
        except LockingRulesViolationError as error:
            return self._refuse(error)

    async def _refuse(self, error: LockingRulesViolationError) -> None:
        raise error

    def _start(self, node: Node) -> Awaitable[Any]:
        ctx = self.ctx
        match node:
            case ["call", k]:
                return ctx.call_activity(square, k)
            case ["fail", k]:
                return ctx.call_activity(fail, str(k))
            case ["timer", delay]:
                return ctx.create_timer(seconds(delay))
            case ["retry", failures, attempts, delay]:
                policy = RetryPolicy(max_number_of_attempts=attempts, first_retry_interval=seconds(max(0, delay)), backoff_coefficient=1.5)
                return ctx.call_activity(flaky, failures, "flaky", retry=policy, timeout=seconds(4))
            case ["limited", limit, k]:
                return ctx.call_activity(echo, f"limited {k}", timeout=seconds(limit))
            case ["event", name, limit]:
                return ctx.wait_for_external_event(name, timeout=seconds(limit))
            case ["child", k]:
                return ctx.call_sub_orchestrator(child, k)
            case ["entity", k]:
                return ctx.entity(Counter, "e").call(Counter.add, k)
            case _:
                return self.run(node)

    async def run(self, node: Node) -> Any:
        name, *arguments = node
        method = getattr(self, f"_{name}", None)
        result = await (self.start(node) if method is None else method(*arguments))
        self.log.append(f"{name}={result}" if isinstance(result, int | str) else name)
        if len(self.log) % 3 == 0:
            self.ctx.call_activity(echo, f"unawaited after {name}")
        return result

    # leaves

    async def _sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)

    async def _signal(self, k: int) -> None:
        self.ctx.entity(Counter, "e").signal(Counter.add, k)

    async def _send(self, k: int) -> None:
        self.ctx.send_event("other", "hello", k)

    async def _put(self, queue: int) -> None:
        self.queues[queue].put_nowait(f"item {len(self.log)}")

    async def _get(self, queue: int, limit: float) -> str:
        return await asyncio.wait_for(self.queues[queue].get(), limit)

    async def _raise(self) -> None:
        raise RuntimeError(f"raised after {len(self.log)}")

    async def _chance(self) -> str:
        self.ctx.set_custom_status(len(self.log))
        return f"{self.ctx.random.random()} {self.ctx.new_uuid()} {self.ctx.current_utc_datetime} {self.ctx.history_length}"

    async def _unawaited(self) -> None:
        self.ctx.call_activity(echo, "unawaited")

    async def _hand_over(self, limit: float) -> None:
        """Into a queue with room for one."""
        await asyncio.wait_for(self.narrow.put(f"handed {len(self.log)}"), limit)

    async def _take_over(self, limit: float) -> str:
        async with asyncio.timeout(limit):
            return await self.narrow.get()

    async def _await_notice(self, limit: float) -> None:
        async with self.condition:
            await asyncio.wait_for(self.condition.wait(), limit)

    async def _notify(self, number: int) -> None:
        async with self.condition:
            self.condition.notify(number)

    async def _flag(self, limit: float) -> None:
        if limit > 0:
            await asyncio.wait_for(self.flag.wait(), limit)
        elif self.flag.is_set():
            self.flag.clear()
        else:
            self.flag.set()

    async def _gather_kept(self) -> str:
        """Members that have ended long ago, beside one that has not. One that has not could be what is running this."""
        ended = [task for task in self.kept if task.done()][-3:]
        values = await asyncio.gather(*ended, asyncio.sleep(0), return_exceptions=True)
        return ", ".join(type(value).__name__ for value in values)

    # branches

    async def _keep(self, node: Node) -> None:
        self.kept.append(asyncio.ensure_future(self.start(node)))

    async def _coroutine_for(self, limit: float, node: Node) -> Any:
        return await asyncio.wait_for(self.run(node), limit)

    async def _completed_late(self, delay: float, nodes: list[Node]) -> None:
        """Made now, looked at later."""
        completing: Any = asyncio.as_completed([self.run(node) for node in nodes], timeout=4)
        await asyncio.sleep(delay)
        async for task in completing:
            self.log.append(f"completed late {await task}")

    async def _permits(self, nodes: list[Node]) -> None:
        """Few places, and some who wait are cancelled."""
        semaphore = asyncio.Semaphore(2)

        async def one(node: Node) -> None:
            async with semaphore:
                await self.start(node)

        tasks = [asyncio.create_task(one(node)) for node in (*nodes, *nodes)]
        await asyncio.sleep(0.5)
        for task in tasks[1::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.log.append(f"permits {semaphore.locked()}")

    async def _arms(self, arms: list[list[Node]]) -> None:
        """Side by side; a step that fails does not end its arm."""
        await asyncio.gather(*(self._seq([["try", step] for step in arm]) for arm in arms), return_exceptions=True)

    async def _seq(self, nodes: list[Node]) -> None:
        for node in nodes:
            await self.run(node)

    async def _gather(self, nodes: list[Node]) -> None:
        await asyncio.gather(*map(self.start, nodes))

    async def _outcomes(self, nodes: list[Node]) -> str:
        return ", ".join(type(value).__name__ for value in await asyncio.gather(*map(self.start, nodes), return_exceptions=True))

    async def _group(self, nodes: list[Node]) -> None:
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self.start(node))  # type: ignore[arg-type]

    async def _race(self, nodes: list[Node]) -> None:
        done, pending = await asyncio.wait(map(asyncio.ensure_future, map(self.start, nodes)), return_when=asyncio.FIRST_COMPLETED)
        for loser in pending:
            loser.cancel()
        for winner in done:
            self.log.append(f"winner {winner.cancelled() or type(winner.exception()).__name__}")
            await self.ctx.call_activity(echo, "winner")

    async def _any(self, nodes: list[Node]) -> Any:
        tasks: list[Any] = [asyncio.ensure_future(self.start(node)) for node in nodes]
        return await (await when_any(tasks))

    async def _all(self, nodes: list[Node]) -> None:
        await when_all([self.start(node) for node in nodes])

    async def _completed(self, nodes: list[Node]) -> None:
        for task in asyncio.as_completed([asyncio.ensure_future(self.start(node)) for node in nodes]):
            self.log.append(f"completed {await task}")

    async def _pages(self, nodes: list[Node]) -> None:
        async def generate() -> AsyncIterator[Any]:
            try:
                for node in nodes:
                    yield await self.run(node)
            finally:
                self.log.append("pages closed")

        async for _ in generate():
            if len(self.log) % 4 == 0:
                break

    async def _wait(self, limit: float, nodes: list[Node]) -> None:
        done, pending = await asyncio.wait([asyncio.ensure_future(self.start(node)) for node in nodes], timeout=limit)
        for task in (*done, *pending):
            self.ctx.call_activity(echo, f"{task.done()}")
        await asyncio.sleep(0)
        for task in pending:
            task.cancel()

    async def _timeout(self, limit: float, node: Node) -> None:
        async with asyncio.timeout(limit):
            await self.start(node)

    async def _wait_for(self, limit: float, node: Node) -> Any:
        return await asyncio.wait_for(self.start(node), limit)

    async def _cancel_after(self, delay: float, node: Node) -> None:
        task = asyncio.ensure_future(self.start(node))
        await asyncio.sleep(delay)
        self.log.append(f"cancel {task.cancel()}")
        await task

    async def _cancel_now(self, node: Node) -> None:
        started: Any = self.start(node)  # our loop's create_task takes futures too
        task: asyncio.Task[Any] = asyncio.create_task(started)
        task.cancel()
        await asyncio.wait([task])

    async def _shield(self, limit: float, node: Node) -> None:
        await asyncio.wait_for(asyncio.shield(self.start(node)), limit)

    async def _try(self, node: Node) -> str:
        try:
            await self.start(node)
        except (TaskFailedError, TaskTimeoutError, TimeoutError, RuntimeError, ExceptionGroup) as error:
            return type(error).__name__
        return "fine"

    async def _stubborn(self, node: Node) -> str:
        try:
            await self.start(node)
        except BaseException as error:
            return type(error).__name__
        return "fine"

    async def _finally(self, node: Node, after: Node) -> None:
        try:
            await self.start(node)
        finally:
            await self.run(after)

    async def _semaphore(self, node: Node) -> None:
        await asyncio.wait_for(self.semaphore.acquire(), 3)  # so that nested ones end
        try:
            await self.start(node)
        finally:
            self.semaphore.release()

    async def _lock(self, node: Node) -> None:
        async with asyncio.timeout(3):
            await self.lock.acquire()
        try:
            await self.start(node)
        finally:
            self.lock.release()

    async def _section(self, keys: str, node: Node) -> None:
        async with self.ctx.lock_entities(*(self.ctx.entity(Counter, key) for key in keys)):
            await self.start(node)

    async def _background(self, node: Node) -> None:
        asyncio.create_task(self.run(node))  # noqa: RUF006

    async def _generation(self, node: Node) -> None:
        self.next_input = node


@orchestrator
async def interpret(ctx: OrchestrationContext, program: Any) -> list[str]:
    interpreter = Interpreter(ctx)
    await interpreter.run(program)
    if interpreter.next_input is not None:
        ctx.continue_as_new(interpreter.next_input)
    return interpreter.log


REGISTRY = registry(interpret)
EVENTS = ((0.4, "red", 1), (0.9, "BLUE", 2), (1.4, "red", 3), (2.6, "rED", 4), (4.0, "blue", 5))
