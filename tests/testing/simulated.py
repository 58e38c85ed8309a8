"""Programs that are wrong, and only now and then: what a simulation is for."""

from __future__ import annotations

from collections import Counter
from random import Random

from durable_core import DurableClient, DurableEngine, OrchestrationContext
from durable_core.testing.simulation import outside

engine = DurableEngine()
memory: list[int] = []


@engine.activity
async def charge(who: str) -> str:
    outside().setdefault("charged", Counter())[who] += 1
    return f"{who} paid"


@engine.activity
def in_a_thread(number: int) -> int:
    return number + 1


@engine.orchestrator
async def payment(ctx: OrchestrationContext, who: str) -> str:
    return await ctx.call_activity(charge, who)


@engine.orchestrator
async def counting(ctx: OrchestrationContext) -> int:
    return await ctx.call_activity(in_a_thread, 1)


@engine.orchestrator
async def remembering(ctx: OrchestrationContext) -> str:
    """What it does depends on how often this code has run."""
    memory.append(1)
    for number in range(3):
        if len(memory) % 2:
            await ctx.call_activity(charge, str(number))
        else:
            await ctx.call_activity(in_a_thread, number)
    return "done"


async def charged_once(client: DurableClient, random: Random) -> None:
    who = f"ada {random.random()}"
    handle = await client.schedule_new_orchestration(payment, who)
    assert await handle.result() == f"{who} paid"
    assert outside()["charged"][who] == 1, "charged twice"


async def counted(client: DurableClient, random: Random) -> None:
    handle = await client.schedule_new_orchestration(counting)
    assert await handle.result() == 2


async def remembered(client: DurableClient, random: Random) -> None:
    handle = await client.schedule_new_orchestration(remembering)
    assert await handle.result() == "done"
