"""Values of several megabytes, and values that are too large."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from durable_core import EntityId, OrchestrationContext, OrchestrationFailedError, PayloadTooLargeError, activity, entity, orchestrator
from durable_core.backend import Capabilities
from durable_core.testing.memory import MemoryBackend
from tests.runtime.support import PATIENCE, engine_with

MEBIBYTE = 1 << 20


@activity
async def echo(value: bytes) -> bytes:
    return value


@activity
async def grow(size: int) -> str:
    return "é" * (size // 2)


def test_megabytes_travel_everywhere(url, run):
    @entity
    class Box:
        content: str = ""

        def put(self, text: str) -> str:
            old, self.content = self.content, text
            return old

    @orchestrator
    async def child(ctx: OrchestrationContext, value: list[str]) -> list[str]:
        return value

    @orchestrator
    async def root(ctx: OrchestrationContext, value: bytes) -> bytes:
        echoed = await ctx.call_activity(echo, value)
        event = await ctx.wait_for_external_event("big", return_type=str)
        [back] = await ctx.call_sub_orchestrator(child, [event])
        box = ctx.entity(Box, "k")
        await box.call(Box.put, back)
        back = await box.call(Box.put, "")
        ctx.set_custom_status(back)
        return echoed + back.encode()

    engine = engine_with(echo, child, root, Box)
    value, text = bytes(range(256)) * 4 * 1024 * 2, "ü\0\U0001f600" * 300_000

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root, value)
            await engine.client.raise_event(handle.id, "big", text)
            assert await handle.result(PATIENCE) == value + text.encode()
            state = await handle.state()
            assert (state.input_as(bytes), state.custom_status_as(str)) == (value, text)

    run(main)


def test_thirty_megabytes_round_trip_and_are_not_read_by_queries(tmp_path, run):
    """What stands in histories is read by who asks for the history. Inputs, outputs and custom statuses are part of the record."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    size = 30 * MEBIBYTE

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return len((await ctx.call_activity(grow, size)).encode())

    engine = engine_with(grow, root)

    async def main():
        async with engine.open(url):
            assert await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE) == size
        async with engine.open(url, worker=False):
            tracemalloc.start()
            try:
                [state] = [state async for state in engine.client.query_instances()]
                assert state.output_as(int) == size
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < MEBIBYTE
            assert sum(len(getattr(event, "result", None) or "") for event in await engine.client.get_history(state.instance_id)) > size / 2

    run(main)


class Small(MemoryBackend):
    """Takes values of 10,000 bytes."""

    def __init__(self) -> None:
        super().__init__(capabilities=Capabilities(durability="none", multi_process=False, proves_death=False, max_payload_bytes=40_000))


def test_what_a_client_sends_over_the_limit_is_refused_before_anything_is_written(run):
    @entity
    class Box:
        content: str = ""

        def put(self, text: str) -> None:
            self.content = text

    @orchestrator
    async def waiting(ctx: OrchestrationContext, text: str) -> str:
        return await ctx.wait_for_external_event("n", return_type=str)

    engine, backend, big = engine_with(waiting, Box), Small(), "x" * 10_000

    async def main():
        async with engine.open(backend=backend):
            client = engine.client
            handle = await client.schedule_new_orchestration(waiting, "", instance_id="w")
            await client.wait_for_start("w", PATIENCE)
            before = await client.get_history("w")
            for send in (
                client.schedule_new_orchestration(waiting, big, instance_id="big"),
                client.raise_event("w", "n", big),
                client.terminate("w", output=big),
                client.signal_entity(EntityId("Box", "k"), Box.put, big),
            ):
                with pytest.raises(PayloadTooLargeError, match=r"10,000.*reference"):
                    await send
            assert await client.get_instance("big") is None
            assert await client.get_entity(Box, "k") is None
            assert await client.get_history("w") == before
            await client.raise_event("w", "n", "small")
            assert await handle.result(PATIENCE) == "small"

    run(main)


def test_what_an_orchestrator_asks_for_over_the_limit_is_refused_at_the_call(run):
    @entity
    class Box:
        content: str = ""

        def put(self, text: str) -> None:
            self.content = text

    @orchestrator
    async def child(ctx: OrchestrationContext, text: str) -> None: ...

    @orchestrator
    async def root(ctx: OrchestrationContext, text: str = "") -> list[str]:
        big, box, refused = "x" * 10_000, ctx.entity(Box, "k"), list[str]()
        calls: dict[str, Any] = {
            "activity": lambda: ctx.call_activity(echo, big.encode()),
            "child": lambda: ctx.call_sub_orchestrator(child, big),
            "event": lambda: ctx.send_event("other", "n", big),
            "call": lambda: box.call(Box.put, big),
            "signal": lambda: box.signal(Box.put, big),
            "status": lambda: ctx.set_custom_status(big),
            "next": lambda: ctx.continue_as_new(big),
        }
        for name, call in calls.items():
            try:
                call()
            except PayloadTooLargeError:
                refused.append(name)
        return refused

    engine, backend = engine_with(echo, child, root, Box), Small()

    async def main():
        async with engine.open(backend=backend):
            handle = await engine.client.schedule_new_orchestration(root)
            refused = await handle.result(PATIENCE)
            return refused, [type(event).__name__ for event in await engine.client.get_history(handle.id)]

    refused, history = run(main)
    assert refused == ["activity", "child", "event", "call", "signal", "status", "next"]
    assert history == ["ExecutionStarted", "ExecutionCompleted"]


def test_results_over_the_limit_fail_what_made_them(run):
    @orchestrator
    async def from_activity(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity(grow, 20_000)

    @orchestrator
    async def own(ctx: OrchestrationContext) -> str:
        return "x" * 20_000

    engine, backend = engine_with(grow, from_activity, own), Small()

    async def main():
        async with engine.open(backend=backend):
            for fn, what in [(from_activity, "activity 'grow'"), (own, "orchestrator 'own'")]:
                with pytest.raises(OrchestrationFailedError, match=rf"PayloadTooLargeError: the result of {what} has 20,002 bytes.*10,000"):
                    await (await engine.client.schedule_new_orchestration(fn)).result(PATIENCE)

    run(main)


def test_many_large_values_do_not_stop_small_ones(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext, n: int) -> int:
        values = [await ctx.call_activity(grow, MEBIBYTE) for _ in range(n)]
        return sum(map(len, values))

    @orchestrator
    async def small(ctx: OrchestrationContext) -> int:
        return len(await ctx.call_activity(echo, b"1"))

    engine = engine_with(grow, echo, root, small)

    async def main():
        async with engine.open(url):
            large = await engine.client.schedule_new_orchestration(root, 20)
            assert await (await engine.client.schedule_new_orchestration(small)).result(PATIENCE) == 1
            assert await large.result(PATIENCE) == 10 * MEBIBYTE

    run(main)


@pytest.mark.parametrize("count", [3, 30])
def test_values_up_to_the_limit_fit_however_many_arrive_at_once(run, count):
    """All events of a turn are stored as one: the results of a fan-out must not add up to what no store takes."""
    allowed = '"' * 4_900  # two characters each as JSON, four as JSON within an event

    @activity
    async def quote() -> str:
        return allowed

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        results = await asyncio.gather(*(ctx.call_activity(quote) for _ in range(count)))
        return sum(map(len, results)) + len(await ctx.call_activity(echo_text, allowed))

    @activity
    async def echo_text(text: str) -> str:
        return text

    engine, backend = engine_with(quote, echo_text, root), Small()

    async def main():
        async with engine.open(backend=backend):
            return await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)

    assert run(main) == 4_900 * (count + 1)
