"""Definitions at module level, so that another process can import them."""

from __future__ import annotations

import asyncio
import os
import threading

from durable_core import OrchestrationContext, activity, orchestrator


@activity
def square_in_thread(x: int) -> list[int]:
    return [x * x, os.getpid(), threading.get_ident()]


@activity(executor="process")
def square_in_process(x: int) -> list[int]:
    return [x * x, os.getpid(), threading.get_ident()]


@orchestrator
async def in_thread(ctx: OrchestrationContext, n: int) -> list[list[int]]:
    return await asyncio.gather(*(ctx.call_activity(square_in_thread, x) for x in range(n)))


@orchestrator
async def in_process(ctx: OrchestrationContext, n: int) -> list[list[int]]:
    return await asyncio.gather(*(ctx.call_activity(square_in_process, x) for x in range(n)))


@activity(executor="process")
def die() -> None:
    os._exit(9)


@orchestrator
async def in_dying_process(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(die)
