"""What happens when something goes wrong: changed code, poison turns, lost replies, lost leases, an engine that is closed in the middle."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_core import (
    ActivityContext,
    DurableEngine,
    EntityContext,
    EntityId,
    InstanceStatus,
    NonDeterminismError,
    OrchestrationContext,
    OrchestrationFailedError,
    OrchestrationStuckError,
    StoreReadOnlyError,
    StoreUnavailableError,
    TaskFailedError,
    activity,
    entity,
    orchestrator,
)
from durable_core.backend import AbandonWorker, Command, CommitTurn, Message, Outcome, OutcomeStatus, Purge, Selectors, SendMessage
from durable_core.codec import encode_event
from durable_core.events import EventRaised, TaskCompleted, TaskScheduled
from durable_core.runtime.worker.guard import TurnGuard
from durable_core.testing.memory import MemoryBackend
from durable_sqlite import open_backend
from tests.runtime import module_activities
from tests.runtime.support import SECOND, engine_with, until


@activity
async def double(x: int) -> int:
    return 2 * x


# ── code and history ──────────────────────────────────────────────────────────────────────────────────────────


@orchestrator(name="flow")
async def original(ctx: OrchestrationContext) -> int:
    doubled = await ctx.call_activity(double, 4)
    await ctx.wait_for_external_event("go")
    return doubled


@orchestrator(name="flow")
async def changed(ctx: OrchestrationContext) -> int:
    await ctx.create_timer(timedelta(seconds=1))
    return await ctx.call_activity(double, 4)


def test_changed_code_is_told_of_and_the_old_code_repairs_it(tmp_path, run, caplog):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    old, new = engine_with(original, double), engine_with(changed, double)

    async def main():
        async with old.open(url):
            await old.client.schedule_new_orchestration("flow", instance_id="f")
            await until(lambda: _has(old, "f", TaskCompleted))
            before = await old.client.get_history("f")
        async with new.open(url):
            await new.client.raise_event("f", "go")

            async def problem():
                return (await new.client.get_instance("f")).problem

            text = await until(problem)
            state = await new.client.get_instance("f")
            assert state.runtime_status is InstanceStatus.RUNNING
            assert not state.parked
            assert await new.client.get_history("f") == before
            for needed in ("NonDeterminismError", "'f'", "event 1", "activity 'double'", "timer", "test_faults.py:", "changed"):
                assert needed in text
        async with old.open(url):
            assert await old.client.get_handle("flow", "f").result(20 * SECOND) == 8
            assert (await old.client.get_instance("f")).problem is None

    run(main)


async def _has(engine: DurableEngine, instance_id: str, kind: type) -> bool:
    return any(isinstance(event, kind) for event in await engine.client.get_history(instance_id))


@pytest.mark.parametrize("loaded", [True, False])
def test_a_policy_fails_what_does_not_fit(url, run, loaded):
    """Found in a running turn (an orchestrator that is stuck), or in a replay (changed code)."""

    @orchestrator(name="flow")
    async def stuck(ctx: OrchestrationContext) -> int:
        await ctx.call_activity(double, 4)
        await ctx.wait_for_external_event("go")
        await asyncio.Event().wait()
        return 0

    @orchestrator
    async def parent(ctx: OrchestrationContext) -> bool:
        try:
            await ctx.call_sub_orchestrator("flow", instance_id="child")
        except TaskFailedError as error:
            return error.details.is_caused_by(OrchestrationStuckError if loaded else NonDeterminismError)
        return False

    first = engine_with(stuck, double, parent, on_mismatch="fail")
    second = first if loaded else engine_with(changed, double, parent, on_mismatch="fail")

    async def main():
        async with first.open(url):
            await first.client.schedule_new_orchestration(parent, instance_id="p")

            async def waits():
                return (state := await first.client.get_instance("child")) is not None and state.history_length == 3

            await until(waits)
        async with second.open(url):
            await second.client.raise_event("child", "go")
            assert await second.client.get_handle(parent, "p").result(20 * SECOND)
            state = await second.client.get_instance("child")
            assert state.runtime_status is InstanceStatus.FAILED
            assert "flow" in state.failure.message

    run(main)


def test_an_orchestrator_that_waits_for_what_can_never_come_is_kept_with_its_problem(url, run):
    @orchestrator
    async def stuck(ctx: OrchestrationContext) -> None:
        await asyncio.Event().wait()

    engine = engine_with(stuck)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(stuck, instance_id="s")

            async def problem():
                return (await engine.client.get_instance("s")).problem

            text = await until(problem)
            assert "OrchestrationStuckError" in text
            assert "test_faults.py" in text
            assert await engine.client.terminate("s")
            assert (await engine.client.wait_for_completion("s", 20 * SECOND)).runtime_status is InstanceStatus.TERMINATED

    run(main)


def test_a_poison_instance_is_parked_and_blocks_nobody(url, run):
    @orchestrator
    async def poison(ctx: OrchestrationContext) -> None:
        raise SystemExit(3)

    @orchestrator
    async def good(ctx: OrchestrationContext, x: int) -> int:
        return await ctx.call_activity(double, x)

    engine = engine_with(poison, good, double, max_attempts=3)

    async def main():
        async with engine.open(url):
            for i in range(3):
                await engine.client.schedule_new_orchestration(poison, instance_id=f"p{i}")
            results = [await (await engine.client.schedule_new_orchestration(good, i)).result(20 * SECOND) for i in range(10)]
            assert results == [2 * i for i in range(10)]

            async def parked():
                return all([(await engine.client.get_instance(f"p{i}")).parked for i in range(3)])

            await until(parked)
            state = await engine.client.get_instance("p0")
            assert "parked" in state.problem
            assert state.history_length == 0
            await engine.client.terminate("p0")
            assert (await engine.client.wait_for_completion("p0", 20 * SECOND)).runtime_status is InstanceStatus.TERMINATED

    run(main)


def test_a_turn_that_blocks_is_logged_with_its_stack(run, caplog):
    guard = TurnGuard.install()

    @orchestrator
    async def busy(ctx: OrchestrationContext) -> int:
        turns = 0
        while guard._told_of != guard._since and turns < 10**9:  # until the watchdog has seen it, on any machine
            turns += 1
        return 1

    engine = engine_with(busy)

    async def main():
        async with engine.open("memory://"):
            await (await engine.client.schedule_new_orchestration(busy)).result()

    with caplog.at_level(logging.WARNING, "durable_core.engine"):
        run(main)
    assert "blocked the engine" in caplog.text
    assert "in busy" in caplog.text


# ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────


class Unreliable(MemoryBackend):
    """Replies are lost before or after the write, at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.lost = 0

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        dice = self.random.random()
        if dice < 0.2:
            self.lost += 1
            raise StoreUnavailableError("lost on the way there")
        outcomes = await super().apply(commands)
        if dice < 0.5:
            self.lost += 1
            raise StoreUnavailableError("lost on the way back")
        return outcomes

    async def claim(self, worker: str, **request: Any) -> Any:
        claim = await super().claim(worker, **request)
        if self.random.random() < 0.2:
            self.lost += 1
            raise StoreUnavailableError("lost on the way back")
        return claim


