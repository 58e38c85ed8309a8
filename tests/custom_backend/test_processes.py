"""The engine on the store of examples/custom_backend, in several processes, one of which is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples import parallel_work_items
from examples.custom_backend import FilesBackend
from tests.custom_backend.worker import engine

PROJECT = Path(__file__).resolve().parents[2]
COUNTS = range(6, 14)

Worker = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Worker]]:
    """Start a worker in a process of its own."""
    workers: list[Worker] = []

    def start(mode: str) -> Worker:
        command = [sys.executable, "-m", "tests.custom_backend.worker", str(tmp_path / "hub"), mode]
        workers.append(subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()


async def takes_on_a_work_item(worker: Worker) -> None:
    assert worker.stdout is not None
    assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"
    assert (await asyncio.to_thread(worker.stdout.readline)).strip().isdigit()


@pytest.mark.timeout(120)
def test_what_a_killed_process_had_in_hand_is_done_by_another(start: Callable[[str], Worker], tmp_path: Path) -> None:
    async def main() -> dict[int, list[int]]:
        async with engine().open(backend=FilesBackend(tmp_path / "hub"), worker=False) as opened:
            schedule = opened.client.schedule_new_orchestration
            handles = {count: await schedule(parallel_work_items.parallel_work_items, count) for count in COUNTS}
            stuck = start("stuck")
            await takes_on_a_work_item(stuck)
            good = start("finished")
            await takes_on_a_work_item(good)
            stuck.kill()
            results = {count: await handle.result() for count, handle in handles.items()}
            await asyncio.to_thread(good.communicate)  # closes its input: it gives its leases back and ends
            assert good.returncode == 0
            return results

    assert asyncio.run(main()) == {count: [2 * number for number in range(count)] for count in COUNTS}
