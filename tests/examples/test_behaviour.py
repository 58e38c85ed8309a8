"""What the examples promise and a result cannot show: how much is open at once, what is cancelled, what a client sees meanwhile, what is
logged. Read from histories, or with the work held up by an event."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from durable_core import DurableEngine, InstanceStatus, OrchestrationState, WorkerOptions
from durable_core.events import CommandCancelled, Event, ExecutionCompleted, ExecutionStarted, TaskCompleted, TaskFailed, TaskScheduled
from examples import (
    batched,
    fail_fast,
    history_size,
    instance_ids,
    large_dataset,
    limited_concurrency,
    parallel_work_items,
    progress_log,
    progress_tracking,
    sub_orchestrations,
)
from examples.rest_controller.run import serving
from tests.golden.files import Golden

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30


def run(main: Coroutine[Any, Any, object]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main

    asyncio.run(within())


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """``run`` has a deadline."""
    while not await condition():
        await asyncio.sleep(0.01)


def histories_of(engine: DurableEngine, url: str) -> dict[str, list[Event]]:
    """Of all orchestrations in a store that is not in use."""

    async def read() -> dict[str, list[Event]]:
        async with engine.open(url, worker=False):
            states = [state async for state in engine.client.query_instances()]
            return {state.instance_id: await engine.client.get_history(state.instance_id) for state in states}

    return asyncio.run(read())


def states_of(engine: DurableEngine, url: str) -> dict[str, OrchestrationState]:
    async def read() -> dict[str, OrchestrationState]:
        async with engine.open(url, worker=False):
            return {state.instance_id: state async for state in engine.client.query_instances()}

    return asyncio.run(read())


def most_open(history: Iterable[Event]) -> int:
    """How many activities were scheduled and not yet answered, at most."""
    steps = (1 if isinstance(event, TaskScheduled) else -1 if isinstance(event, TaskCompleted | TaskFailed) else 0 for event in history)
    return max(itertools.accumulate(steps))


def cancelled(history: Iterable[Event]) -> list[int]:
    return [event.id for event in history if isinstance(event, CommandCancelled) and event.kind == "task"]


def answered(history: Iterable[Event]) -> list[int]:
    return [event.id for event in history if isinstance(event, TaskCompleted | TaskFailed)]


# ── how much is open at once ─────────────────────────────────────────────────────────────────────────────────────


def test_a_semaphore_limits_what_is_scheduled(file_url: str) -> None:
    run(limited_concurrency.main(file_url))
    history = histories_of(limited_concurrency.engine, file_url)[limited_concurrency.INSTANCE_ID]
    assert most_open(history) == limited_concurrency.INPUT.max_concurrency
    started = [event.input for event in history if isinstance(event, TaskScheduled)]
    assert started == [f'"{item}"' for item in limited_concurrency.INPUT.items], "whoever waits longest is next"


def test_a_batch_ends_before_the_next_one_begins(file_url: str) -> None:
    run(batched.main(file_url))
    histories = histories_of(batched.engine, file_url)
    assert most_open(histories["batched-25"]) == batched.BATCH_SIZE
    assert {name: most_open(histories[f"dynamic-{name}"]) for name in batched.INPUTS} == {
        "default": 20, "low": 22, "high": 5, "extreme": 10, "none": 0
    }  # fmt: skip


def test_no_history_holds_the_large_dataset(file_url: str) -> None:
    run(large_dataset.main(file_url, count=60, chunk_size=10))
    lengths = {id: len(history) for id, history in histories_of(large_dataset.engine, file_url).items()}
    assert lengths.pop("dataset-60") == 2 + 2 * (6 + 1)
    assert lengths == {f"dataset-60-chunk-{index}": 2 + 2 * 10 for index in range(6)}


def test_continue_as_new_keeps_the_history_short(file_url: str, caplog: pytest.LogCaptureFixture) -> None:
    run(history_size.main(file_url))
    states = states_of(history_size.engine, file_url)
    limit = history_size.Work(1).history_limit
    assert states["in-batches-1050"].history_length == 2 + 2 * 1_050
    assert states["in-generations-1050"].history_length < limit
    warnings = [record.getMessage() for record in caplog.records if record.name == "durable_core.orchestrator.in_batches"]
    assert warnings == ["1001 events in the history after 500 of 1050 items"]


# ── what becomes of the others ───────────────────────────────────────────────────────────────────────────────────


def test_what_becomes_of_the_others_when_one_fails(file_url: str) -> None:
    run(fail_fast.main(file_url))
    histories = histories_of(fail_fast.engine, file_url)
    gather, group, when_all = (histories[f"{name}-failing"] for name in ("gather", "task-group", "when-all"))
    assert (sorted(cancelled(group)), answered(group)) == ([1, 3], [2])
    assert cancelled(gather) == []
    assert 1 not in answered(gather), "the slow one is not waited for"
    assert (cancelled(when_all), sorted(answered(when_all))) == ([], [1, 2, 3])


def test_the_activities_that_a_task_group_cancels_are_stopped(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take an hour. The engine's drain is not what stops them."""
    patient = DurableEngine(options=WorkerOptions(drain_s=10 * DEADLINE_S))
    patient.register(fail_fast.process_item, fail_fast.fail_fast, fail_fast.fail_fast_and_cancel, fail_fast.wait_for_all)
    monkeypatch.setattr(fail_fast, "engine", patient)
    run(fail_fast.main(file_url))


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ids_of_children_say_whose_they_are(file_url: str) -> None:
    run(sub_orchestrations.main(file_url))
    states = states_of(sub_orchestrations.engine, file_url)
    parents = {id: state.parent.instance_id for id, state in states.items() if state.parent is not None}
    assert parents == {
        f"{batch}-order-{index}": batch for batch, orders in sub_orchestrations.BATCHES.items() for index in range(len(orders))
    }


