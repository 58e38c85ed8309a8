"""The four workloads, through the public API of durable-core. What is timed is in ``measure``; the audit comes after.

| name    | what runs                                                              | figure           |
|---------|------------------------------------------------------------------------|------------------|
| hello5  | N orchestrations started together, five no-op activities in sequence   | activities/s     |
| fanout  | one orchestration, N no-op activities, summed                          | activities/s     |
| latency | one after the other: start a one-activity orchestration, await result  | p50, p99 in ms   |
| empty   | N orchestrations that return at once                                   | orchestrations/s |
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from attrs import field, frozen

from benchmarks.audit import audit
from benchmarks.counting import CountingBackend
from durable_core import DurableClient, DurableEngine, OrchestrationContext, OrchestrationHandle, activity, orchestrator
from durable_core.definitions.orchestrator import Orchestrator

ACTIVITIES_EACH = {"hello5": 5, "fanout": 1, "latency": 1, "empty": 0}
"""Activities per unit of N."""
WORKLOADS = tuple(ACTIVITIES_EACH)


@frozen
class Measurement:
    """``seconds`` for all of it; ``latencies_s`` one by one, for the workload of that name only."""

    seconds: float
    commits: int
    latencies_s: list[float] = field(factory=list)
    operations: Counter[str] | None = None
    """Requests to a service that bills them, if the store counts them."""


@activity
async def noop(value: int) -> int:
    return value


@orchestrator
async def hello5(ctx: OrchestrationContext, value: int) -> int:
    for _ in range(5):
        value = await ctx.call_activity(noop, value)
    return value


@orchestrator
async def fanout(ctx: OrchestrationContext, n: int) -> int:
    return sum(await asyncio.gather(*(ctx.call_activity(noop, k) for k in range(n))))


@orchestrator
async def hello1(ctx: OrchestrationContext, value: int) -> int:
    return await ctx.call_activity(noop, value)


@orchestrator
async def empty(ctx: OrchestrationContext, value: int) -> int:
    return value


async def measure(workload: str, n: int, url: str) -> Measurement:
    """Run one workload on the store at ``url`` and audit every history; raises ``AuditError`` if one is wrong."""
    engine = DurableEngine()
    engine.register(noop, hello5, fanout, hello1, empty)
    store = CountingBackend.of(url)
    async with engine.open(backend=store.as_backend()):
        client = engine.client
        latencies: list[float] = []
        before, operations_before = store.commits, store.operations
        started = time.perf_counter()
        match workload:
            case "hello5":
                handles, results = await together(client, hello5, n)
            case "empty":
                handles, results = await together(client, empty, n)
            case "fanout":
                handles = [await client.schedule_new_orchestration(fanout, n)]
                results = [await handles[0].result()]
            case "latency":
                handles, results, latencies = await one_by_one(client, n)
            case _:
                raise ValueError(f"no workload {workload!r}: one of {', '.join(WORKLOADS)}")
        seconds = time.perf_counter() - started
        commits = store.commits - before
        after = store.operations
        operations = None if after is None or operations_before is None else after - operations_before
        expected = [sum(range(n))] if workload == "fanout" else list(range(n))
        activities = n if workload == "fanout" else ACTIVITIES_EACH[workload]
        for handle, result, wanted in zip(handles, results, expected, strict=True):
            audit(handle.id, await client.get_history(handle.id), activities, result, wanted)
    return Measurement(seconds, commits, latencies, operations)


async def together(client: DurableClient, definition: Orchestrator[[int], int], n: int) -> tuple[list[OrchestrationHandle[int]], list[int]]:
    handles = await asyncio.gather(*(client.schedule_new_orchestration(definition, k) for k in range(n)))
    return handles, await asyncio.gather(*(handle.result() for handle in handles))


async def one_by_one(client: DurableClient, n: int) -> tuple[list[OrchestrationHandle[int]], list[int], list[float]]:
    handles: list[OrchestrationHandle[int]] = []
    results: list[int] = []
    latencies: list[float] = []
    for k in range(n):
        started = time.perf_counter()
        handles.append(await client.schedule_new_orchestration(hello1, k))
        results.append(await handles[-1].result())
        latencies.append(time.perf_counter() - started)
    return handles, results, latencies
