"""Callers that go away before they hear what became of their call: what took effect is taken care of all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from durable_core import DurableEngine, OrchestrationContext, activity, orchestrator
from durable_core.backend import AbandonWorker, Command, CreateInstance, Outcome
from durable_core.testing.memory import MemoryBackend, forget_store
from tests.runtime.support import SECOND, engine_with, until
from tests.stores import DURABLE, new_store


@activity
async def double(x: int) -> int:
    return 2 * x


@orchestrator
async def flow(ctx: OrchestrationContext, x: int) -> int:
    return await ctx.call_activity(double, x)


@pytest.mark.parametrize("store", DURABLE)
def test_a_start_whose_caller_timed_out_runs_if_it_exists(store, tmp_path, run):
    """As in a web handler with a time limit."""
    engine = engine_with(flow, double)
    starts = 200

    async def start(number: int) -> bool:
        """Whether it was in time."""
        try:
            async with asyncio.timeout(number % 8 * 0.0005):
                await engine.client.schedule_new_orchestration(flow, number, instance_id=f"s{number}")
        except TimeoutError:
            return False
        return True

    async def main(url: str) -> None:
        async with engine.open(url):
            in_time = [await start(number) for number in range(starts)]
            assert not all(in_time)
            existing = [state.instance_id async for state in engine.client.query_instances()]
            assert len(existing) >= sum(in_time)
            for id in existing:
                assert await engine.client.get_handle(flow, id).result(20 * SECOND) == 2 * int(id[1:])

    with new_store(store, tmp_path) as url:
        run(lambda: main(url))


class Slow(MemoryBackend):
    """Answers a create only when it is let, and has carried it out by then."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.reached, self.let = asyncio.Event(), asyncio.Event()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().apply(commands)
        if any(isinstance(command, CreateInstance) for command in commands):
            self.reached.set()
            await self.let.wait()
        return outcomes


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    forget_store("deserted")


async def _desert(engine: DurableEngine, backend: Slow) -> None:
    """Start ``flow``, and go away when the store has carried that out and not yet said so."""
    start = asyncio.create_task(engine.client.schedule_new_orchestration(flow, 4, instance_id="f"))
    await backend.reached.wait()
    start.cancel()
    await asyncio.wait([start])
    assert start.cancelled()


def test_a_start_that_nobody_waits_for_is_taken_in_hand(run):
    async def main() -> Any:
        backend = Slow("deserted")
        engine = engine_with(flow, double)
        async with engine.open(backend=backend):
            await _desert(engine, backend)
            backend.let.set()
            return await engine.client.get_handle(flow, "f").result(20 * SECOND)

    assert run(main) == 8


def test_a_start_that_a_closing_engine_hears_of_is_left_to_others(run):
    """It counts no attempt, and nothing of it stays with the worker that is gone."""

    async def main() -> Any:
        backend = Slow("deserted")
        engine = engine_with(flow, double)

        async def serve() -> None:
            async with engine.open(backend=backend):
                await _desert(engine, backend)
                asyncio.get_running_loop().call_later(0.05, backend.let.set)

        await serve()
        another = engine_with(flow, double)
        async with another.open(backend=MemoryBackend("deserted")):
            state = await another.client.get_instance("f")
            assert state is not None
            return await another.client.get_handle(flow, "f").result(20 * SECOND)

    assert run(main) == 8


def test_a_start_for_a_worker_that_has_started_afresh_runs(run):
    async def main() -> Any:
        backend = Slow("deserted")
        engine = engine_with(flow, double, heartbeat_s=0.05)
        async with engine.open(backend=backend):
            worker = engine._session.worker
            before = worker.id
            await _desert(engine, backend)
            await MemoryBackend.apply(backend, [AbandonWorker(before)])
            closing = asyncio.create_task(until(lambda: worker.id != before))
            await asyncio.sleep(0)
            backend.let.set()
            await closing
            return await engine.client.get_handle(flow, "f").result(20 * SECOND)

    assert run(main) == 8
