"""The thread that writes, and group commit.

Calls queue up while a commit is under way; the next transaction takes all that are there. So the batch size follows the load,
without a timer. Between transactions the thread also looks what other processes have done, if somebody listens.

A daemon thread: it must not keep a process alive that forgot to close its store. What was acknowledged is on the disk.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from durable_core.errors import StoreError, StoreUnavailableError
from durable_sqlite.commit import Committer, Job
from durable_sqlite.wakeups import Wakeups
from durable_sqlite.watch import Watch

__all__ = ["Writer"]

_logger = logging.getLogger("durable_core.sqlite")

T = TypeVar("T")

_REQUESTS_PER_TRANSACTION = 4_000
"""A limit on how long a heartbeat may have to wait for the commit that it shares."""


class _Sign(enum.Enum):
    LOOK = enum.auto()
    CLOSE = enum.auto()


class Writer:
    """``submit`` and ``read`` are called in an event loop and answered there. ``watch`` None: a store that nobody else can see."""

    def __init__(self, committer: Committer, wakeups: Wakeups, watch: Watch | None) -> None:
        self._committer = committer
        self._wakeups = wakeups
        self._watch = watch
        self._queue: SimpleQueue[Job | _Sign] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="durable-sqlite-writer", daemon=True)
        self._thread.start()

    @property
    def commits(self) -> int:
        return self._committer.commits

    async def submit(self, requests: Sequence[Any]) -> list[Any]:
        """One answer a request, in order, when all of them are durable."""
        return await self._enqueue(Job(requests, asyncio.get_running_loop()))

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that only reads on the writing connection: a store in memory has no other."""
        answer: T
        (answer,) = await self._enqueue(Job((), asyncio.get_running_loop(), read))
        return answer

    def _enqueue(self, job: Job) -> asyncio.Future[list[Any]]:
        if self._closed:
            raise StoreUnavailableError("this handle of the store was closed: open another one")
        self._queue.put(job)
        return job.future

    def look(self) -> None:
        """Somebody listens for wake-ups from now on."""
        self._queue.put(_Sign.LOOK)

    async def close(self) -> None:
        """What was submitted is done first."""
        self._closed = True
        self._queue.put(_Sign.CLOSE)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs, closing = self._take()
            if jobs:
                self._process(jobs)
            try:
                self._tell_news(jobs)
            except Exception:  # hints only: whoever waits for them looks again by itself, and those who come next need this thread
                _logger.exception("looking at what other processes do has failed")
        self._committer.close()

    def _take(self) -> tuple[list[Job], bool]:
        """What is there, at least one call unless it is time to look around; and whether to close after it."""
        jobs: list[Job] = []
        count = 0
        try:
            item = self._queue.get(timeout=self._watch.pause_s if self._watch is not None and self._wakeups else None)
            while item is not _Sign.CLOSE:
                if isinstance(item, Job):
                    jobs.append(item)
                    count += len(item.requests)
                if count >= _REQUESTS_PER_TRANSACTION:
                    return jobs, False
                item = self._queue.get_nowait()
        except Empty:
            return jobs, False
        return jobs, True

    def _process(self, jobs: list[Job]) -> None:
        """Answer all calls. Whatever happens, nobody is left waiting and the thread goes on."""
        try:
            places = [(job, index) for job in jobs for index in range(len(job.requests))]
            for start in range(0, len(places), _REQUESTS_PER_TRANSACTION):
                self._committer.run(places[start : start + _REQUESTS_PER_TRANSACTION])
            for job in jobs:
                if job.read is not None:
                    self._committer.read(job)
        except BaseException as error:  # a mistake of ours: to be seen by the callers, not to end in a silent thread
            for job in jobs:
                job.error = job.error or StoreError(f"the writer of the store failed: {error!r}")
                job.error.__cause__ = job.error.__cause__ or error
        for loop in dict.fromkeys(job.loop for job in jobs):
            _deliver(loop, [job for job in jobs if job.loop is loop])

    def _tell_news(self, jobs: list[Job]) -> None:
        """After the answers: who is told finds what it is told of."""
        work, ended = self._committer.take_news()
        if not self._wakeups:
            return
        try:
            foreign = self._watch is not None and self._watch.look(self._committer.connection)
        except (sqlite3.Error, StoreError):
            foreign = False  # the next transaction meets the same trouble and reports it
        if work or ended or foreign:
            self._wakeups.tell(ended=ended or foreign)


def _deliver(loop: asyncio.AbstractEventLoop, jobs: list[Job]) -> None:
    """Once a batch, not once a call."""

    def deliver() -> None:
        for job in jobs:
            job.deliver()

    try:
        loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        pass  # the loop was closed while its calls were under way
