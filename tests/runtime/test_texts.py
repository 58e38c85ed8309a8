"""Texts that no store can hold (``os.fsdecode`` makes them): refused where they are given, whatever they are for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from durable_core import DurableEngine, EntityId, InstanceStatus, JsonConverter, OrchestrationContext, orchestrator
from tests.runtime.support import SECOND, engine_with, until

BAD = os.fsdecode(b"caf\xe9")


class Careless:
    """Gives texts as they are."""

    def __init__(self) -> None:
        self._json = JsonConverter()

    def encode(self, value: Any, type_hint: Any, /) -> str:
        return BAD if BAD in (value, *(value if isinstance(value, list | tuple) else ())) else self._json.encode(value, type_hint)

    def decode(self, text: str, type_hint: Any, /) -> Any:
        return self._json.decode(text, type_hint)


IN_ORCHESTRATORS: dict[str, Callable[[OrchestrationContext], Any]] = {
    "activity": lambda ctx: ctx.call_activity(BAD),
    "input": lambda ctx: ctx.call_activity("a", BAD),
    "tag": lambda ctx: ctx.call_activity("a", tags={"t": BAD}),
    "key of a tag": lambda ctx: ctx.call_activity("a", tags={BAD: "t"}),
    "child": lambda ctx: ctx.call_sub_orchestrator(BAD),
    "child's id": lambda ctx: ctx.call_sub_orchestrator("c", instance_id=BAD),
    "child's input": lambda ctx: ctx.call_sub_orchestrator("c", BAD),
    "awaited event": lambda ctx: ctx.wait_for_external_event(BAD),
    "event": lambda ctx: ctx.send_event("x", BAD),
    "event's data": lambda ctx: ctx.send_event("x", "e", BAD),
    "event's target": lambda ctx: ctx.send_event(BAD, "e"),
    "entity": lambda ctx: ctx.signal_entity(EntityId(BAD, "k"), "add"),
    "entity's key": lambda ctx: ctx.signal_entity(EntityId("e", BAD), "add"),
    "operation": lambda ctx: ctx.signal_entity(EntityId("e", "k"), BAD),
    "operation's input": lambda ctx: ctx.signal_entity(EntityId("e", "k"), "add", BAD),
    "call's operation": lambda ctx: ctx.call_entity(EntityId("e", "k"), BAD),
    "custom status": lambda ctx: ctx.set_custom_status(BAD),
    "next input": lambda ctx: ctx.continue_as_new(BAD),
}


@pytest.mark.parametrize("converter", [JsonConverter, Careless])
@pytest.mark.parametrize("place", IN_ORCHESTRATORS)
def test_an_orchestrator_is_told_at_the_call(place, converter, run):
    @orchestrator
    async def careful(ctx: OrchestrationContext, again: str = "") -> str:
        try:
            IN_ORCHESTRATORS[place](ctx)
        except ValueError as error:
            return f"ValueError: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "accepted"

    engine = DurableEngine("memory://", converter=converter())
    engine.register(careful)

    async def main() -> str:
        async with engine:
            handle = await engine.client.schedule_new_orchestration(careful, instance_id="c")
            told: str = await handle.result(20 * SECOND)
            return told

    told = run(main)
    assert any(word in told for word in ("surrogate", "printable", "stores can hold")), told


def test_a_result_that_cannot_be_stored_is_a_failure(run):
    @orchestrator
    async def careless(ctx: OrchestrationContext) -> str:
        return BAD

    engine = DurableEngine("memory://", converter=Careless())
    engine.register(careless)

    async def main() -> str:
        async with engine:
            await engine.client.schedule_new_orchestration(careless, instance_id="c")
            state = await engine.client.wait_for_completion("c", 20 * SECOND)
            assert state.failure is not None
            return state.failure.message

    assert "surrogate" in run(main)


def test_a_problem_may_quote_what_cannot_be_stored(url, run):
    @orchestrator
    async def exits(ctx: OrchestrationContext) -> None:
        raise SystemExit(f"{BAD}\0")

    engine = engine_with(exits, first_backoff_s=3600.0, last_backoff_s=3600.0)

    async def main() -> None:
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(exits, instance_id="e")

            async def problem() -> str | None:
                return (await client.get_instance("e")).problem

            assert "caf" in await until(problem)
            await client.terminate("e")
            assert (await client.wait_for_completion("e", 20 * SECOND)).runtime_status is InstanceStatus.TERMINATED

    run(main)
