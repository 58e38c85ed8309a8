# mypy: ignore-errors
# That is for the repository's own mypy run. test_typing.py takes it out and has mypy --strict and pyright check the rest:
# both must report each line with a mark, and no other.
"""Mistakes that type checkers must find."""

from __future__ import annotations

from datetime import timedelta

from durable_core import DurableClient, DurableEngine, OrchestrationContext, RetryPolicy

engine = DurableEngine()
retry = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


@engine.activity
async def one(x: int) -> str:
    return str(x)


@engine.orchestrator
async def takes_floats(ctx: OrchestrationContext, numbers: list[float]) -> list[int]:
    return []


@engine.entity
class Counter:
    value: int = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


async def mistakes(ctx: OrchestrationContext, client: DurableClient) -> None:
    ctx.call_activity(one, "bad")  # E1
    ctx.call_activity(one)  # E2
    ctx.call_activity(one, "bad", retry=retry)  # E3
    ctx.call_activity(one, 1, retry=5)  # E4
    ctx.call_sub_orchestrator(takes_floats, "bad")  # E5
    ctx.call_sub_orchestrator(takes_floats)  # E6
    await client.schedule_new_orchestration(takes_floats, "bad", instance_id="x")  # E7
    ctx.entity(Counter, "key").call(Counter.add, "bad")  # E8
    ctx.entity(Counter, "key").call(str.upper)  # E9
    result: bytes = await ctx.call_activity(one, 1)  # E10
    handle = client.get_handle(takes_floats, "x")
    output: list[str] = await handle.result()  # E11
    ctx.entity(Counter, "key").signal(Counter.add)  # E12
    await client.schedule_new_orchestration(takes_floats, 5)  # E13
    await client.schedule_new_orchestration(takes_floats, instance_id="x")  # E14
    ctx.call_activity(one.with_options(retry=retry), "bad")  # E15
    one.with_options(retry=5)  # E16
    await one("bad")  # E17
    del result, output


@engine.activity(executor="fiber")  # E18
def wrong_option(x: int) -> int:
    return x


@engine.orchestrator  # E19
def not_async(ctx: OrchestrationContext, x: int) -> int:
    return x


@engine.orchestrator  # E20
async def without_context(x: int) -> int:
    return x
