"""The pool of processes and the signals that a terminal or a service manager sends to a whole group."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from durable_core import activity
from durable_core.runtime.worker.processes import ActivityProcesses

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