@pytest.mark.parametrize("seed", range(5))
def test_lost_replies_lose_and_double_nothing(run, seed, caplog):
    counted: dict[str, int] = {}

    @activity
    async def count(key: str) -> int:
        counted[key] = counted.get(key, 0) + 1
        return 1

    @orchestrator
    async def child(ctx: OrchestrationContext, n: int) -> int:
        return sum(await asyncio.gather(*(ctx.call_activity(count, f"{ctx.instance_id}/{i}") for i in range(n))))

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        first = await asyncio.gather(*(ctx.call_sub_orchestrator(child, n, instance_id=f"{ctx.instance_id}.{n}") for n in range(5)))
        await asyncio.sleep(0.01)
        return sum(first) + await ctx.call_activity(count, ctx.instance_id)

    engine = engine_with(count, child, root)
    backend = Unreliable(seed)

    async def main():
        async with engine.open(backend=backend):
            handles = [await engine.client.schedule_new_orchestration(root, instance_id=f"r{i}") for i in range(10)]
            results = [await handle.result(40 * SECOND) for handle in handles]
            histories = [await engine.client.get_history(f"r{i}.{n}") for i in range(10) for n in range(5)]
            return results, histories

    results, histories = run(main)
    assert backend.lost > 5
    assert results == [11] * 10
    assert set(counted.values()) == {1}
    for history in histories:
        scheduled = [event.id for event in history if isinstance(event, TaskScheduled)]
        assert sorted(event.id for event in history if isinstance(event, TaskCompleted)) == scheduled == list(range(1, len(scheduled) + 1))


