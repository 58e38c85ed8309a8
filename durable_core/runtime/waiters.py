"""Clients that wait for an instance to start or to end: told by the worker of this process, or by looking again whenever the store hints at a change.

Reads are gathered: however many clients ask within one tick of the loop, the store is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durable_core.backend import Backend, CommitTurn, InstanceRecord
from durable_core.errors import StoreUnavailableError

__all__ = ["RecordReader", "Waiters"]

_POLL_S = 1.0
_IDS_PER_READ = 1_000


class RecordReader:
    """``get_instances`` of many callers as one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asked: dict[str, asyncio.Future[InstanceRecord | None]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def read(self, instance_id: str) -> InstanceRecord | None:
        future = self._asked.get(instance_id)
        if future is None:
            loop = asyncio.get_running_loop()
            if not self._asked:
                loop.call_soon(self._start)
            future = self._asked[instance_id] = loop.create_future()
        return await asyncio.shield(future)

    def _start(self) -> None:
        asked, self._asked = self._asked, {}
        task = asyncio.get_running_loop().create_task(self._read(asked))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, asked: dict[str, asyncio.Future[InstanceRecord | None]]) -> None:
        ids = list(asked)
        for first in range(0, len(ids), _IDS_PER_READ):
            chunk = ids[first : first + _IDS_PER_READ]
            try:
                records = await self._backend.get_instances(chunk)
            except BaseException as error:
                for id in chunk:
                    if not asked[id].done():
                        asked[id].set_exception(error if isinstance(error, Exception) else StoreUnavailableError("the engine was closed"))
                        asked[id].exception()
                if not isinstance(error, Exception):
                    raise
            else:
                for id, record in zip(chunk, records, strict=True):
                    if not asked[id].done():
                        asked[id].set_result(record)


class Waiters:
    """``watched_here(id)`` says that this process's worker has the instance in hand and will call ``ended``."""

    def __init__(self, watched_here: Callable[[str], bool]) -> None:
        self._watched_here = watched_here
        self._events: dict[str, list[asyncio.Future[CommitTurn | None]]] = {}

    def ended(self, instance_id: str, commit: CommitTurn) -> None:
        """The worker of this process has ended it."""
        for future in self._events.pop(instance_id, ()):
            if not future.done():
                future.set_result(commit)

    async def next_change(self, instance_id: str) -> CommitTurn | None:
        """The commit that ended the instance, if this process made it; None: look again."""
        future: asyncio.Future[CommitTurn | None] = asyncio.get_running_loop().create_future()
        self._events.setdefault(instance_id, []).append(future)
        try:
            async with asyncio.timeout(_POLL_S):
                return await future
        except TimeoutError:
            return None
        finally:
            waiting = self._events.get(instance_id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._events[instance_id]

    def recheck(self) -> None:
        """The store hints that something has changed."""
        for instance_id in [id for id in self._events if not self._watched_here(id)]:
            for future in self._events.pop(instance_id):
                if not future.done():
                    future.set_result(None)