def test_the_day_in_an_id_is_the_recorded_one(file_url: str) -> None:
    run(instance_ids.main(file_url))
    histories = histories_of(instance_ids.engine, file_url)
    states = states_of(instance_ids.engine, file_url)
    for order_id in instance_ids.ORDERS:
        [shipping] = [id for id in histories if id.startswith(f"order-{order_id}-shipping-")]
        started = histories[f"order-{order_id}"][0]
        assert isinstance(started, ExecutionStarted)
        day = states[shipping].created_at.fromtimestamp(started.at_us / 1e6, states[shipping].created_at.tzinfo)
        assert shipping.endswith(f"-{day:%Y%m%d}")


# ── what is logged ───────────────────────────────────────────────────────────────────────────────────────────────


def test_progress_is_logged_when_it_happens_and_not_on_replay(file_url: str, caplog: pytest.LogCaptureFixture) -> None:
    orchestrator, id = "logged_fan_out", progress_log.INSTANCE_ID
    with caplog.at_level(logging.INFO, f"durable_core.orchestrator.{orchestrator}"):
        run(progress_log.main(file_url))
        lines = [record.getMessage() for record in caplog.records if record.name.endswith(orchestrator)]
        assert lines == [f"processing batch {number}/4" for number in range(1, 5)]
        caplog.clear()
        history = histories_of(progress_log.engine, file_url)[id]
        execution_id = states_of(progress_log.engine, file_url)[id].execution_id
        execution = Golden("examples.progress_log:engine", orchestrator, id, execution_id, history).replayed()
        assert isinstance(execution.ending, ExecutionCompleted), "the code has run to its end again"
        execution.close()
        assert not caplog.records


# ── what a client sees meanwhile ─────────────────────────────────────────────────────────────────────────────────


def test_a_client_reads_the_progress_while_it_runs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the first batch and three of the second one are done, and the others held up."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def measure(item: str) -> int:
            if item not in progress_tracking.ITEMS[:13]:
                await go_on.wait()
            return len(item)

        monkeypatch.setattr(progress_tracking, "measure", measure)
        running = asyncio.create_task(progress_tracking.main(url))

        async def thirteen() -> bool:
            if progress_tracking.engine._session is None:
                return False  # not open yet
            progress = await progress_tracking.engine.client.get_entity(progress_tracking.ProgressTracker, progress_tracking.INSTANCE_ID)
            return progress is not None and (progress.processed_items, progress.total_items) == (13, 25)

        await until(thirteen)
        go_on.set()
        assert (await running).processed == 25

    run(main())


@asynccontextmanager
async def working(url: str) -> AsyncIterator[None]:
    """What the worker's process does, in this one."""
    worker = DurableEngine()
    worker.register(parallel_work_items.parallel_work_items, parallel_work_items.process_work_item)
    async with worker.open(url):
        yield


def test_the_output_is_null_while_it_runs(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def compute(number: int) -> int:
            await go_on.wait()
            return number * 2

        monkeypatch.setattr(parallel_work_items.processor, "compute", compute)
        async with serving(file_url, works=False) as client:
            id = (await client.post("/start", json=3)).json()["instanceId"]

            async def status() -> dict[str, object]:
                found: dict[str, object] = (await client.get(f"/status/{id}")).raise_for_status().json()
                return found

            def saying(status: InstanceStatus, output: list[int] | None) -> dict[str, object]:
                return {"instanceId": id, "status": status.name, "output": output}

            assert await status() == saying(InstanceStatus.PENDING, None), "nobody works"
            async with working(file_url):

                async def started() -> bool:
                    return (await status())["status"] != "PENDING"

                await until(started)
                assert await status() == saying(InstanceStatus.RUNNING, None)
                go_on.set()

                async def ended() -> bool:
                    return (await status())["output"] is not None

                await until(ended)
            assert await status() == saying(InstanceStatus.COMPLETED, [0, 2, 4])

    run(main())


def test_a_request_that_is_sent_again_starts_nothing_new(url: str) -> None:
    async def main() -> None:
        async with serving(url, works=True) as client:
            keyed = [(await client.post("/start", json=1, headers={"Idempotency-Key": "mine"})).json() for _ in range(2)]
            assert keyed == [{"instanceId": "mine"}] * 2
            fresh = [(await client.post("/start", json=1)).json()["instanceId"] for _ in range(2)]
            assert len({"mine", *fresh}) == 3
            for body in ("", '"3"', "true", "[1]", "{"):
                assert (await client.post("/start", content=body)).status_code == 400

    run(main())


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM], ids=lambda which: which.name)
def test_a_worker_works_until_it_is_told_to_end(file_url: str, which: signal.Signals) -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.rest_controller.worker", file_url]
    worker = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    async def main() -> None:
        async with serving(file_url, works=False) as client:
            id = (await client.post("/start", json=2)).json()["instanceId"]

            async def ended() -> bool:
                return bool((await client.get(f"/status/{id}")).json()["output"])

            await until(ended)

    try:
        run(main())
        worker.send_signal(which)
        _, said = worker.communicate(timeout=DEADLINE_S)
    finally:
        worker.kill()
    assert (worker.returncode, said) == (0, "")
