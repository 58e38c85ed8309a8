"""What exists while an engine is open, shared by its client and its worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

from durable_core.backend import Backend, ClaimedTurn, Command, CreateInstance
from durable_core.definitions.registry import Registry
from durable_core.errors import StoreError
from durable_core.runtime.clock import Clock
from durable_core.runtime.committer import Committer
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.outage import Outage
from durable_core.runtime.patience import CLIENT_PATIENCE_S, FIRST_RETRY_S, LAST_RETRY_S
from durable_core.runtime.reads import Reader
from durable_core.runtime.supervisor import Supervisor
from durable_core.runtime.threads import DaemonThreads
from durable_core.runtime.waiters import Waiters


class LocalWorker(Protocol):
    """The worker of this process, as others see it. ``take``: a turn that a client of this process had claimed for the incarnation
    ``holder``; ``wake``: there may be something to claim; ``freed``: there is room again; ``hurry``: do not wait for running activities any
    longer; ``abandon``: end at once, without the committer."""

    id: str

    def can_take(self, orchestrator: str, /) -> bool: ...
    def take(self, turn: ClaimedTurn, holder: str | None, /) -> None: ...
    def wake(self) -> None: ...
    def freed(self) -> None: ...
    def hurry(self) -> None: ...
    async def stop(self) -> None: ...
    async def abandon(self) -> None: ...


class Session:
    """``worker`` None: this process only submits and asks. ``draining``: nothing new is begun any more. ``new_threads`` makes what runs
    synchronous code. ``patience_s`` is how long a client's call waits for the store."""

    new_threads: Callable[[int, str], DaemonThreads] = DaemonThreads

    def __init__(
        self, backend: Backend, registry: Registry, options: WorkerOptions, clock: Clock, patience_s: float = CLIENT_PATIENCE_S
    ) -> None:
        self.backend = backend
        self.registry = registry
        self.options = options
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.worker: LocalWorker | None = None
        self.draining = False
        self.clock = clock
        self.outage = Outage(clock)
        self.supervisor = supervisor = Supervisor()
        supervisor.on_failure.append(self._fail)
        self.committer = Committer(backend, clock, self.outage, supervisor, patience_s, self._created)
        self.reader = Reader(backend, clock, self.outage, patience_s)
        self.waiters = Waiters()
        self._tasks = [supervisor.start(self._listen(), "the listener for wake-ups"), supervisor.start(self._poll(), "the poll")]
        self._failing: asyncio.Task[None] | None = None

    async def _listen(self) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                async for _ in self.backend.wakeups():
                    pause_s = FIRST_RETRY_S
                    self.wake()
                    self.waiters.recheck()
                return  # the handle is closed
            except StoreError as error:
                self.outage.failed("wake-ups", error)
            await self.clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_RETRY_S)

    async def _poll(self) -> None:
        """For those who wait, if hints get lost."""
        while True:
            await self.clock.sleep(self.options.poll_s)
            self.waiters.poll()

    def cuts_off(self, error: BaseException, task: asyncio.Task[Any] | None) -> bool:
        """Whether users' code that runs on the event loop, in ``task``, was ended from outside by what came out of it: by Ctrl-C, or with
        the loop (somebody has cancelled all its tasks, or it is gone). Anything else is of the code's own making."""
        if isinstance(error, asyncio.CancelledError):
            return any(each.cancelling() > 0 or each.cancelled() for each in self._tasks)
        loop_is_gone = isinstance(error, GeneratorExit) and asyncio.current_task(self._tasks[0].get_loop()) is not task
        return loop_is_gone or isinstance(error, KeyboardInterrupt)

    def wake(self) -> None:
        """There may be something to claim."""
        if self.worker is not None:
            self.worker.wake()

    def _created(self, command: Command, turn: ClaimedTurn) -> None:
        if self.worker is not None and isinstance(command, CreateInstance):
            self.worker.take(turn, command.worker)

    def _fail(self) -> None:
        """A loop has died: nothing is begun any more, nobody is left waiting, and what this worker holds is free for others."""
        self.draining = self.supervisor.closing = True
        self.committer.give_up(self.supervisor.error())
        self.waiters.look_again()
        if self.worker is not None:
            self._failing = asyncio.create_task(self.worker.abandon(), name="durable-core end")

    async def close(self) -> None:
        """Shielded from a second cancellation: leases are given back whatever happens, in bounded time."""
        closing = asyncio.create_task(self._close())
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                if closing.done():
                    raise
                if self.worker is not None:
                    self.worker.hurry()

    async def _close(self) -> None:
        self.draining = self.committer.draining = self.supervisor.closing = True
        try:
            if self._failing is not None:
                await self._failing
            elif self.worker is not None:
                await self.worker.stop()
            await self.committer.flush()
        finally:  # also when the loop is torn down in the middle of that
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await self.committer.close()
