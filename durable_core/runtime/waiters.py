"""Clients that wait for an instance to start or to end: told by the worker of this process, or by looking again whenever the store hints at
a change.

Reads are gathered: however many clients ask within one tick of the loop, the store is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durable_core.backend import ENDED, Backend, CommitTurn, InstanceRecord
from durable_core.errors import StoreUnavailableError

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


Waiting = dict[str, list[asyncio.Future[CommitTurn | None]]]


class Waiters:
    """``watched_here(id)`` says that this process's worker has the instance in hand and will tell of its end. All others are looked at
    again at every hint, and every second if hints get lost."""

    def __init__(self, watched_here: Callable[[str], bool]) -> None:
        self._watched_here = watched_here
        self._for_change: Waiting = {}
        self._for_end: Waiting = {}
        self._poll: asyncio.TimerHandle | None = None

    async def next_change(self, instance_id: str, *, end_only: bool = False) -> CommitTurn | None:
        """The commit that changed (or ended) the instance, if this process made it; None: look again."""
        loop = asyncio.get_running_loop()
        if self._poll is None:
            self._poll = loop.call_later(_POLL_S, self._poll_again)
        future: asyncio.Future[CommitTurn | None] = loop.create_future()
        table = self._for_end if end_only else self._for_change
        table.setdefault(instance_id, []).append(future)
        try:
            return await future
        finally:
            waiting = table.get(instance_id, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del table[instance_id]

    def changed(self, instance_id: str, commit: CommitTurn) -> None:
        """The worker of this process has committed a new status."""
        _tell(self._for_change, instance_id, commit)
        if commit.record is not None and commit.record.status in ENDED:
            _tell(self._for_end, instance_id, commit)

    def recheck(self) -> None:
        """The store hints that something has changed."""
        for instance_id in list(self._for_change):
            _tell(self._for_change, instance_id, None)
        for instance_id in [id for id in self._for_end if not self._watched_here(id)]:
            _tell(self._for_end, instance_id, None)

    def _poll_again(self) -> None:
        waiting = self._for_change or self._for_end
        self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._poll_again) if waiting else None
        self.recheck()

    def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()


def _tell(table: Waiting, instance_id: str, commit: CommitTurn | None) -> None:
    for future in table.pop(instance_id, ()):
        if not future.done():
            future.set_result(commit)
