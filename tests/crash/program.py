"""The program that the crash tests start, kill and start again: ``python -m tests.crash.program MODE --url sqlite:////…`` (or ``postgresql://…``).

    run      works, starts the root orchestration (or finds it started), waits for its result and prints it as JSON
    work     works from when the file --gate exists until the file --stop does
    submit   starts --count errands and prints their results; without a worker of its own

Each activity writes to the *effect log* (``--log``) when it starts to do its effect; for the tests' eyes there are also *reports*
(``--report`` is an open descriptor). Both are the journal's (``journal.py``). ``--point before:7`` kills the process (``failpoints.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import asdict, define, frozen

from durable_core import (
    ActivityContext,
    DurableEngine,
    InstanceNotFoundError,
    OrchestrationContext,
    RetryPolicy,
    StoreUnavailableError,
    TaskFailedError,
    WorkerOptions,
    activity,
    entity,
    orchestrator,
)
from tests.crash.failpoints import Commits, watch_commits
from tests.crash.journal import Journal
from tests.crash.stores import store_at

ROOT = "root"
FAILURES = 2
"""How often the flaky activity fails before it succeeds."""
SIGNALS = 3
BONUS = 1_000
GO = 7


journal = Journal()


# ── the orchestration of the kills ────────────────────────────────────────────────────────────────────────────


@frozen
class Shape:
    """``children`` of ``width`` activities at once and ``depth`` one after the other; ``generations`` of the one that continues as new."""

    children: int
    width: int
    depth: int
    generations: int


@define
class Outcome:
    children: list[int]
    reduced: int
    generations: int
    flaky: int
    go: int
    tally: int


def expected(shape: Shape) -> Outcome:
    children = [sum(range(shape.width)) + shape.depth + number for number in range(shape.children)]
    return Outcome(children, sum(children), shape.generations + BONUS, FAILURES + 1, GO, shape.children + SIGNALS + 1)


def tally_keys(shape: Shape) -> set[str]:
    return {f"child {n}" for n in range(shape.children)} | {f"signal {n}" for n in range(SIGNALS)} | {"root"}


@entity
class Tally:
    """Counts how often each key was added: one lost and one doubled do not look right together."""

    added: dict[str, int]

    def __init__(self) -> None:
        self.added = {}

    def add(self, key: str) -> int:
        self.added[key] = self.added.get(key, 0) + 1
        return sum(self.added.values())


def pause_s(label: str) -> float:
    """5 to 25 ms, the same for the same label."""
    return 0.005 + zlib.crc32(label.encode()) % 20 / 1_000


@activity
async def step(ctx: ActivityContext, label: str, value: int) -> int:
    journal.effect(ctx, label)
    await asyncio.sleep(pause_s(label))
    return value


@activity
def step_in_thread(ctx: ActivityContext, label: str, value: int) -> int:
    journal.effect(ctx, label)
    time.sleep(pause_s(label))
    return value


@activity
async def add_pair(ctx: ActivityContext, label: str, a: int, b: int) -> int:
    journal.effect(ctx, label)
    return a + b


@activity
async def flaky(ctx: ActivityContext, label: str) -> int:
    """Each attempt is a task of its own."""
    journal.effect(ctx, f"{label}, attempt {ctx.attempt}")
    if ctx.attempt <= FAILURES:
        raise ConnectionError(f"attempt {ctx.attempt}")
    return ctx.attempt


@orchestrator
async def child(ctx: OrchestrationContext, number: int, shape: Shape) -> int:
    steps = [step if n % 2 else step_in_thread for n in range(shape.width)]
    total = sum(await asyncio.gather(*(ctx.call_activity(steps[n], f"wide {n}", n) for n in range(shape.width))))
    for n in range(shape.depth):
        total += await ctx.call_activity(step, f"deep {n}", 1)
    await ctx.create_timer(timedelta(milliseconds=20))
    await ctx.entity(Tally, ROOT).call(Tally.add, f"child {number}")
    return total + number


@orchestrator
async def generations(ctx: OrchestrationContext, number: int, shape: Shape, total: int) -> int:
    """The event of the first generation is carried over to the last."""
    total += await ctx.call_activity(step_in_thread, f"generation {number}", 1)
    if number < shape.generations:
        ctx.continue_as_new(number + 1, shape, total)
        return 0
    return total + await ctx.wait_for_external_event("bonus", return_type=int)


@orchestrator
async def retrying(ctx: OrchestrationContext) -> int:
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=FAILURES + 1)
    return await ctx.call_activity(flaky, "flaky", retry=policy)


@orchestrator
async def root(ctx: OrchestrationContext, shape: Shape) -> Outcome:
    own = ctx.instance_id
    fan_out = [ctx.call_sub_orchestrator(child, n, shape, instance_id=f"{own}.child{n}") for n in range(shape.children)]
    generation = ctx.call_sub_orchestrator(generations, 1, shape, 0, instance_id=f"{own}.generations")
    ctx.send_event(f"{own}.generations", "bonus", BONUS)
    retried = ctx.call_sub_orchestrator(retrying, instance_id=f"{own}.retrying")
    tally = ctx.entity(Tally, ROOT)
    for n in range(SIGNALS):
        tally.signal(Tally.add, f"signal {n}")
    children = list(await asyncio.gather(*fan_out))
    reduced, level = children, 0
    while len(reduced) > 1:
        pairs = [(reduced[n], reduced[n + 1]) for n in range(0, len(reduced) - 1, 2)]
        odd = reduced[2 * len(pairs) :]
        reduced = [*await asyncio.gather(*(ctx.call_activity(add_pair, f"pair {level}.{n}", *pair) for n, pair in enumerate(pairs))), *odd]
        level += 1
    await asyncio.sleep(0.05)
    go = await ctx.wait_for_external_event("go", return_type=int)
    numbers = await generation, await retried
    return Outcome(children, reduced[0], *numbers, go, await tally.call(Tally.add, "root"))


# ── errands: many small orchestrations, for several processes ─────────────────────────────────────────────────


@activity
async def fetch(ctx: ActivityContext, label: str, value: int) -> int:
    journal.effect(ctx, label)
    await asyncio.sleep(_errand_s)
    return value


@activity
def store(ctx: ActivityContext, label: str, value: int) -> int:
    journal.effect(ctx, label)
    return value


@orchestrator
async def errand(ctx: OrchestrationContext, number: int) -> int:
    both = await asyncio.gather(*(ctx.call_activity(fetch, f"fetch {n}", number) for n in range(2)))
    return await ctx.call_activity(store, "store", sum(both))


_errand_s = 0.0
WANDER_S = 0.2
"""At most."""


@activity
async def wander(ctx: ActivityContext, number: int) -> int:
    """From nothing to ``WANDER_S``, the same for the same number."""
    label = f"wander {number}"
    journal.effect(ctx, label)
    await asyncio.sleep(zlib.crc32(label.encode()) % 1_000 / 1_000 * WANDER_S)
    return number


@orchestrator
async def fan_out(ctx: OrchestrationContext, width: int) -> int:
    return sum(await asyncio.gather(*(ctx.call_activity(wander, number) for number in range(width))))


# ── those that misbehave ──────────────────────────────────────────────────────────────────────────────────────


@orchestrator
async def poison(ctx: OrchestrationContext) -> None:
    os._exit(9)


dawdling = threading.Event()
"""Some ``Misfit`` of this process has begun to."""


@entity
class Misfit:
    """An entity that kills its process, leaves it, or takes its time."""

    async def kill(self) -> None:
        os._exit(9)

    async def leave(self) -> None:
        sys.exit(2)

    def leave_in_a_thread(self) -> None:
        sys.exit(2)

    async def leave_by_a_task(self) -> None:
        leaving = asyncio.create_task(self.leave())
        await asyncio.sleep(600)
        await leaving

    async def interrupt(self) -> None:
        raise KeyboardInterrupt

    async def cancel(self) -> None:
        raise asyncio.CancelledError

    async def dawdle(self, seconds: float) -> None:
        dawdling.set()
        await asyncio.sleep(seconds)


@activity
async def leave() -> None:
    sys.exit(2)


@activity
async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(600)


@orchestrator
async def rude(ctx: OrchestrationContext) -> list[str]:
    """What becomes of those that end in what is no ``Exception``."""
    misfit = ctx.entity(Misfit, "rude")
    ended: list[str] = []
    calls: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: misfit.call(Misfit.leave),
        lambda: misfit.call(Misfit.leave_in_a_thread),
        lambda: misfit.call(Misfit.cancel),
        lambda: ctx.call_activity(leave),
        lambda: ctx.call_activity(cancel_itself),
    )
    for call in calls:
        try:
            await call()
        except TaskFailedError as error:
            ended.append(error.details.type.rpartition(".")[2])
    return ended


@orchestrator
async def innocent(ctx: OrchestrationContext, number: int) -> int:
    return await ctx.call_activity(step, f"innocent {number}", number)


@activity
async def slow(ctx: ActivityContext, seconds: float) -> str:
    journal.effect(ctx, "slow")
    await asyncio.sleep(seconds)
    return "done"


@activity(executor="process")
def burn(path: str, seconds: float) -> int:
    """Leaves its process's id at ``path``."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


