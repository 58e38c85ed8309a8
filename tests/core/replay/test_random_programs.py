"""Random orchestrators in random worlds: a generated tree of asyncio and context operations, interpreted by one generic orchestrator.

Whatever the program and whatever the world: the history obeys the rules of every history, and every prefix of it replays and goes on to the
same bytes, under any other batching. ``DURABLE_EXAMPLES=5000`` is the night's work; hypothesis prints what repeats a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_core.definitions.orchestrator import orchestrator
from durable_core.errors import LockingRulesViolationError, TaskFailedError, TaskTimeoutError
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.fan_in import when_all, when_any
from durable_core.retry import RetryPolicy
from tests.core.replay.driver import EXAMPLES, Program, check_history, replay_prefixes, run
from tests.core.replay.programs import Counter, child, echo, fail, flaky, registry, seconds, square

Node = list[Any]

POSITIONS_MAX = 12

# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────

_delay = st.sampled_from([-1, 0, 0.3, 1, 1, 1.7, 2.5, 4])
_small = st.integers(0, 3)
_name = st.sampled_from(["red", "Red", "blue"])

leaves: st.SearchStrategy[Node] = st.one_of(
    st.tuples(st.just("call"), _small),
    st.tuples(st.just("call"), _small),
    st.tuples(st.just("fail"), _small),
    st.tuples(st.sampled_from(["sleep", "timer"]), _delay),
    st.tuples(st.just("retry"), _small, st.integers(1, 4), _delay),
    st.tuples(st.just("limited"), st.sampled_from([0.5, 1, 2]), _small),
    st.tuples(st.just("event"), _name, st.sampled_from([0.5, 1, 3])),
    st.tuples(st.just("child"), _small),
    st.tuples(st.sampled_from(["entity", "signal", "send"]), _small),
    st.tuples(st.just("put"), st.integers(0, 1)),
    st.tuples(st.just("get"), st.integers(0, 1), _delay),
    st.tuples(st.sampled_from(["raise", "chance", "unawaited"])),
).map(list)


def branches(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.sampled_from(["seq", "gather", "outcomes", "group", "race", "any", "all", "completed", "pages"]), several),
        st.tuples(st.just("wait"), _delay, several),
        st.tuples(st.sampled_from(["timeout", "wait_for", "cancel_after", "shield"]), _delay, nodes),
        st.tuples(st.sampled_from(["try", "stubborn", "semaphore", "lock", "background", "cancel_now"]), nodes),
        st.tuples(st.just("finally"), nodes, nodes),
        st.tuples(st.just("generation"), nodes),
        st.tuples(st.just("section"), st.lists(st.sampled_from("ef"), min_size=1, max_size=2), nodes),
    ).map(list)


_steps = st.lists(st.recursive(leaves, branches, max_leaves=8), min_size=3, max_size=6)
programs = st.lists(_steps, min_size=2, max_size=4).map(lambda arms: ["arms", arms])


# ── the interpreter ───────────────────────────────────────────────────────────────────────────────────────────────


@define
class Interpreter:
    """What a program's log says depends on every order there is: of wake-ups, of sets, of cancellations."""

    ctx: OrchestrationContext
    log: list[str] = field(factory=list)
    semaphore: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(2))
    lock: asyncio.Lock = field(factory=asyncio.Lock)
    queues: list[asyncio.Queue[str]] = field(factory=lambda: [asyncio.Queue(), asyncio.Queue()])
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

    # branches

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


# ── the property ──────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(programs, st.integers(0, 2**32), st.sampled_from([False, False, False, True]))
def test_random_programs_replay_from_every_prefix(node: Node, seed: int, terminate: bool) -> None:
    program = Program(interpret, REGISTRY, (node,), EVENTS, {"child": lambda x: x * 10})
    for generation in run(program, seed, terminate=terminate):
        assert generation.ending is not None
        check_history(generation.history)
        replay_prefixes(generation, seed, most=POSITIONS_MAX)