class Forgetful(MemoryBackend):
    """Loses the first reply to each purge."""

    def __init__(self) -> None:
        super().__init__()
        self.told: set[Command] = set()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().apply(commands)
        untold = {command for command in commands if isinstance(command, Purge)} - self.told
        self.told |= untold
        if untold:
            raise StoreUnavailableError("lost on the way back")
        return outcomes


def test_a_purge_whose_reply_is_lost_counts(run):
    @entity
    class Empty:
        def touch(self, ctx: EntityContext) -> None:
            ctx.delete_state()

    @orchestrator
    async def child(ctx: OrchestrationContext) -> None:
        await ctx.call_entity(EntityId("empty", "e"), "touch")

    @orchestrator
    async def parent(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(child)

    engine = engine_with(parent, child, Empty)

    async def main():
        async with engine.open(backend=Forgetful()):
            client = engine.client
            for _ in range(2):
                await (await client.schedule_new_orchestration(parent)).result(20 * SECOND)
            [first, _] = [state.instance_id async for state in client.query_instances(name="parent")]
            return (
                await client.purge(first),
                await client.purge_instances(name="parent"),
                (await client.clean_entity_storage()).empty_entities_removed,
            )

    assert run(main) == (2, 2, 1)


def test_of_two_purges_at_once_one_counts(url, run):
    @orchestrator
    async def done(ctx: OrchestrationContext) -> None:
        pass

    engine = engine_with(done)

    async def main():
        async with engine.open(url):
            await (await engine.client.schedule_new_orchestration(done, instance_id="d")).result(20 * SECOND)
            return sum(await asyncio.gather(*(engine.client.purge_instances() for _ in range(2))))

    assert run(main) == 1


def test_a_worker_that_was_given_up_starts_afresh(url, run, caplog):
    executions = []

    @activity
    async def slow(x: int) -> int:
        executions.append(x)
        await asyncio.sleep(0.05)
        return x

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return sum([await ctx.call_activity(slow, x) for x in range(10)])

    engine = engine_with(slow, root, heartbeat_s=0.05)

    async def main():
        async with engine.open(url):
            handles = [await engine.client.schedule_new_orchestration(root) for _ in range(5)]
            for _ in range(3):
                await asyncio.sleep(0.12)
                await engine.backend.apply([AbandonWorker(engine._session.worker.id)])
            return [await handle.result(40 * SECOND) for handle in handles]

    assert run(main) == [45] * 5
    assert "given up as dead" in caplog.text


def test_a_worker_starts_afresh_although_the_store_does_not_answer_at_once(run, caplog):
    class Silent(MemoryBackend):
        """After it gave a worker up, two registrations are heard and not answered."""

        silent = 2

        async def heartbeat(self, worker: str, **request: Any) -> Any:
            beat = await super().heartbeat(worker, **request)
            if "given up as dead" in caplog.text and self.silent:
                self.silent -= 1
                raise StoreUnavailableError("no answer")
            return beat

    engine = engine_with(double, original, heartbeat_s=0.05)

    async def main():
        async with engine.open(backend=Silent()):
            await engine.backend.apply([AbandonWorker(engine._session.worker.id)])
            await until(lambda: engine.backend.silent == 0)
            handle = await engine.client.schedule_new_orchestration(original)
            await engine.client.raise_event(handle.id, "go")
            return await handle.result(20 * SECOND)

    assert run(main) == 8


class Thief(MemoryBackend):
    """The reply to a commit with a task for the worker is lost, and before that asks again another worker takes the instance and
    commits: the repeated commit is fenced."""

    stolen = False

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().apply(commands)
        commit = next(
            (
                each
                for each in commands
                if isinstance(each, CommitTurn) and any(task.claim and task.name == "double" for task in each.tasks)
            ),
            None,
        )
        if commit is None or self.stolen:
            return outcomes
        self.stolen = True
        await self.heartbeat("thief", ttl_us=60_000_000)
        lure = Message("lure", commit.instance, encode_event(EventRaised("lure", None)))
        await super().apply([SendMessage(lure)])
        claim = await self.claim("thief", claim_id="theft", turns=1, tasks=0, selectors=Selectors(frozenset({"flow"})))
        fence = commit.instance, commit.execution, claim.turns[0].epoch, claim.turns[0].version
        [theft] = await super().apply([CommitTurn(*fence, "thief", "theft", consumes=("lure",))])
        assert theft.status is OutcomeStatus.OK
        raise StoreUnavailableError("the reply is lost")


def test_tasks_of_a_commit_that_was_accepted_unheard_are_not_lost(run):
    engine = engine_with(double, original, heartbeat_s=0.05, hold_s=0)

    async def main():
        async with engine.open(backend=Thief()):
            handle = await engine.client.schedule_new_orchestration(original)
            await until(lambda: engine.backend.stolen)
            await engine.client.raise_event(handle.id, "go")
            return await handle.result(20 * SECOND)

    assert run(main) == 8


def test_a_lost_reply_leaves_the_other_activities_of_the_worker_alone(run, caplog):
    """Only the tasks that the lost reply was about are given back: everything else that runs here goes on, once."""
    started: list[int] = []
    release = asyncio.Event()

    @activity
    async def long(x: int) -> int:
        started.append(x)
        await release.wait()
        return x

    @orchestrator
    async def neighbours(ctx: OrchestrationContext) -> int:
        return sum(await asyncio.gather(*(ctx.call_activity(long, x) for x in range(20))))

    engine = engine_with(double, original, long, neighbours, heartbeat_s=0.05, hold_s=0)

    async def main():
        async with engine.open(backend=Thief()):
            many = await engine.client.schedule_new_orchestration(neighbours)
            await until(lambda: len(started) == 20)
            handle = await engine.client.schedule_new_orchestration(original)
            await until(lambda: engine.backend.stolen)
            await engine.client.raise_event(handle.id, "go")
            doubled = await handle.result(20 * SECOND)
            await asyncio.sleep(0.2)  # several heartbeats, which would hear that the worker was given up
            release.set()
            return doubled, await many.result(20 * SECOND)

    assert run(main) == (8, 190)
    assert sorted(started) == list(range(20))
    assert "given up as dead" not in caplog.text


def test_a_history_that_the_store_does_not_give_is_no_attempt(tmp_path, run, monkeypatch):
    """An outage that lasts must park nobody."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = engine_with(original, double, max_attempts=1, first_backoff_s=0.01)
    backend = open_backend(url)
    read_history, refusals = backend.read_history, [StoreUnavailableError("no answer")] * 3

    async def refuse(ranges):
        if refusals:
            raise refusals.pop()
        return await read_history(ranges)

    monkeypatch.setattr(backend, "read_history", refuse)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(original, instance_id="f")
            await until(lambda: _has(engine, "f", TaskCompleted))
        async with engine.open(backend=backend):
            await engine.client.raise_event("f", "go")
            assert await engine.client.get_handle(original, "f").result(20 * SECOND) == 8
            assert not refusals

    run(main)


class ReadOnly(MemoryBackend):
    """Takes no writes while ``on``."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.refused = asyncio.Event()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.on:
            self.refused.set()
            raise StoreReadOnlyError("no writes here")
        return await super().apply(commands)


def engine_on(backend: ReadOnly) -> tuple[DurableEngine, Any]:
    """With an orchestration whose activity makes the store read-only, the first time."""

    @activity
    async def until_read_only(number: int) -> int:
        backend.on = not backend.refused.is_set()
        return number

    @orchestrator
    async def flow(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(until_read_only, 3)

    return engine_with(flow, until_read_only, heartbeat_s=0.2, worker_ttl_s=1), flow


def test_a_client_behind_a_worker_that_tries_again_hears_that_the_store_takes_no_writes(run):
    """The worker's commands are not given up; those of a client that come after them must not wait as long."""

    async def main():
        backend = ReadOnly()
        engine, flow = engine_on(backend)
        async with engine.open(backend=backend):
            handle = await engine.client.schedule_new_orchestration(flow)
            await backend.refused.wait()
            with pytest.raises(StoreReadOnlyError):
                await asyncio.wait_for(engine.client.schedule_new_orchestration(flow), 20)
            backend.on = False
            assert await handle.result() == 3

    run(main)


def test_an_engine_whose_store_takes_no_writes_closes_and_says_so(run):
    async def main():
        backend = ReadOnly()
        engine, flow = engine_on(backend)

        async def serve() -> None:
            async with engine.open(backend=backend):
                await engine.client.schedule_new_orchestration(flow, instance_id="f")
                await backend.refused.wait()

        with pytest.raises(StoreReadOnlyError):
            await asyncio.wait_for(serve(), 20)
        backend.on = False
        async with engine.open(backend=backend):
            return await engine.client.get_handle(flow, "f").result(40 * SECOND)  # the leases of the first worker have to run out

    assert run(main) == 3


def test_an_engine_that_cannot_start_leaves_nothing_behind_and_can_be_opened_again(run):
    class Unborn(MemoryBackend):
        async def heartbeat(self, worker: str, **request: Any) -> Any:
            raise StoreUnavailableError("no answer")

    engine = engine_with(double)

    async def main():
        before = len(asyncio.all_tasks())
        with pytest.raises(StoreUnavailableError):
            async with engine.open(backend=Unborn()):
                pass
        assert len(asyncio.all_tasks()) == before
        async with engine.open("memory://"):
            assert await engine.client.get_instance("x") is None

    run(main)


# ── activities and closing ────────────────────────────────────────────────────────────────────────────────────


def test_a_process_that_dies_is_replaced_and_the_activity_fails_after_three_deaths(run):
    engine = engine_with(module_activities)

    async def main():
        async with engine.open("memory://"):
            with pytest.raises(OrchestrationFailedError, match=r"process.*died 3 times"):
                await (await engine.client.schedule_new_orchestration("in_dying_process")).result()
            assert (await (await engine.client.schedule_new_orchestration("in_process", 2)).result())[1][0] == 1

    run(main)


def test_closing_lets_running_activities_end_and_saves_their_results(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    executions = []

    @activity
    async def slow(x: int) -> int:
        executions.append(x)
        await asyncio.sleep(0.3)
        return x

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return sum(await asyncio.gather(*(ctx.call_activity(slow, x) for x in range(5))))

    engine = engine_with(slow, root)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: len(executions) == 5)
        async with engine.open(url):
            return await engine.client.get_handle(root, "r").result(20 * SECOND)

    assert run(main) == 10
    assert sorted(executions) == [0, 1, 2, 3, 4]


def test_closing_has_a_limit_and_what_was_cut_off_runs_again(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    executions = []

    @activity
    async def endless_once() -> int:
        executions.append(1)
        if len(executions) == 1:
            await asyncio.sleep(600)
        return 7

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(endless_once)

    engine = engine_with(endless_once, root, drain_s=0.2)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: len(executions) == 1)
            start = time.monotonic()
        closed_after = time.monotonic() - start
        async with engine.open(url):
            return closed_after, await engine.client.get_handle(root, "r").result(20 * SECOND)

    closed_after, result = run(main)
    assert result == 7
    assert closed_after < 5
    assert len(executions) == 2


def test_an_end_in_order_counts_no_delivery(tmp_path, run):
    """Somebody may deploy ten times while a long activity runs."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    deliveries: list[int] = []
    threads: list[threading.Event] = []

    @activity
    async def long(ctx: ActivityContext) -> int:
        deliveries.append(ctx.delivery)
        if len(deliveries) <= 4:
            await asyncio.sleep(600)
        return ctx.delivery

    @activity
    def long_in_thread(ctx: ActivityContext) -> int:
        deliveries.append(ctx.delivery)
        if len(deliveries) <= 4:
            threads.append(threading.Event())
            threads[-1].wait(60)
        return ctx.delivery

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int]:
        return list(await asyncio.gather(ctx.call_activity(long), ctx.call_activity(long_in_thread)))

    engine = engine_with(long, long_in_thread, root, drain_s=0.01)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(root, instance_id="r")
            await until(lambda: len(deliveries) == 2)
        async with engine.open(url):
            await until(lambda: len(deliveries) == 4)
        async with engine.open(url):
            return await engine.client.get_handle(root, "r").result(20 * SECOND)

    try:
        assert run(main) == [1, 1]
    finally:
        for thread in threads:
            thread.set()
    assert deliveries == [1] * 6


@pytest.mark.parametrize(
    "how", ["async with engine: await serving()", "await engine.__aenter__(); await serving()", "await engine.__aenter__(); begin.set()"]
)
def test_a_loop_that_ends_around_an_open_engine_closes_it(tmp_path, run, how):
    """``asyncio.run`` cancels every task when its main function is over: those of the engine too."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    program = f"""
import asyncio
from durable_core import DurableEngine
engine = DurableEngine("{url}")
begin, started = asyncio.Event(), asyncio.Event()
@engine.activity
async def slow(n: int) -> int:
    started.set()
    await asyncio.Event().wait()
@engine.orchestrator
async def root(ctx) -> int:
    return await ctx.call_activity(slow, 7)
async def serving():
    begin.set()
    await asyncio.Event().wait()
async def serve():
    {how}
async def main():
    task = asyncio.create_task(serve())
    await asyncio.wait_for(begin.wait(), 20)
    await engine.client.schedule_new_orchestration(root, instance_id="r")
    await asyncio.wait_for(started.wait(), 20)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=40, env={**os.environ})

    @activity
    async def slow(n: int) -> int:
        return n

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(slow, 7)

    engine = engine_with(slow, root)

    async def main():
        async with engine.open(url):
            return await engine.client.get_handle(root, "r").result(20 * SECOND)

    assert run(main) == 7


def test_an_activity_that_raises_a_cancellation_of_its_own_fails(url, run):
    @activity
    async def gives_up() -> None:
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(gives_up)

    engine = engine_with(gives_up, root)

    async def main():
        async with engine.open(url):
            with pytest.raises(OrchestrationFailedError, match="CancelledError"):
                await (await engine.client.schedule_new_orchestration(root)).result(20 * SECOND)

    run(main)


def test_a_hanging_thread_does_not_keep_the_process_alive(tmp_path):
    program = f"""
import asyncio, time
from durable_core import DurableEngine, WorkerOptions
engine = DurableEngine("sqlite:///{tmp_path / "store.db"}", options=WorkerOptions(drain_s=0.2))
@engine.activity
def hang() -> None:
    time.sleep(600)
@engine.orchestrator
async def root(ctx) -> None:
    await ctx.call_activity(hang)
async def main():
    async with engine:
        await engine.client.schedule_new_orchestration(root)
        await asyncio.sleep(0.3)
asyncio.run(main())
"""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ})
    assert time.monotonic() - start < 30
