"""Suspend, resume, terminate, reuse of ids, delayed starts, children and parents, queries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_core import (
    InstanceAlreadyExistsError,
    InstanceStatus,
    OrchestrationContext,
    OrchestrationFailedError,
    TaskFailedError,
    activity,
    orchestrator,
)
from durable_core.events import ExecutionResumed, ExecutionSuspended, TimerFired
from tests.runtime.support import PATIENCE, SECOND, engine_with, until, until_status

RUNNING, SUSPENDED = InstanceStatus.RUNNING, InstanceStatus.SUSPENDED
COMPLETED, FAILED, TERMINATED = InstanceStatus.COMPLETED, InstanceStatus.FAILED, InstanceStatus.TERMINATED


@orchestrator
async def waiting(ctx: OrchestrationContext) -> str:
    return await ctx.wait_for_external_event("go", return_type=str)


@orchestrator
async def collecting(ctx: OrchestrationContext, count: int) -> list[Any]:
    return [await ctx.wait_for_external_event("n") for _ in range(count)]


@orchestrator
async def answering(ctx: OrchestrationContext, answer: Any) -> Any:
    return answer


# ── suspend, resume, terminate ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ("suspend", SUSPENDED),
        ("resume", RUNNING),
        ("terminate", TERMINATED),
        ("suspend suspend", SUSPENDED),
        ("suspend resume", RUNNING),
        ("suspend suspend resume", RUNNING),
        ("suspend terminate", TERMINATED),
        ("suspend resume suspend", SUSPENDED),
        ("suspend resume terminate", TERMINATED),
        ("suspend suspend terminate", TERMINATED),
        ("suspend resume suspend terminate", TERMINATED),
        ("terminate terminate", TERMINATED),
        ("terminate suspend resume", TERMINATED),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_suspend_resume_and_terminate_in_every_order(url, run, steps, status, at_once):
    """``at_once``: without waiting for one to take effect before the next is sent."""
    engine = engine_with(waiting)
    ends = {"suspend": SUSPENDED, "resume": RUNNING, "terminate": TERMINATED}

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(waiting)
            await client.wait_for_start(handle.id, PATIENCE)
            ended = False
            for step in steps.split():
                accepted = await (client.terminate(handle.id, output="over") if step == "terminate" else getattr(client, step)(handle.id))
                if not at_once:
                    assert accepted is not ended
                    ended = ended or step == "terminate"
                    await until_status(client, handle.id, TERMINATED if ended else ends[step])
            await until_status(client, handle.id, status)
            if status is TERMINATED:
                with pytest.raises(OrchestrationFailedError, match="terminated"):
                    await handle.result(PATIENCE)
                assert (await handle.state()).output_as(str) == "over"
            else:
                await client.raise_event(handle.id, "go", "on")
                await client.resume(handle.id)
                assert await handle.result(PATIENCE) == "on"

    run(main)


def test_what_arrives_while_suspended_is_applied_in_order_after_resume(url, run):
    """Events, a timer that falls due, and the result of an activity."""
    leave = asyncio.Event()

    @activity
    async def slow() -> str:
        await leave.wait()
        return "done"

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        seen: list[Any] = []

        async def note(awaitable: Any, what: str) -> None:
            await awaitable
            seen.append(what)

        async with asyncio.TaskGroup() as group:
            group.create_task(note(ctx.call_activity(slow), "activity"))
            group.create_task(note(ctx.create_timer(0.3 * SECOND), "timer"))
            for n in range(3):
                group.create_task(note(ctx.wait_for_external_event("n"), f"event {n}"))
        return seen

    engine = engine_with(slow, root)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(root)
            await client.wait_for_start(handle.id, PATIENCE)
            await client.suspend(handle.id, "lunch")
            before = await until_status(client, handle.id, SUSPENDED)
            leave.set()
            for _ in range(3):
                await client.raise_event(handle.id, "n")
            await asyncio.sleep(0.5)  # the timer is due by now
            assert (await handle.state()).history_length == before.history_length, "no turn ran"
            await client.resume(handle.id, "back")
            return await handle.result(PATIENCE), await client.get_history(handle.id)

    seen, history = run(main)
    assert sorted(seen) == ["activity", "event 0", "event 1", "event 2", "timer"]
    assert [what for what in seen if what.startswith("event")] == ["event 0", "event 1", "event 2"]
    kinds = [type(event) for event in history]
    assert kinds.index(ExecutionResumed) == kinds.index(ExecutionSuspended) + 1
    assert kinds.count(TimerFired) == 1
    reasons = [event.reason for event in history if isinstance(event, ExecutionSuspended | ExecutionResumed)]
    assert reasons == ["lunch", "back"]


def test_a_suspended_instance_stays_so_in_the_next_process(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = engine_with(collecting)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(collecting, 2)
            await engine.client.raise_event(handle.id, "n", 1)
            await engine.client.suspend(handle.id)
            await until_status(engine.client, handle.id, SUSPENDED)
        async with engine.open(url):
            await engine.client.raise_event(handle.id, "n", 2)
            with pytest.raises(TimeoutError):
                await engine.client.wait_for_completion(handle.id, 0.3 * SECOND)
            await engine.client.resume(handle.id)
            return (await engine.client.wait_for_completion(handle.id, PATIENCE)).output_as(list[int])

    assert run(main) == [1, 2]


def test_terminate_may_leave_children_alone(url, run):
    @orchestrator
    async def parent(ctx: OrchestrationContext) -> str:
        return await ctx.call_sub_orchestrator(waiting, instance_id="child")

    engine = engine_with(parent, waiting)

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(parent, instance_id="p")
            await until_status(client, "child", RUNNING)
            await client.terminate("p", recursive=False)
            await until_status(client, "p", TERMINATED)
            await client.raise_event("child", "go", "on")
            assert (await client.wait_for_completion("child", PATIENCE)).output_as(str) == "on"

    run(main)


def test_terminate_needs_neither_the_code_nor_a_healthy_instance(url, run):
    @orchestrator
    async def stuck(ctx: OrchestrationContext) -> None:
        await asyncio.Event().wait()

    with_code, without = engine_with(stuck), engine_with()

    async def main():
        async with with_code.open(url):
            await with_code.client.schedule_new_orchestration(stuck, instance_id="s")

            async def problem():
                return (await with_code.client.get_instance("s")).problem

            await until(problem)
        async with without.open(url):
            await without.client.terminate("s", output=7)
            assert (await until_status(without.client, "s", TERMINATED)).output_as(int) == 7

    run(main)


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reuse_of_an_id_that_runs(url, run):
    engine = engine_with(waiting, answering)

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(waiting, instance_id="i")
            await until_status(client, "i", RUNNING)
            old = (await client.get_instance("i")).execution_id
            for policy in ("error", "replace_ended"):
                with pytest.raises(InstanceAlreadyExistsError, match="'i'"):
                    await client.schedule_new_orchestration(answering, 1, instance_id="i", reuse_policy=policy)
            await client.schedule_new_orchestration(answering, 1, instance_id="i", reuse_policy="return_existing")
            assert (await client.get_instance("i")).execution_id == old
            anew = await client.schedule_new_orchestration(answering, 2, instance_id="i", reuse_policy="terminate_and_replace")
            assert await anew.result(PATIENCE) == 2
            state = await client.get_instance("i")
            assert (state.name, state.execution_id != old) == ("answering", True)
            assert (
                await (await client.schedule_new_orchestration(answering, 3, instance_id="i", reuse_policy="replace_ended")).result() == 3
            )
            assert (
                await (await client.schedule_new_orchestration(answering, 4, instance_id="i", reuse_policy="return_existing")).result() == 3
            )

    run(main)


def test_terminate_and_replace_lets_nothing_of_the_old_one_reach_the_new_one(url, run):
    leave = asyncio.Event()

    @activity
    async def slow(n: int) -> int:
        if n == 0:
            await leave.wait()
        return n

    @orchestrator
    async def root(ctx: OrchestrationContext, n: int) -> list[Any]:
        result = await ctx.call_activity(slow, n)
        return [result, await ctx.wait_for_external_event("n")]

    engine = engine_with(slow, root)

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(root, 0, instance_id="i")
            await until_status(client, "i", RUNNING)
            await client.raise_event("i", "n", "old")
            handle = await client.schedule_new_orchestration(root, 1, instance_id="i", reuse_policy="terminate_and_replace")
            leave.set()
            await client.raise_event("i", "n", "new")
            return await handle.result(PATIENCE)

    assert run(main) == [1, "new"]


def test_replacing_a_child_fails_the_call_of_its_parent(url, run):
    @orchestrator
    async def parent(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.call_sub_orchestrator(waiting, instance_id="child")
        except TaskFailedError as error:
            return error.details.message

    engine = engine_with(parent, waiting, answering)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(parent)
            await until_status(engine.client, "child", RUNNING)
            await engine.client.schedule_new_orchestration(answering, 1, instance_id="child", reuse_policy="terminate_and_replace")
            return await handle.result(PATIENCE)

    assert "was purged or replaced before it ended" in run(main)


# ── starting later ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_start_is_pending_until_then_and_can_be_terminated(url, run):
    engine = engine_with(answering)

    async def main():
        async with engine.open(url):
            client = engine.client
            later = datetime.now(UTC) + timedelta(days=10_000)
            await client.schedule_new_orchestration(answering, 1, instance_id="never", start_at=later)
            handle = await client.schedule_new_orchestration(answering, 2, start_at=datetime.now(UTC) + SECOND)
            assert (await handle.state()).runtime_status is InstanceStatus.PENDING
            assert await handle.result(PATIENCE) == 2
            assert (await client.get_instance("never")).runtime_status is InstanceStatus.PENDING
            await client.terminate("never")
            await until_status(client, "never", TERMINATED)
            past = await client.schedule_new_orchestration(answering, 3, start_at=datetime(2001, 1, 1, tzinfo=UTC))
            assert await past.result(PATIENCE) == 3

    run(main)


# ── custom status ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_custom_status_shows_while_it_runs_and_after(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        for step in range(3):
            ctx.set_custom_status({"step": step})
            await ctx.wait_for_external_event("next")

    engine = engine_with(root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)

            async def step() -> Any:
                return ((await handle.state()).custom_status_as(dict[str, int]) or {}).get("step")

            for n in range(3):
                await until(lambda n=n: _equals(step(), n))
                await engine.client.raise_event(handle.id, "next")
            await handle.result(PATIENCE)
            return await step()

    assert run(main) == 2


async def _equals(answer: Any, wanted: Any) -> bool:
    return bool(await answer == wanted)


# ── parents and children ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["completes", "fails"])
def test_a_parent_that_ends_leaves_its_children_running(url, run, ending):
    @orchestrator
    async def parent(ctx: OrchestrationContext) -> None:
        ctx.call_sub_orchestrator(waiting, instance_id="child")
        await ctx.create_timer(0 * SECOND)
        if ending == "fails":
            raise ValueError("the end")

    engine = engine_with(parent, waiting)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(parent)
            end = await client.wait_for_completion(handle.id, PATIENCE)
            assert end.runtime_status is (COMPLETED if ending == "completes" else FAILED)
            await until_status(client, "child", RUNNING)
            await client.raise_event("child", "go", "on")
            assert (await client.wait_for_completion("child", PATIENCE)).output_as(str) == "on"
            assert (await handle.state()).history_length == end.history_length

    run(main)


def test_an_ended_child_of_the_same_parent_is_replaced_also_after_continue_as_new(url, run):
    @orchestrator
    async def parent(ctx: OrchestrationContext, generation: int) -> list[Any]:
        results = [await ctx.call_sub_orchestrator(answering, n, instance_id="child") for n in (generation, generation + 1)]
        if generation == 0:
            ctx.continue_as_new(10)
        return results

    engine = engine_with(parent, answering)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(parent, 0)).result(PATIENCE)

    assert run(main) == [10, 11]


def test_default_ids_of_children_never_collide(url, run):
    @orchestrator
    async def child(ctx: OrchestrationContext) -> str:
        assert ctx.parent is not None
        assert ctx.instance_id.startswith(f"{ctx.parent.execution_id}:")
        return ctx.instance_id

    @orchestrator
    async def parent(ctx: OrchestrationContext, seen: list[str]) -> list[str]:
        seen = [*seen, *await asyncio.gather(*(ctx.call_sub_orchestrator(child) for _ in range(3)))]
        if len(seen) < 9:
            ctx.continue_as_new(seen)
        return seen

    engine = engine_with(parent, child)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(parent, [])).result(PATIENCE)

    assert len(set(run(main))) == 9


# ── queries ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_queries_filter_and_page(url, run):
    @orchestrator
    async def parent(ctx: OrchestrationContext) -> None:
        ctx.call_sub_orchestrator(waiting, instance_id="child-a")
        ctx.call_sub_orchestrator(waiting, instance_id="child-b")
        await ctx.wait_for_external_event("never")

    @orchestrator
    async def failing(ctx: OrchestrationContext) -> None:
        raise ValueError("no")

    engine = engine_with(parent, waiting, answering, failing)

    async def main():
        async with engine.open(url):
            client = engine.client

            async def ids(**conditions: Any) -> list[str]:
                return [state.instance_id async for state in client.query_instances(**conditions)]

            for n in range(7):
                await client.schedule_new_orchestration(answering, n, instance_id=f"answer-{n}")
            await client.schedule_new_orchestration(failing, instance_id="fails")
            for id in ("answer-6", "fails"):
                await client.wait_for_completion(id, PATIENCE)
            middle = (await client.get_instance("fails")).created_at
            await client.schedule_new_orchestration(parent, instance_id="parent")
            await until_status(client, "child-b", RUNNING)
            await until_status(client, "child-a", RUNNING)

            answers = [f"answer-{n}" for n in range(7)]
            assert await ids(statuses={COMPLETED}) == answers
            assert await ids(statuses={FAILED}) == ["fails"]
            assert sorted(await ids(statuses={RUNNING})) == ["child-a", "child-b", "parent"]
            assert await ids(statuses={TERMINATED}) == []
            assert await ids(name="failing") == ["fails"]
            assert await ids(id_prefix="answer-") == answers
            assert sorted(await ids(parent="parent")) == ["child-a", "child-b"]
            assert sorted(await ids(created_from=middle)) == ["child-a", "child-b", "fails", "parent"]
            assert await ids(created_to=middle, name="answering") == answers
            assert await ids(statuses={COMPLETED, FAILED}, id_prefix="f") == ["fails"]
            everything = await ids()
            assert len(everything) == 11
            for size in (1, 2, 5, 11, 100):
                assert await ids(page_size=size) == everything

    run(main)
