"""Clients that wait for an instance to start or to end: told by the worker of this process, or by looking again whenever the store hints at a
change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from durable_core.backend import ENDED, RecordUpdate

_POLLS_PER_LOOK = 5


class Waiters:
    """``watched_here(id)`` says that this process's worker has the instance in hand and will tell of its end. All others are looked at again
    at every hint, and every second if hints get lost. Those in hand too, but less often: another process may have taken, replaced or purged
    one that this worker merely keeps in its cache."""

    def __init__(self) -> None:
        self.watched_here: Callable[[str], bool] = lambda _id: False
        self._waiting: dict[str, dict[asyncio.Future[RecordUpdate | None], bool]] = {}
        self._polls = 0

    @contextmanager
    def next_change(self, instance_id: str, *, end_only: bool) -> Iterator[asyncio.Future[RecordUpdate | None]]:
        """What changes (or ends) the instance from now on, if this process does it; None: look again."""
        future: asyncio.Future[RecordUpdate | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(instance_id, {})
        waiting[future] = end_only
        try:
            yield future
        finally:
            del waiting[future]
            if not waiting:
                del self._waiting[instance_id]

    def changed(self, instance_id: str, record: RecordUpdate | None) -> None:
        """The worker of this process has committed a turn."""
        self._tell(instance_id, record, ended=record is not None and record.status in ENDED)

    def recheck(self) -> None:
        """Something may have changed."""
        for instance_id in self._waiting:
            self._tell(instance_id, None, ended=not self.watched_here(instance_id))

    def _tell(self, instance_id: str, record: RecordUpdate | None, *, ended: bool) -> None:
        for future, end_only in self._waiting.get(instance_id, {}).items():
            if (ended or not end_only) and not future.done():
                future.set_result(record)

    def poll(self) -> None:
        """Some time has passed."""
        self._polls += 1
        if self._polls % _POLLS_PER_LOOK:
            self.recheck()
        else:
            self.look_again()

    def look_again(self) -> None:
        """Whoever has them in hand."""
        for instance_id in self._waiting:
            self._tell(instance_id, None, ended=True)