@activity
async def crash(seconds: float) -> None:
    """As a segmentation fault would."""
    await asyncio.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


@activity
def crash_in_thread() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@orchestrator
async def crashing(ctx: OrchestrationContext, how: str) -> str:
    """With a policy: each retry would cost as many processes again."""
    policy = RetryPolicy(first_retry_interval=timedelta(0))
    try:
        if how == "thread":
            await ctx.call_activity(crash_in_thread, retry=policy)
        else:
            await ctx.call_activity(crash, float(how), retry=policy)
    except TaskFailedError as error:
        return error.details.message
    return "it lives"


@orchestrator
async def slowly(ctx: OrchestrationContext, seconds: float) -> str:
    return await ctx.call_activity(slow, seconds)


@orchestrator
async def burning(ctx: OrchestrationContext, path: str, seconds: float, many: int) -> int:
    return len(await asyncio.gather(*(ctx.call_activity(burn, path, seconds) for _ in range(many))))


# ── the modes ─────────────────────────────────────────────────────────────────────────────────────────────────


def new_engine(**options: Any) -> DurableEngine:
    engine = DurableEngine(options=WorkerOptions(**options))
    engine.register(
        Tally, step, step_in_thread, add_pair, flaky, child, generations, retrying, root, fetch, store, errand,
        wander, fan_out, poison, Misfit, innocent, slow, burn, slowly, burning, leave, cancel_itself, rude,
        crash, crash_in_thread, crashing,
    )  # fmt: skip
    return engine


