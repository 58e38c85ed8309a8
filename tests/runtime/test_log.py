"""What the log says: failures, ends, takeovers, workers, under stable names and with the ids as attributes. Nothing while replaying, and no flood."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from durable_core import OrchestrationContext, OrchestrationFailedError, RetryPolicy, activity, orchestrator
from durable_core.backend import AbandonWorker
from tests.runtime.support import PATIENCE, engine_with, until


@activity
async def charge(amount: int) -> int:
    if amount < 0:
        raise ValueError(f"cannot charge {amount}")
    return amount


@activity(executor="process")
def crunch() -> None:
    raise LookupError("in the pool")


RETRY = RetryPolicy(first_retry_interval=timedelta(seconds=0.01), max_number_of_attempts=3)


@orchestrator
async def order(ctx: OrchestrationContext, amount: int) -> int:
    return await ctx.call_activity(charge, amount, retry=RETRY)


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == logger]


def test_a_failure_is_told_where_it_ran_where_it_is_decided_and_at_the_end(url, run, caplog):
    engine = engine_with(order, charge)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(order, -5, instance_id="o")
            with pytest.raises(OrchestrationFailedError):
                await handle.result(PATIENCE)

    with caplog.at_level(logging.INFO, "durable_core"):
        run(main)
    ran, decided, ended = (
        lines(caplog, "durable_core.activity.charge"),
        [record for record in lines(caplog, "durable_core.orchestrator.order") if "attempt" in record.__dict__],
        [record for record in lines(caplog, "durable_core.orchestrator.order") if "attempt" not in record.__dict__],
    )
    assert [(record.levelname, record.instance_id, record.attempt) for record in ran] == [("WARNING", "o", n) for n in (1, 2, 3)]
    assert "cannot charge -5" in ran[0].getMessage()
    assert ran[0].exc_info[0] is ValueError
    assert [record.getMessage().partition("; ")[2] for record in decided] == [
        "it is tried again in 0.01 s",
        "it is tried again in 0.01 s",
        "its last: the call fails",
    ]
    [end] = ended
    assert (end.levelname, end.instance_id) == ("ERROR", "o")
    assert "'o' (order) is FAILED" in end.getMessage()
    assert "cannot charge -5" in end.getMessage()
    workers = [record.getMessage() for record in lines(caplog, "durable_core.engine") if "worker" in record.getMessage()]
    assert "is up: 1 orchestrators, 1 activities, 0 entities" in workers[0]
    assert "is down" in workers[-1]


def test_nothing_is_told_again_by_a_replay(tmp_path, run, caplog):
    url = f"sqlite:///{tmp_path / 'store.db'}"

    @orchestrator
    async def patient(ctx: OrchestrationContext) -> None:
        try:
            await ctx.call_activity(charge, -5, retry=RETRY)
        except Exception:
            await ctx.wait_for_external_event("go")

    engine = engine_with(patient, charge)

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(patient, instance_id="p")
            await until(lambda: "its last" in caplog.text)
        caplog.clear()
        async with engine.open(url):
            await engine.client.raise_event("p", "go")
            await engine.client.get_handle(patient, "p").result(PATIENCE)

    run(main)
    assert "attempt" not in caplog.text


def test_a_wide_fan_out_that_fails_is_a_line_each_and_few_tracebacks(run, caplog):
    @orchestrator
    async def wide(ctx: OrchestrationContext) -> int:
        results = await asyncio.gather(*(ctx.call_activity(charge, -n) for n in range(1, 201)), return_exceptions=True)
        return len(results)

    engine = engine_with(wide, charge)

    async def main():
        async with engine.open("memory://"):
            return await (await engine.client.schedule_new_orchestration(wide)).result(PATIENCE)

    assert run(main) == 200
    told = lines(caplog, "durable_core.activity.charge")
    assert len(told) == 200
    assert sum(record.exc_info is not None for record in told) == 3


def test_a_failure_in_another_process_brings_its_traceback(run, caplog):
    @orchestrator
    async def cruncher(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(crunch)

    engine = engine_with(cruncher, crunch)

    async def main():
        async with engine.open("memory://"):
            with pytest.raises(OrchestrationFailedError):
                await (await engine.client.schedule_new_orchestration(cruncher)).result(PATIENCE)

    run(main)
    [told] = lines(caplog, "durable_core.activity.crunch")
    assert "LookupError: in the pool" in told.getMessage()
    assert "in crunch" in told.getMessage()


def test_success_is_told_at_debug_only(run, caplog):
    engine = engine_with(order, charge)

    async def main():
        async with engine.open("memory://"):
            return await (await engine.client.schedule_new_orchestration(order, 5, instance_id="o")).result(PATIENCE)

    with caplog.at_level(logging.DEBUG, "durable_core"):
        assert run(main) == 5
    told = [record for record in caplog.records if record.name.startswith(("durable_core.orchestrator", "durable_core.activity"))]
    assert [(record.levelname, record.getMessage()) for record in told] == [("DEBUG", "orchestration 'o' (order) is COMPLETED")]


def test_what_a_dead_worker_had_begun_is_told_when_it_is_taken_over(tmp_path, run, caplog):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    begun = asyncio.Event()
    calls = 0

    @activity
    async def slow() -> int:
        nonlocal calls
        calls += 1
        begun.set()
        if calls == 1:
            await asyncio.Event().wait()
        return calls

    @orchestrator
    async def flow(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(slow)

    first, second = (engine_with(flow, slow, heartbeat_s=3600, worker_ttl_s=7200) for _ in range(2))

    async def main():
        async with first.open(url):
            await first.client.schedule_new_orchestration(flow, instance_id="f")
            await begun.wait()
            dead = first._session.worker.id
            async with second.open(url):
                await second.backend.apply([AbandonWorker(dead)])
                return await second.client.get_handle(flow, "f").result(PATIENCE)

    assert run(main) == 2
    assert "activity 'slow' of 'f' is taken over" in caplog.text
