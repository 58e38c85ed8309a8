"""What the end-to-end tests run: one small orchestrator a feature.

Activities append a line to the *effect log* before they do anything else: a file outside the store, which no crash of the store can take
back.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from durable_core import (
    ActivityContext,
    DurableEngine,
    EntityId,
    OrchestrationContext,
    RetryPolicy,
    TaskFailedError,
    WorkerOptions,
    activity,
    entity,
    orchestrator,
)

MOMENT = timedelta(milliseconds=50)
TTL_S = 2.0
"""How long a worker lives without a heartbeat; beats come four times as often as they have to on a machine that is busy."""

_log: list[Path] = []


def new_engine(log: Path) -> DurableEngine:
    """With everything of this module. Its effects go to ``log``, as those of all engines of this process."""
    import durable_conformance.programs as definitions

    _log[:] = [log]
    options = WorkerOptions(heartbeat_s=0.25, worker_ttl_s=TTL_S, poll_s=0.2, hold_s=5.0, drain_s=0.1, first_backoff_s=0.05)
    engine = DurableEngine(options=options)
    engine.register(definitions)
    return engine


def effects(log: Path) -> list[str]:
    """ "instance label" each, in order."""
    return log.read_text().splitlines() if log.exists() else []


def _note(ctx: ActivityContext, label: str) -> None:
    with _log[0].open("a") as file:
        file.write(f"{ctx.instance_id} {label}\n")


# ── activities ───────────────────────────────────────────────────────────────────────────────────────────────────


@activity
async def step(ctx: ActivityContext, label: str) -> str:
    _note(ctx, label)
    return label


@activity
async def slow(ctx: ActivityContext, label: str, seconds: float) -> str:
    _note(ctx, label)
    await asyncio.sleep(seconds)
    return label


@activity
async def flaky(ctx: ActivityContext, label: str, failures: int) -> str:
    """Fails that often, counted by the effect log: by whoever runs it."""
    _note(ctx, label)
    if effects(_log[0]).count(f"{ctx.instance_id} {label}") <= failures:
        raise ValueError("not yet")
    return label


@activity
async def wordless(ctx: ActivityContext) -> str:
    _note(ctx, "wordless")
    raise ValueError("")


# ── orchestrators ────────────────────────────────────────────────────────────────────────────────────────────────


@orchestrator
async def chain(ctx: OrchestrationContext, length: int) -> list[str]:
    return [await ctx.call_activity(step, f"step {number}") for number in range(length)]


@orchestrator
async def fan(ctx: OrchestrationContext, width: int) -> list[str]:
    ctx.set_custom_status("begun")
    first = await ctx.call_activity(slow, "first", 0.1)
    ctx.set_custom_status("half")
    return [first, *await asyncio.gather(*(ctx.call_activity(slow, f"part {number}", 0.02) for number in range(width)))]


@orchestrator
async def stubborn(ctx: OrchestrationContext) -> list[str]:
    retry = RetryPolicy(first_retry_interval=MOMENT, max_number_of_attempts=6)
    result = await ctx.call_activity(flaky, "flaky", 2, retry=retry)
    try:
        await ctx.call_activity(wordless)
    except TaskFailedError as error:
        return [result, f"failed: {error.details.message!r}"]
    return [result, "an activity that failed without a word counts as a success"]


@orchestrator
async def alarms(ctx: OrchestrationContext) -> list[int]:
    """By how many milliseconds each of three timers was late, set together and in another order than they fall due."""
    begun = ctx.current_utc_datetime

    async def wait(milliseconds: int) -> int:
        due = begun + timedelta(milliseconds=milliseconds)
        await ctx.create_timer(due)
        return int((ctx.current_utc_datetime - due) / timedelta(milliseconds=1))

    cancelled = asyncio.create_task(wait(100))
    await asyncio.sleep(0)
    cancelled.cancel()
    return list(await asyncio.gather(*map(wait, (600, 200, 400))))


@orchestrator
async def collector(ctx: OrchestrationContext, count: int) -> list[int]:
    return [await ctx.wait_for_external_event("number", return_type=int) for _ in range(count)]


@orchestrator
async def generations(ctx: OrchestrationContext, so_far: list[int], count: int) -> list[int]:
    """A generation takes one event; what arrives meanwhile is for the next ones."""
    if len(so_far) == count:
        return so_far
    so_far.append(await ctx.wait_for_external_event("number", return_type=int))
    ctx.continue_as_new(so_far, count)
    return []


@orchestrator
async def sleeps_first(ctx: OrchestrationContext, generation: int) -> str:
    """A timer is the first thing that each generation does."""
    await ctx.create_timer(MOMENT)
    if generation < 3:
        ctx.continue_as_new(generation + 1)
        return ""
    return "rested"


@orchestrator
async def family(ctx: OrchestrationContext) -> list[str]:
    """Two children of this parent, one that takes longer than a worker's lease, and one whose id is taken."""
    own = [ctx.call_sub_orchestrator(chain, 3, instance_id=f"{ctx.instance_id}.{number}") for number in range(2)]
    long = ctx.call_sub_orchestrator(long_child, TTL_S * 1.2, instance_id=f"{ctx.instance_id}.long")
    try:
        await ctx.call_sub_orchestrator(chain, 1, instance_id="taken")
    except TaskFailedError:
        bounced = "bounced"
    else:
        bounced = "an id was taken twice"
    return [*(" ".join(result) for result in await asyncio.gather(*own)), await long, bounced]


