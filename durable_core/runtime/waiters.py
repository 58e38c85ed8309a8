"""Clients that wait for an instance to start or to end: told by the worker of this process, or by looking again whenever the store hints at a
change.

Reads are gathered: however many clients ask within one tick of the loop, the store is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durable_core.backend import ENDED, Backend, CommitTurn, InstanceRecord

_POLL_S = 1.0
_IDS_PER_READ = 1_000


class RecordReader:
    """``get_instances`` of many callers as one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ids: list[str] = []
        self._reading: asyncio.Future[dict[str, InstanceRecord | None]] | None = None

    async def read(self, instance_id: str) -> InstanceRecord | None:
        self._ids.append(instance_id)
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        return (await asyncio.shield(self._reading))[instance_id]

    async def _read(self) -> dict[str, InstanceRecord | None]:
        await asyncio.sleep(0)  # whoever asks in this tick is in
        ids, self._ids, self._reading = list(dict.fromkeys(self._ids)), [], None
        found: dict[str, InstanceRecord | None] = {}
        for first in range(0, len(ids), _IDS_PER_READ):
            chunk = ids[first : first + _IDS_PER_READ]
            found.update(zip(chunk, await self._backend.get_instances(chunk), strict=True))
        return found


class Waiters:
    """``watched_here(id)`` says that this process's worker has the instance in hand and will tell of its end. All others are looked at again
    at every hint, and every second if hints get lost."""

    def __init__(self) -> None:
        self.watched_here: Callable[[str], bool] = lambda _id: False
        self._waiting: dict[str, dict[asyncio.Future[CommitTurn | None], bool]] = {}
        self._poll: asyncio.TimerHandle | None = None

    async def next_change(self, instance_id: str, *, end_only: bool = False) -> CommitTurn | None:
        """The commit that changed (or ended) the instance, if this process made it; None: look again."""
        loop = asyncio.get_running_loop()
        if self._poll is None:
            self._poll = loop.call_later(_POLL_S, self._poll_again)
        future: asyncio.Future[CommitTurn | None] = loop.create_future()
        waiting = self._waiting.setdefault(instance_id, {})
        waiting[future] = end_only
        try:
            return await future
        finally:
            del waiting[future]
            if not waiting and self._waiting.get(instance_id) is waiting:
                del self._waiting[instance_id]

    def changed(self, instance_id: str, commit: CommitTurn) -> None:
        """The worker of this process has committed a new status."""
        self._tell(instance_id, commit, ended=commit.record is not None and commit.record.status in ENDED)

    def recheck(self) -> None:
        """The store hints that something has changed."""
        for instance_id in self._waiting:
            self._tell(instance_id, None, ended=not self.watched_here(instance_id))

    def _tell(self, instance_id: str, commit: CommitTurn | None, *, ended: bool) -> None:
        for future, end_only in self._waiting.get(instance_id, {}).items():
            if (ended or not end_only) and not future.done():
                future.set_result(commit)

    def _poll_again(self) -> None:
        self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._poll_again) if self._waiting else None
        self.recheck()

    def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
