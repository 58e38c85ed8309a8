"""Restarting and purging."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from durable_core import (
    DurableEngine,
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStatus,
    OrchestrationContext,
    OrchestrationFailedError,
)
from durable_core.errors import UsageError

SECOND = timedelta(seconds=1)
engine = DurableEngine()
runs: list[str] = []


@engine.activity
async def ran(what: str) -> int:
    runs.append(what)
    return len(runs)


@engine.orchestrator
async def once(ctx: OrchestrationContext, what: str, fails: bool = False) -> int:
    number = await ctx.call_activity(ran, f"{ctx.instance_id}: {what}")
    if fails:
        raise ValueError("as asked")
    return number


@engine.orchestrator
async def tree(ctx: OrchestrationContext, depth: int, waits: bool = False) -> int:
    if depth == 0:
        if waits:
            await ctx.wait_for_external_event("go")
        return 1
    ids = [f"{ctx.instance_id}.{number}" for number in range(2)]
    return sum(await asyncio.gather(*(ctx.call_sub_orchestrator(tree, depth - 1, waits, instance_id=id) for id in ids)))


async def ids(client) -> list[str]:
    return sorted([state.instance_id async for state in client.query_instances()])


def test_restart_runs_the_same_input_again(url, run):
    runs.clear()

    async def main():
        async with engine.open(url):
            client = engine.client
            first = await client.schedule_new_orchestration("once", "x", True, instance_id="a", tags={"team": "blue"})
            with pytest.raises(OrchestrationFailedError, match="as asked"):
                await first.result(20 * SECOND)
            before = await client.get_instance("a")
            assert await client.restart("a") == "a"
            with pytest.raises(OrchestrationFailedError, match="as asked"):
                await client.get_handle(once, "a").result(20 * SECOND)
            assert await client.restart("a", new_instance_id="b") == "b"
            with pytest.raises(OrchestrationFailedError, match="as asked"):
                await client.get_handle(once, "b").result(20 * SECOND)
            again, other = await client.get_instance("a"), await client.get_instance("b")
            assert again.execution_id != before.execution_id
            assert (again.serialized_input, again.tags, other.tags) == (before.serialized_input, {"team": "blue"}, {"team": "blue"})
            with pytest.raises(InstanceAlreadyExistsError, match="'b' exists already"):
                await client.restart("a", new_instance_id="b")

    run(main)
    assert runs == ["a: x", "a: x", "b: x"]


def test_restart_of_what_has_not_ended_or_is_not_there(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(tree, 0, True, instance_id="waits")
            with pytest.raises(InstanceAlreadyExistsError, match="has not ended: terminate it first"):
                await client.restart("waits")
            assert await client.restart("waits", new_instance_id="twin") == "twin"
            with pytest.raises(InstanceNotFoundError):
                await client.restart("nobody")

    run(main)


def test_purge_reaches_the_children(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            await (await client.schedule_new_orchestration(tree, 2, instance_id="t")).result(20 * SECOND)
            await (await client.schedule_new_orchestration(once, "x", instance_id="other")).result(20 * SECOND)
            assert len(await ids(client)) == 8
            assert await client.purge("t.0", recursive=False) == 1
            assert await client.purge("t") == 4, "t.0 is gone, and nobody knows whose its children are"
            assert await ids(client) == ["other", "t.0.0", "t.0.1"]
            with pytest.raises(InstanceNotFoundError):
                await client.purge("t")

    run(main)


def test_what_has_not_ended_is_purged_by_force_only(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(tree, 1, True, instance_id="t")
            await client.wait_for_start("t")
            async with asyncio.timeout(20):
                while len(await ids(client)) < 3:
                    await asyncio.sleep(0.01)
            with pytest.raises(UsageError, match="only ended instances are purged"):
                await client.purge("t")
            assert len(await ids(client)) == 3
            assert await client.purge("t", force=True) == 3
            assert await ids(client) == []

    run(main)


def test_purge_by_filter(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            for name, fails in (("a1", False), ("a2", True), ("b1", False)):
                handle = await client.schedule_new_orchestration(once, "x", fails, instance_id=name)
                await client.wait_for_completion(handle.id, 20 * SECOND)
            await client.schedule_new_orchestration(tree, 0, True, instance_id="a3")
            assert await client.purge_instances(updated_to=datetime(2020, 1, 1, tzinfo=UTC)) == 0
            assert await client.purge_instances(statuses={InstanceStatus.FAILED}) == 1
            assert await client.purge_instances(id_prefix="a") == 1
            assert await ids(client) == ["a3", "b1"]
            assert await client.purge_instances(name="tree") == 0, "it has not ended"
            assert await client.purge_instances() == 1
            assert await ids(client) == ["a3"]

    run(main)


def test_whoever_waits_for_an_instance_that_is_purged_here_knows_at_once(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(tree, 0, True, instance_id="t")
            await client.wait_for_start("t")
            waiting = asyncio.create_task(handle.result())
            await asyncio.sleep(0.05)
            await client.purge("t", force=True)
            async with asyncio.timeout(2):
                with pytest.raises(InstanceNotFoundError):
                    await waiting

    run(main)


@pytest.mark.parametrize("how", ["returns", "fails", "continues"])
@pytest.mark.parametrize("bound", [True, False])
def test_children_end_with_their_parent_if_they_are_bound_to_it(url, run, how, bound):
    @engine.orchestrator(name=f"parent {how} {bound} {url}")
    async def parent(ctx: OrchestrationContext, again: bool) -> None:
        if again:
            return
        ctx.call_sub_orchestrator(tree, 0, True, instance_id="child", terminate_with_parent=bound)
        await ctx.call_sub_orchestrator(tree, 0, False, instance_id="quick", terminate_with_parent=bound)
        if how == "fails":
            raise ValueError("as asked")
        if how == "continues":
            ctx.continue_as_new(True)

    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(parent, False)
            await client.wait_for_completion(handle.id, 20 * SECOND)
            if bound:
                child = await client.wait_for_completion("child", 20 * SECOND)
                assert child.runtime_status is InstanceStatus.TERMINATED
            else:
                await client.raise_event("child", "go")
                assert await client.get_handle(tree, "child").result(20 * SECOND) == 1
            assert (await client.get_instance("quick")).runtime_status is InstanceStatus.COMPLETED

    run(main)
