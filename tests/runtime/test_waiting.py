"""Waiting for an instance: who is woken, and what is said when there is nothing to wait for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from durable_core import InstanceNotFoundError, InstanceStatus, OrchestrationContext, orchestrator
from durable_core.backend import Purge
from durable_core.testing.memory import MemoryBackend
from tests.runtime.support import PATIENCE, SECOND, engine_with, until


@orchestrator
async def waiting(ctx: OrchestrationContext) -> str:
    return await ctx.wait_for_external_event("go", return_type=str)


@orchestrator
async def poison(ctx: OrchestrationContext) -> None:
    raise SystemExit(3)


def test_an_end_wakes_everybody_who_waits(tmp_path, run):
    """In the engine that runs it, in one that could, and in one without a worker."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    first, second, front = (engine_with(waiting) for _ in range(3))

    async def main():
        async with first.open(url), second.open(url), front.open(url, worker=False):
            await first.client.schedule_new_orchestration(waiting, instance_id="w")
            waits = [
                asyncio.create_task(wait)
                for engine in (first, second, front)
                for _ in range(5)
                for wait in (engine.client.wait_for_completion("w", PATIENCE), engine.client.get_handle(waiting, "w").result(PATIENCE))
            ]
            await until(lambda: all(len(engine._session.waiters._waiting.get("w", ())) == 10 for engine in (first, second, front)))
            await front.client.raise_event("w", "go", "on")
            ends = await asyncio.gather(*waits)
            assert [end if isinstance(end, str) else end.output_as(str) for end in ends] == ["on"] * 30

    run(main)


class Deaf(MemoryBackend):
    """Once told so, it claims nothing any more; what it holds it holds on to."""

    deaf = False

    async def claim(self, worker: str, **request: Any) -> Any:
        return await super().claim(worker, **{**request, **({"turns": 0, "tasks": 0} if self.deaf else {})})


def test_an_end_elsewhere_is_noticed_although_the_instance_is_still_in_this_cache(run):
    here, there = engine_with(waiting, hold_s=0.05), engine_with(waiting)
    deaf = Deaf("waiting-elsewhere")

    async def main():
        async with here.open(backend=deaf), there.open("memory://waiting-elsewhere", worker=False):
            handle = await here.client.schedule_new_orchestration(waiting)
            await here.client.wait_for_start(handle.id, PATIENCE)
            waits = [asyncio.create_task(handle.result()), asyncio.create_task(here.client.wait_for_completion(handle.id))]
            deaf.deaf = True
            other = engine_with(waiting)
            async with other.open("memory://waiting-elsewhere"):
                await other.client.raise_event(handle.id, "go", "on")
                assert (await other.client.wait_for_completion(handle.id, PATIENCE)).output_as(str) == "on"
            result, state = await asyncio.wait_for(asyncio.gather(*waits), 20)
            return result, state.runtime_status

    assert run(main) == ("on", InstanceStatus.COMPLETED)


@pytest.mark.parametrize("worker", [True, False])
def test_a_wait_for_what_is_purged_meanwhile_ends(url, run, worker):
    engine = engine_with(waiting)

    async def main():
        async with engine.open(url, worker=worker):
            handle = await engine.client.schedule_new_orchestration(waiting)
            if worker:
                await engine.client.wait_for_start(handle.id, PATIENCE)
            waits = [asyncio.create_task(handle.result()), asyncio.create_task(engine.client.wait_for_completion(handle.id))]
            await until(lambda: len(engine._session.waiters._waiting.get(handle.id, ())) == 2)
            await engine.backend.apply([Purge(handle.id, force=True)])
            for wait in waits:
                with pytest.raises(InstanceNotFoundError, match=handle.id):
                    await asyncio.wait_for(wait, 20)

    run(main)


def test_a_parked_instance_is_warned_of_once_and_named_by_the_timeout(url, run, caplog):
    engine = engine_with(poison, max_attempts=2)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(poison, instance_id="p")

            async def parked():
                return (await handle.state()).parked

            await until(parked)
            caplog.clear()
            with pytest.raises(TimeoutError, match=r"'p' did not end within 1.5 s.*parked"):
                await handle.result(1.5 * SECOND)
            warnings = [record.getMessage() for record in caplog.records if "is waited for" in record.getMessage()]
            assert len(warnings) == 1
            assert "It is parked: resume it" in warnings[0]
            ended = asyncio.create_task(engine.client.wait_for_completion("p"))
            await engine.client.terminate("p")
            assert (await asyncio.wait_for(ended, 20)).runtime_status is InstanceStatus.TERMINATED

    with caplog.at_level(logging.WARNING, "durable_core.engine"):
        run(main)


def test_a_timeout_names_the_instance(url, run):
    engine = engine_with(waiting)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(waiting, instance_id="w")
            with pytest.raises(TimeoutError, match=r"'w' did not end within 0.05 s$"):
                await handle.result(0.05 * SECOND)
        async with engine.open(url, worker=False):
            handle = await engine.client.schedule_new_orchestration(waiting, instance_id="v")
            with pytest.raises(TimeoutError, match=r"'v' did not start within 0.05 s$"):
                await engine.client.wait_for_start("v", 0.05 * SECOND)

    run(main)


def test_an_activity_that_nobody_knows_is_named_to_who_waits(run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity("elsewhere")

    engine = engine_with(root)

    async def main():
        async with engine.open("memory://"):
            handle = await engine.client.schedule_new_orchestration(root)
            await engine.client.wait_for_start(handle.id, PATIENCE)
            with pytest.raises(TimeoutError, match="waits for activity 'elsewhere'"):
                await engine.client.wait_for_completion(handle.id, 0.2 * SECOND)

    run(main)