@orchestrator
async def long_child(ctx: OrchestrationContext, seconds: float) -> str:
    return await ctx.call_activity(slow, "long", seconds)


@entity
class Tally:
    total: int = 0
    seen: list[str]

    def __init__(self) -> None:
        self.seen = []

    def add(self, amount: int, who: str) -> int:
        self.total += amount
        self.seen.append(who)
        return self.total

    def get(self) -> int:
        return self.total

    def refuse(self) -> None:
        self.total = -1
        raise ValueError("refused")


@orchestrator
async def counts(ctx: OrchestrationContext, key: str, times: int) -> list[int]:
    """Calls and signals by turns."""
    tally = ctx.entity(Tally, key)
    totals = []
    for number in range(times):
        tally.signal(Tally.add, 10, f"{ctx.instance_id} signal {number}")
        totals.append(await tally.call(Tally.add, 1, f"{ctx.instance_id} call {number}"))
    try:
        await tally.call(Tally.refuse)
    except TaskFailedError:
        return totals
    return []


@orchestrator
async def transfer(ctx: OrchestrationContext, source: str, target: str, fails: bool) -> bool:
    """What another one does between the two calls would show."""
    here, there = ctx.entity(Tally, source), ctx.entity(Tally, target)
    async with ctx.lock_entities(EntityId("tally", source), EntityId("tally", target)):
        before = await here.call(Tally.get) + await there.call(Tally.get)
        await here.call(Tally.add, -1, ctx.instance_id)
        await ctx.call_activity(step, "inside")
        await there.call(Tally.add, 1, ctx.instance_id)
        if fails:
            raise ValueError("inside the critical section")
        return before == await here.call(Tally.get) + await there.call(Tally.get)


@orchestrator
async def waits(ctx: OrchestrationContext, children: int) -> str:
    """For an event, with children that do the same and an activity that nobody waits for."""
    for number in range(children):
        asyncio.create_task(_quietly(ctx, number))  # noqa: RUF006  # the loop inside an orchestrator keeps its tasks
    ctx.set_custom_status("waiting")
    return await ctx.wait_for_external_event("go", return_type=str)


async def _quietly(ctx: OrchestrationContext, number: int) -> None:
    await ctx.call_sub_orchestrator(waits, 0, instance_id=f"{ctx.instance_id}.{number}")


@orchestrator
async def pen_pals(ctx: OrchestrationContext, other: str, letters: int) -> int:
    """Each writes before it reads, once it is told that both are there."""
    received = 0
    await ctx.wait_for_external_event("begin")
    for number in range(letters):
        ctx.send_event(other, "letter", number)
        received += await ctx.wait_for_external_event("letter", return_type=int) == number
    return received
