"""Background loops are watched: what cannot be read is one instance's problem, what a store raises against its protocol is one command's, and a
loop that dies all the same closes its engine loudly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core import (
    DurableEngine,
    EngineFailedError,
    EngineStateError,
    OrchestrationContext,
    StoreError,
    StoreUnavailableError,
    activity,
    entity,
    orchestrator,
)
from durable_core.backend import Command, CommitTurn, CreateInstance, Message, Outcome, SendMessage
from durable_core.testing.memory import MemoryBackend
from tests.runtime.support import PATIENCE, engine_with, until

NEWER = b'{"type":"SomethingNewer","id":1}'


@activity
async def double(x: int) -> int:
    return 2 * x


@orchestrator
async def flow(ctx: OrchestrationContext, x: int = 4) -> int:
    return await ctx.call_activity(double, x)


@orchestrator
async def waiting(ctx: OrchestrationContext) -> str:
    return await ctx.wait_for_external_event("go", return_type=str)


@entity
class Counter:
    value: int

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value


def engine_of_today(**options: Any) -> DurableEngine:
    return engine_with(flow, double, waiting, Counter, **options)


# ── what cannot be read ───────────────────────────────────────────────────────────────────────────────────────


def message(target: str, *, control: bool = False, creates: str | None = None) -> SendMessage:
    return SendMessage(Message(f"newer {target}", target, NEWER, None, "a newer client", control=control, creates=creates))


NEWS: dict[str, tuple[str, list[Command]]] = {
    "start": ("i", [CreateInstance("i", "i.1", "flow", NEWER)]),
    "message": ("w", [message("w")]),
    "control message": ("w", [message("w", control=True)]),
    "entity's message": ("@counter@k", [message("@counter@k", creates="counter")]),
    "entity's control message": ("@counter@k", [message("@counter@k", creates="counter"), message("@counter@k", control=True)]),
}


@pytest.mark.parametrize("kind", NEWS)
def test_what_a_newer_version_wrote_is_left_alone_and_blocks_nobody(url, run, kind):
    """Its problem names the unknown event and says to upgrade; it is not parked, however often it is tried."""
    engine = engine_of_today(max_attempts=2)
    target, commands = NEWS[kind]

    async def main():
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(waiting, instance_id="w")
            await client.wait_for_start("w", PATIENCE)
            await engine.backend.apply(commands)
            engine._session.wake()

            async def record() -> Any:
                [record] = await engine.backend.get_instances([target])
                return record if record is not None and record.problem is not None else None

            found = await until(record)
            assert "SomethingNewer" in found.problem
            assert "Upgrade this program" in found.problem
            failures = engine._session.worker.entities._failures if target.startswith("@") else engine._session.worker.turns._failures
            await until(lambda: failures[target] > 5)
            results = [await (await client.schedule_new_orchestration(flow, x)).result(PATIENCE) for x in range(5)]
            assert results == [0, 2, 4, 6, 8], "others go on"
            found = await until(record)
            assert not found.parked
            return failures[target]

    assert run(main) < 500, "it does not spin"


def test_a_history_of_a_newer_version_is_left_alone(tmp_path, run):
    url, engine = f"sqlite:///{tmp_path / 'store.db'}", engine_of_today()

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(waiting, instance_id="w")
            await engine.client.wait_for_start("w", PATIENCE)
        import sqlite3

        with sqlite3.connect(tmp_path / "store.db") as database:
            columns = [row[1] for row in database.execute("PRAGMA table_info(history)")]
            assert "payload" in columns, columns
            database.execute("UPDATE history SET payload = ?", (b"[" + NEWER + b"]",))
        async with engine.open(url):
            await engine.client.raise_event("w", "go", "on")

            async def problem() -> str | None:
                return (await engine.client.get_instance("w")).problem

            assert "SomethingNewer" in await until(problem)
            return await (await engine.client.schedule_new_orchestration(flow)).result(PATIENCE)

    assert run(main) == 8


# ── what a store raises against its protocol ──────────────────────────────────────────────────────────────────


class Mistaken(MemoryBackend):
    """Raises ``error`` for some commands, for some time."""

    error: BaseException = TimeoutError("a driver's")
    times = 0
    victim: type[Any] = CommitTurn
    raised = 0

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        if self.raised < self.times and any(isinstance(command, self.victim) for command in commands):
            self.raised += 1
            raise self.error
        return await super().apply(commands)


@pytest.mark.parametrize("error", [TimeoutError("a driver's"), ValueError("?"), asyncio.CancelledError("a driver's")], ids=repr)
@pytest.mark.parametrize("times", [1, 2, 10])
def test_an_unexpected_error_of_the_store_does_not_end_the_committer(run, caplog, error, times):
    """A turn that cannot be written becomes its instance's problem, and is tried again."""
    engine = engine_of_today()

    async def main():
        backend = Mistaken()
        backend.error, backend.times = error, times
        async with engine.open(backend=backend):
            handles = [await engine.client.schedule_new_orchestration(flow, x) for x in range(3)]
            return [await handle.result(PATIENCE) for handle in handles]

    assert run(main) == [0, 2, 4]
    assert "the store raised what no store may raise" in caplog.text