async def run(engine: DurableEngine, given: argparse.Namespace) -> dict[str, object]:
    shape = Shape(*map(int, given.shape.split(",")))
    handle = await engine.client.schedule_new_orchestration(root, shape, instance_id=ROOT, reuse_policy="return_existing")
    journal.report("scheduled")
    # Said again after each start: whether the last process came to say it is not known. The first one counts.
    await engine.client.raise_event(ROOT, "go", GO)
    result = await handle.result()
    journal.report("result")
    return asdict(result)


async def work(engine: DurableEngine, given: argparse.Namespace) -> dict[str, object]:
    await appearance(given.stop)
    return {}


async def open_engine(opened: AsyncExitStack, engine: DurableEngine, given: argparse.Namespace) -> None:
    """A worker waits for a server that is away at that moment, as whoever starts workers would have it."""
    while True:
        try:
            await opened.enter_async_context(engine.open(given.url, worker=given.mode != "submit"))
            return
        except StoreUnavailableError:
            if given.mode != "work":
                raise
            await asyncio.sleep(0.1)


async def appearance(file: Path) -> None:
    while not file.exists():  # noqa: ASYNC240  # a file sets no event, and to look for it takes a microsecond
        await asyncio.sleep(0.01)


async def submit(engine: DurableEngine, given: argparse.Namespace) -> dict[str, object]:
    client = engine.client
    handles = await asyncio.gather(
        *(
            client.schedule_new_orchestration(errand, n, instance_id=f"errand{n}", reuse_policy="return_existing")
            for n in range(given.count)
        )
    )
    return {"results": await asyncio.gather(*(handle.result() for handle in handles))}


MODES = {"run": run, "work": work, "submit": submit}


async def main(given: argparse.Namespace, commits: Commits) -> int:
    engine = new_engine(**json.loads(given.options))
    journal.report("process", os.getpid())
    if given.gate is not None:
        journal.report("waiting")
        await appearance(given.gate)
    journal.report("open")
    try:
        async with AsyncExitStack() as opened:
            await open_engine(opened, engine, given)
            journal.report("ready")
            answer = await MODES[given.mode](engine, given)
    except asyncio.CancelledError:
        sys.stdout.write('{"ended": "by a signal"}\n')
        return 0
    except InstanceNotFoundError as error:
        sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        return 3
    sys.stdout.write(json.dumps({**answer, "commits": commits.count, "synchronous": sorted(commits.synchronous)}) + "\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--url", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--check-durable", action="store_true", help="ask the store at each effect whether its task is there")
    parser.add_argument("--report", type=int, default=-1)
    parser.add_argument("--point")
    parser.add_argument("--shape", default="4,4,4,3")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--errand-s", type=float, default=0.0)
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--stop", type=Path)
    parser.add_argument("--options", default="{}")
    return parser.parse_args()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background inherits that it is ignored
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("durable_core.activity").setLevel(logging.ERROR)  # some fail on purpose; a traceback is a finding
    given = arguments()
    _errand_s = given.errand_s
    journal.open(given.log, store_at(given.url) if given.check_durable else None, given.report)
    sys.exit(asyncio.run(main(given, watch_commits(given.point, journal))))
