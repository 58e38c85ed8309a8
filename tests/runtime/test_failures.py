"""What is known of a failure after it passed through activities, children and clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_core import (
    ActivityContext,
    InstanceStatus,
    OrchestrationContext,
    OrchestrationFailedError,
    RetryPolicy,
    TaskFailedError,
    activity,
    orchestrator,
)
from durable_core.events import TaskScheduled
from tests.runtime.support import PATIENCE, SECOND, engine_with


class CardDeclinedError(Exception):
    non_retriable = True

    def __init__(self, text: str, card: str) -> None:
        super().__init__(text)
        self.failure_properties = {"card": card}


@activity
async def pay(card: str) -> None:
    try:
        raise ConnectionResetError("the bank hung up")
    except ConnectionResetError as error:
        raise CardDeclinedError("declined", card) from error


@orchestrator
async def bottom(ctx: OrchestrationContext, card: str) -> None:
    await ctx.call_activity(pay, card, retry=RetryPolicy(max_number_of_attempts=5))


@orchestrator
async def middle(ctx: OrchestrationContext, card: str) -> None:
    try:
        await ctx.call_sub_orchestrator(bottom, card)
    except TaskFailedError as error:
        raise LookupError("no other card") from error


@orchestrator
async def top(ctx: OrchestrationContext, card: str) -> None:
    await ctx.call_sub_orchestrator(middle, card)


async def failure_of(engine: Any, *call: Any) -> Any:
    handle = await engine.client.schedule_new_orchestration(*call)
    with pytest.raises(OrchestrationFailedError) as caught:
        await handle.result(PATIENCE)
    assert caught.value.details == (await engine.client.get_instance(handle.id)).failure
    return caught.value.details


def test_details_survive_three_levels_of_orchestrations(url, run):
    engine = engine_with(pay, bottom, middle, top)

    async def main():
        async with engine.open(url):
            details = await failure_of(engine, top, "4711")
            [child] = [s.instance_id async for s in engine.client.query_instances(name="bottom")]
            return details, await engine.client.get_history(child)

    details, history = run(main)
    chain = list(details.chain())
    assert [link.type.rpartition(".")[2] for link in chain] == [
        "TaskFailedError",
        "LookupError",
        "TaskFailedError",
        "TaskFailedError",
        "CardDeclinedError",
        "ConnectionResetError",
    ]
    declined = chain[4]
    assert (declined.message, declined.properties, declined.non_retriable) == ("declined", {"card": "4711"}, True)
    assert "in pay" in declined.stack
    assert "test_failures.py" in declined.stack
    assert "in middle" in chain[1].stack
    assert details.is_caused_by(CardDeclinedError)
    assert details.is_caused_by(OSError), "a builtin base class of one of the causes"
    assert details.is_caused_by("LookupError")
    assert not details.is_caused_by(ValueError)
    assert len([event for event in history if isinstance(event, TaskScheduled)]) == 1, "non_retriable: one attempt in spite of the policy"


def test_a_failure_can_be_caught_and_asked_about_at_every_level(url, run):
    @orchestrator
    async def careful(ctx: OrchestrationContext) -> list[str]:
        try:
            await ctx.call_sub_orchestrator(middle, "4712")
        except TaskFailedError as error:
            properties = [link.properties for link in error.details.chain() if link.properties]
            return [error.name, str(error.details.is_caused_by(CardDeclinedError)), properties[0]["card"]]
        return []

    engine = engine_with(pay, bottom, middle, careful)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(careful)).result(PATIENCE)

    assert run(main) == ["middle", "True", "4712"]


def test_the_members_of_a_group_are_in_the_details(url, run):
    @activity
    async def refuse(n: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(f"no {n}") if n else KeyError("zero")

    @orchestrator
    async def group(ctx: OrchestrationContext) -> None:
        async def wait_and_raise(n: int) -> None:
            try:
                await ctx.call_activity(refuse, n)
            except TaskFailedError as error:
                failures.append(error)

        failures: list[Exception] = []
        await asyncio.gather(*(wait_and_raise(n) for n in range(3)))
        raise ExceptionGroup("all failed", failures)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(group)

    engine = engine_with(refuse, group, root)

    async def main():
        async with engine.open(url):
            return await failure_of(engine, root)

    inner = run(main).inner
    assert (inner.type, inner.member_count) == ("ExceptionGroup", 3)
    assert {str(member.inner) for member in inner.members} == {"KeyError: 'zero'", "ValueError: no 1", "ValueError: no 2"}
    assert inner.is_caused_by(KeyError)


def test_a_task_group_raises_a_group_that_except_star_catches(url, run):
    @activity
    async def refuse() -> None:
        raise ValueError("no")

    @orchestrator
    async def root(ctx: OrchestrationContext, star: bool) -> str:
        caught = ""
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(ctx.call_activity(refuse))
            except TaskFailedError:
                caught = "plainly"
        except* TaskFailedError as failures:
            caught = f"{len(failures.exceptions)} by a star"
            if not star:
                raise
        return caught

    engine = engine_with(refuse, root)

    async def main():
        async with engine.open(url):
            assert await (await engine.client.schedule_new_orchestration(root, True)).result(PATIENCE) == "1 by a star"
            return await failure_of(engine, root, False)

    details = run(main)
    assert details.is_caused_by(ValueError)
    assert "ExceptionGroup" in [link.type for link in details.chain()]


def test_awaiting_a_finished_call_again_gives_its_result_or_failure_again(url, run):
    @activity
    async def answer(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return n

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        good, bad = ctx.call_activity(answer, 1), ctx.call_activity(answer, -1)
        seen: list[Any] = [await good, await good]
        for _ in range(2):
            try:
                await bad
            except TaskFailedError as error:
                seen.append(error.details.message)
        return seen

    engine = engine_with(answer, root)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)

    assert run(main) == [1, 1, "negative", "negative"]


@pytest.mark.parametrize("how", ["activity", "child"])
def test_every_attempt_is_a_task_of_its_own_with_its_own_key(url, run, how):
    seen: list[tuple[str, str, int]] = []

    @activity
    async def flaky(ctx: ActivityContext) -> int:
        seen.append((ctx.instance_id, ctx.attempt_key, ctx.attempt))
        if len(seen) < 3:
            raise OSError("not yet")
        return len(seen)

    @orchestrator
    async def child(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(flaky)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        policy = RetryPolicy(max_number_of_attempts=3, first_retry_interval=0 * SECOND)
        if how == "child":
            return await ctx.call_sub_orchestrator(child, retry=policy, instance_id="the-child")
        return await ctx.call_activity(flaky, retry=policy)

    engine = engine_with(flaky, child, root)

    async def main():
        async with engine.open(url):
            result = await (await engine.client.schedule_new_orchestration(root, instance_id="r")).result(PATIENCE)
            return result, await engine.client.get_instance("the-child")

    result, state = run(main)
    assert result == 3
    expected = [("the-child", 1)] * 3 if how == "child" else [("r", 1), ("r", 2), ("r", 3)]
    assert [(instance, attempt) for instance, _, attempt in seen] == expected
    assert len({key for _, key, _ in seen}) == 3
    if how == "child":
        assert state.runtime_status is InstanceStatus.COMPLETED, "the failed child was replaced"
