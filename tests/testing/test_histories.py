"""A history that ran elsewhere, held against code that has changed since."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from durable_core import DurableEngine, InstanceNotFoundError, NonDeterminismError, NotRegisteredError, OrchestrationContext
from durable_core.testing import Environment, export_history, replay_history
from tests.testing.programs import DAY
from tests.testing.running import in_a_loop


def make_engine(*steps: str) -> DurableEngine:
    """One version of a program: its orchestrator does these steps."""
    engine = DurableEngine()

    @engine.activity
    async def reserve(item: str) -> str:
        return f"{item} reserved"

    @engine.activity
    async def charge(item: str) -> str:
        return f"{item} charged"

    @engine.orchestrator
    async def child(ctx: OrchestrationContext) -> str:
        return str(ctx.new_uuid())

    @engine.orchestrator
    async def order(ctx: OrchestrationContext, item: str) -> list[str]:
        found: list[str] = []
        for step in steps:
            if step == "child":
                found.append(await ctx.call_sub_orchestrator(child))
            elif step == "wait":
                await ctx.create_timer(DAY)
            else:
                found.append(await ctx.call_activity(step, item, return_type=str))
        return found

    return engine


STEPS = ("reserve", "child", "wait", "charge")


async def ran(env: Environment, *, to_the_end: bool) -> str:
    handle = await env.client.schedule_new_orchestration("order", "a book", instance_id="one")
    if to_the_end:
        await handle.result()
    else:
        await env.advance()
    return await export_history(env.client, "one")


@pytest.mark.parametrize("to_the_end", [True, False])
@in_a_loop
async def test_the_same_code_fits_its_history(to_the_end: bool) -> None:
    async with make_engine(*STEPS).testing() as env:
        history = await ran(env, to_the_end=to_the_end)
        state = await env.client.get_instance("one")
    assert state is not None
    assert state.is_ended is to_the_end
    replay_history(make_engine(*STEPS), history)
    replay_history(make_engine(*STEPS), history.encode())
    if not to_the_end:
        replay_history(make_engine(*STEPS, "reserve"), history)  # what comes after the point it has reached may change


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (("charge", "child", "wait", "charge"), "reserve"),
        (("child", "reserve", "wait", "charge"), "reserve"),
        (("reserve", "child", "charge"), "timer"),
        (("reserve", "child"), "timer"),
    ],
)
@in_a_loop
async def test_changed_code_does_not(steps: tuple[str, ...], says: str) -> None:
    async with make_engine(*STEPS).testing() as env:
        history = await ran(env, to_the_end=False)
    with pytest.raises(NonDeterminismError, match=says):
        replay_history(make_engine(*steps), history)


@in_a_loop
async def test_an_exported_history_is_readable_json_from_any_store(tmp_path: Path) -> None:
    engine = make_engine("reserve")
    async with engine.open(f"sqlite:///{tmp_path / 'store.db'}"):
        await (await engine.client.schedule_new_orchestration("order", "a book", instance_id="one")).result()
        exported = await export_history(engine.client, "one")
        with pytest.raises(InstanceNotFoundError):
            await export_history(engine.client, "two")
    fields: dict[str, Any] = json.loads(exported)
    assert fields["instance_id"] == "one"
    assert [event["type"] for event in fields["events"]] == ["ExecutionStarted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"]
    replay_history(engine, exported)


@in_a_loop
async def test_what_cannot_be_replayed_is_refused() -> None:
    async with make_engine("reserve").testing() as env:
        history = await ran(env, to_the_end=True)
    with pytest.raises(NotRegisteredError, match="order"):
        replay_history(DurableEngine(), history)
    fields = json.loads(history)
    with pytest.raises(ValueError, match="does not begin with the start"):
        replay_history(make_engine("reserve"), json.dumps({**fields, "events": fields["events"][1:]}))


def exiting_at(step: int, log: list[str]) -> DurableEngine:
    """A program that leaves the test's process at this step, as ``sys.exit`` in an orchestrator does."""
    engine = make_engine()

    @engine.orchestrator(name="careful")
    async def careful(ctx: OrchestrationContext) -> None:
        async def aside() -> None:
            try:
                await ctx.wait_for_external_event("never")
            finally:
                log.append("aside")

        background = asyncio.create_task(aside())
        try:
            await ctx.call_activity("reserve", "a")
            if step == 1:
                raise SystemExit(3)
            await ctx.call_activity("charge" if step == 2 else "reserve", "b")
            await background
        finally:
            log.append("root")

    return engine


@pytest.mark.parametrize(("step", "raises"), [(0, None), (1, SystemExit), (2, NonDeterminismError)])
def test_a_replay_is_closed_however_it_ends(step: int, raises: type[BaseException] | None, recwarn: pytest.WarningsRecorder) -> None:
    recorded: list[str] = []

    async def record() -> str:
        async with exiting_at(0, recorded).testing() as env:
            await env.client.schedule_new_orchestration("careful", instance_id="one")
            await env.advance()
            return await export_history(env.client, "one")

    history, log = asyncio.run(record()), list[str]()
    if raises is None:
        replay_history(exiting_at(step, log), history)
    else:
        with pytest.raises(raises):
            replay_history(exiting_at(step, log), history)
    assert sorted(log) == ["aside", "root"], "not whenever the garbage collector comes by"
    gc.collect()
    assert len(log) == 2
    assert not recwarn.list
