"""The pool of processes and the signals that a terminal or a service manager sends to a whole group."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from durable_core import activity
from durable_core.failures import DescribedElsewhere
from durable_core.runtime.worker.processes import ActivityProcesses


@activity(executor="process")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@activity(executor="process")
def crash(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


working_directory = activity(executor="process")(os.getcwd)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM], ids=lambda which: which.name)
def test_a_signal_while_a_child_starts_does_not_kill_it(which: signal.Signals) -> None:
    async def signalled_at_birth() -> object:
        processes = ActivityProcesses(1)
        call = asyncio.create_task(processes.run(working_directory))
        while not (children := dict(getattr(processes._pool, "_processes", None) or {})):
            await asyncio.sleep(0)
        for child in children:  # it has just been started: its imports take some tenths of a second
            os.kill(child, which)
        try:
            assert await call == os.getcwd()  # noqa: PTH109
            assert processes._pool is not None
            assert dict(processes._pool._processes) == children, "it is still the same child"
            for child in children:
                os.kill(child, which)
            return await processes.run(working_directory)
        finally:
            processes.close()

    assert asyncio.run(signalled_at_birth()) == os.getcwd()  # noqa: PTH109


def test_one_that_dies_does_not_count_against_its_neighbours() -> None:
    """The pool ends with it; its neighbours run again, each on its own, and so does whoever comes later."""

    async def neighbours() -> tuple[list[object], object]:
        processes = ActivityProcesses(3)
        try:
            calls = [processes.run(nap, 2.0), processes.run(nap, 2.5), processes.run(crash, 0.2)]
            return await asyncio.gather(*calls, return_exceptions=True), await processes.run(nap, 0.0)
        finally:
            processes.close()

    (*naps, dead), later = asyncio.run(neighbours())
    assert (naps, later) == ([2.0, 2.5], 0.0)
    assert isinstance(dead, DescribedElsewhere)
    assert "died 3 times" in dead.details.message


def test_closing_ends_those_that_run_alone_too() -> None:
    async def closed() -> list[bool]:
        processes = ActivityProcesses(1)
        call = asyncio.create_task(processes._run_alone(nap, (60.0,)))
        while not (children := [child for pool in processes._alone for child in pool._processes.values()]):
            await asyncio.sleep(0)
        processes.close()
        for child in children:
            await asyncio.to_thread(child.join, 20)
        call.cancel()
        await asyncio.wait([call])
        return [child.is_alive() for child in children]

    assert asyncio.run(closed()) == [False]