def test_an_unexpected_error_for_a_clients_command_is_told_to_the_client(run):
    engine = engine_of_today()

    async def main():
        backend = Mistaken()
        backend.victim, backend.times = CreateInstance, 1_000
        async with engine.open(backend=backend):
            with pytest.raises(StoreError, match=r"what no store may raise.*a driver's") as caught:
                await engine.client.schedule_new_orchestration(flow)
            assert not isinstance(caught.value, StoreUnavailableError)
            backend.times = 0
            return await (await engine.client.schedule_new_orchestration(flow)).result(PATIENCE)

    assert run(main) == 8


# ── a loop that dies ──────────────────────────────────────────────────────────────────────────────────────────


class Broken(RuntimeError):
    pass


async def die(*_args: Any, **_kwargs: Any) -> Any:
    raise Broken("out of the blue")


def die_at_once() -> None:
    raise Broken("out of the blue")


LOOPS = {
    "the loop that claims": lambda session: setattr(session.worker, "_claim", die),
    "the heartbeat": lambda session: setattr(session.worker, "_beat", die),
    "the committer": lambda session: setattr(session.committer, "_write", die),
    "the poll": lambda session: setattr(session.waiters, "poll", die_at_once),
    "a turn": lambda session: session.worker.turns.background(die()),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_dies_closes_the_engine_loudly_and_others_take_over(tmp_path, run, caplog, loop):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    first, second = engine_of_today(heartbeat_s=0.05, poll_s=0.05, worker_ttl_s=3600), engine_of_today()
    cancelled = asyncio.Event()

    @activity
    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @orchestrator
    async def stuck(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(for_ever)

    first.register(for_ever, stuck)

    async def main():
        waits = []

        async def serve() -> None:
            async with first.open(url):
                session, client = first._session, first.client
                handle = await client.schedule_new_orchestration(waiting, instance_id="w")
                await client.wait_for_start("w", PATIENCE)
                await client.schedule_new_orchestration(stuck, instance_id="s")
                await until(lambda: session.worker.turns.activities.running)
                waits.append(asyncio.create_task(handle.result()))
                LOOPS[loop](session)
                session.wake()
                if loop == "the committer":
                    await client.raise_event("nobody", "x")
                try:
                    await asyncio.Event().wait()
                finally:
                    with pytest.raises(EngineFailedError, match=f"{loop} died of an unexpected error: Broken: out of the blue"):
                        await client.get_instance("w")

        async with asyncio.timeout(20):
            with pytest.raises(EngineFailedError, match="Broken") as caught:
                await serve()
            assert isinstance(caught.value.__cause__, Broken)
            with pytest.raises((EngineFailedError, EngineStateError)):
                await waits[0]
            assert cancelled.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with second.open(url):
            await second.client.raise_event("w", "go", "on")
            return await second.client.get_handle(waiting, "w").result(PATIENCE)

    with caplog.at_level(logging.CRITICAL, "durable_core.engine"):
        assert run(main) == "on"
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert loop in record.getMessage()
    assert record.exc_info is not None


def test_a_body_that_swallows_the_cancellation_is_told_at_its_end(run):
    engine = engine_of_today(heartbeat_s=0.01)

    async def serve() -> None:
        async with engine.open("memory://"):
            LOOPS["the heartbeat"](engine._session)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    async def main():
        with pytest.raises(EngineFailedError, match="the heartbeat died"):
            await serve()
        async with engine.open("memory://"):
            return await (await engine.client.schedule_new_orchestration(flow)).result(PATIENCE)

    assert run(main) == 8


def test_a_cancellation_of_somebody_else_stays_one(run):
    engine = engine_of_today()

    async def serve() -> None:
        async with engine.open("memory://"):
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(serve())
        await until(lambda: engine._session is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return task.cancelled(), task.cancelling()

    assert run(main) == (True, 1)


def test_whoever_waits_while_the_engine_is_closed_is_told(run):
    engine = engine_of_today()

    async def main():
        async with engine.open("memory://"):
            handle = await engine.client.schedule_new_orchestration(waiting)
            waits = [asyncio.create_task(wait) for wait in (handle.result(), engine.client.wait_for_completion(handle.id))]
            await asyncio.sleep(0.05)
        return await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 10)

    assert [type(error) for error in run(main)] == [EngineStateError] * 2


def test_a_task_of_a_newer_version_is_given_back_uncounted(run, monkeypatch, caplog):
    monkeypatch.setattr("durable_core.runtime.worker.orchestrations.HELD_BACK_S", 0.02)

    class Newer(MemoryBackend):
        """Hands out each task in a newer version's writing, some times."""

        unread = 3

        async def claim(self, worker: str, **request: Any) -> Any:
            claim = await super().claim(worker, **request)
            if claim.tasks and self.unread:
                self.unread -= 1
                return replace(claim, tasks=tuple(replace(task, payload=NEWER) for task in claim.tasks))
            return claim

    @orchestrator
    async def fan_out(ctx: OrchestrationContext) -> list[int]:
        return list(await asyncio.gather(*(ctx.call_activity(double, x) for x in range(5))))

    engine = engine_with(fan_out, double, max_async_activities=1)

    async def main():
        backend = Newer()
        async with engine.open(backend=backend):
            handle = await engine.client.schedule_new_orchestration(fan_out)
            assert await handle.result(PATIENCE) == [0, 2, 4, 6, 8]
        return backend.unread

    assert run(main) == 0
    assert "cannot be run here" in caplog.text
