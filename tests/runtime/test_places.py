"""Where the client may be used: not inside an orchestrator, and only on the event loop of its engine."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable_core import DurableClient, DurableEngine, EngineStateError, EntityContext, EntityId, OrchestrationContext, OrchestrationHandle
from tests.runtime.support import PATIENCE

COUNTER = EntityId("counter", "k")
CALLS: dict[str, Callable[[DurableClient], Any]] = {
    "schedule_new_orchestration": lambda client: client.schedule_new_orchestration("target", instance_id="new"),
    "raise_event": lambda client: client.raise_event("target", "go"),
    "terminate": lambda client: client.terminate("target"),
    "suspend": lambda client: client.suspend("target"),
    "resume": lambda client: client.resume("target"),
    "restart": lambda client: client.restart("target", new_instance_id="new"),
    "purge": lambda client: client.purge("target", force=True),
    "purge_instances": lambda client: client.purge_instances(id_prefix="target"),
    "signal_entity": lambda client: client.signal_entity(COUNTER, "add", 1),
    "get_entity": lambda client: client.get_entity(Counter, "k"),
    "get_entity_state": lambda client: client.get_entity_state(COUNTER),
    "reset_entity": lambda client: client.reset_entity(COUNTER),
    "purge_entity": lambda client: client.purge_entity(COUNTER),
    "clean_entity_storage": lambda client: client.clean_entity_storage(),
    "query_entities": lambda client: anext(client.query_entities()),
    "query_instances": lambda client: anext(client.query_instances()),
    "get_instance": lambda client: client.get_instance("target"),
    "get_history": lambda client: client.get_history("target"),
    "wait_for_start": lambda client: client.wait_for_start("target"),
    "wait_for_completion": lambda client: client.wait_for_completion("target"),
    "result": lambda client: client.get_handle("target", "target").result(),
    "state": lambda client: client.get_handle("target", "target").state(),
}
SAYS = {
    "schedule_new_orchestration": "ctx.call_sub_orchestrator",
    "restart": "ctx.call_sub_orchestrator",
    "result": "await ctx.call_sub_orchestrator",
    "wait_for_completion": "await ctx.call_sub_orchestrator",
    "terminate": "cancel the task",
    "raise_event": "ctx.send_event",
    "signal_entity": "ctx.signal_entity",
    "get_entity": "ctx.call_entity",
}


class Counter:
    value: int = 0

    def add(self, amount: int) -> None:
        self.value += amount


async def target(ctx: OrchestrationContext) -> str:
    await ctx.wait_for_external_event("go")
    return "gone"


def engine_of(url: str, *orchestrators: Any) -> DurableEngine:
    engine = DurableEngine(url)
    engine.entity(name="counter")(Counter)
    for each in (target, *orchestrators):
        engine.orchestrator(each)
    return engine


def test_every_method_of_the_client_is_tried_here():
    public = {
        name for cls in (DurableClient, OrchestrationHandle) for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")
    }
    assert public - {"get_handle"} == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_the_client_is_refused_inside_an_orchestrator_before_it_has_any_effect(run, name):
    async def root(ctx: OrchestrationContext) -> str:
        try:
            await CALLS[name](engine.client)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "not refused"

    engine = engine_of("memory://", root)

    async def main():
        async with engine:
            await engine.client.schedule_new_orchestration("target", instance_id="target")
            await engine.client.wait_for_start("target", PATIENCE)
            before = await engine.client.get_history("target")
            said = await (await engine.client.schedule_new_orchestration(root, instance_id="root")).result(PATIENCE)
            assert said.startswith(f"ForbiddenInOrchestratorError: {name}() was used inside orchestrator")
            assert "test_places.py" in said
            assert SAYS.get(name, "ctx.call_activity") in said
            assert [each.instance_id async for each in engine.client.query_instances()] == ["target", "root"]
            assert await engine.client.get_history("target") == before
            assert [each async for each in engine.client.query_entities()] == []

    run(main)


def test_opening_an_engine_inside_an_orchestrator_is_refused(run, url):
    other = DurableEngine(url)

    async def root(ctx: OrchestrationContext, what: str) -> str:
        try:
            if what == "open":
                async with other:
                    pass
            elif what == "testing":
                async with other.testing():
                    pass
            else:
                await engine.backend.clock_us()  # type: ignore[attr-defined]
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "not refused"

    engine = engine_of("memory://", root)

    async def main():
        async with engine:
            for what in ("open", "testing", "backend"):
                said = await (await engine.client.schedule_new_orchestration(root, what)).result(PATIENCE)
                assert said.startswith("ForbiddenInOrchestratorError: engine."), said
        async with other:
            pass  # nothing of it is left open

    run(main)


@pytest.mark.parametrize("name", CALLS)
def test_another_thread_or_loop_is_refused_with_the_remedy(run, name):
    engine = engine_of("memory://")
    told: list[BaseException] = []

    def elsewhere(client: DurableClient) -> None:
        async def call() -> Any:
            return await CALLS[name](client)

        def without_a_loop() -> Any:
            return call().send(None)

        for attempt in (lambda: asyncio.run(call()), without_a_loop):
            try:
                attempt()
            except BaseException as error:
                told.append(error)

    async def main():
        async with engine:
            await engine.client.schedule_new_orchestration("target", instance_id="target")
            await asyncio.wait_for(asyncio.to_thread(elsewhere, engine.client), 10)
            assert len(told) == 2
            for error in told:
                assert isinstance(error, EngineStateError)
                assert str(error).startswith(f"{name}() was called ")
                assert "run_coroutine_threadsafe" in str(error)
            assert [each.instance_id async for each in engine.client.query_instances()] == ["target"]

    run(main)


def test_a_thread_uses_the_client_through_the_loop_of_the_engine(run, url):
    engine = engine_of(url)

    def elsewhere(loop: asyncio.AbstractEventLoop) -> str:
        def wait(coroutine: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

        wait(engine.client.schedule_new_orchestration("target", instance_id="target"))
        wait(engine.client.raise_event("target", "go"))
        return wait(engine.client.get_handle(target, "target").result())

    async def main():
        async with engine:
            assert await asyncio.to_thread(elsewhere, asyncio.get_running_loop()) == "gone"

    run(main)


def test_activities_and_operations_use_the_client_and_synchronous_ones_are_told_how(run, url):
    def start_in_thread() -> str:
        try:
            asyncio.run(engine.client.schedule_new_orchestration("target"))
        except EngineStateError as error:
            return str(error)
        return threading.current_thread().name

    async def start(id: str) -> str:
        handle = await engine.client.schedule_new_orchestration("target", instance_id=id)
        await engine.client.raise_event(id, "go")
        return await handle.result(timedelta(seconds=20))

    class Starter:
        def in_thread(self) -> str:
            return start_in_thread()

        async def on_loop(self, ctx: EntityContext) -> str:
            return await start(f"by-{ctx.id.key}")

    async def root(ctx: OrchestrationContext) -> list[str]:
        starter = ctx.entity(Starter, "k")
        return [
            await ctx.call_activity(start_in_thread),
            await ctx.call_activity(start, "by-activity"),
            await starter.call(Starter.in_thread),
            await starter.call(Starter.on_loop),
        ]

    engine = engine_of(url, root)
    engine.activity(start_in_thread)
    engine.activity(start)
    engine.entity(name="starter")(Starter)

    async def main():
        async with engine:
            said = await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)
            assert said[1::2] == ["gone", "gone"]
            for text in said[::2]:
                assert "run_coroutine_threadsafe" in text
                assert "async def" in text

    run(main)
