"""The nine methods of the protocol, each a line or two: the work is done elsewhere in this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from durable_core.backend import (
    Capabilities,
    Claim,
    Command,
    Heartbeat,
    HistoryPage,
    HistoryRange,
    InstanceFilter,
    InstanceRecord,
    Outcome,
    Page,
    Selectors,
    Wakeup,
)
from durable_core.errors import EngineStateError
from durable_sqlite import reads
from durable_sqlite.claims import ClaimRequest
from durable_sqlite.options import SqliteOptions, parse_url
from durable_sqlite.steps import BeatRequest
from durable_sqlite.store import Store, capabilities_of, open_store

__all__ = ["SqliteBackend", "open_backend"]


def open_backend(url: str, **options: object) -> SqliteBackend:
    """The factory behind ``sqlite:`` URLs (``options.py`` has their options). Raises ``StoreUrlError``; the file itself is opened
    by ``open``."""
    return SqliteBackend(parse_url(url, options))


class SqliteBackend:
    """A handle on a store in one SQLite file, which any number of handles and processes of one machine may share."""

    def __init__(self, options: SqliteOptions) -> None:
        self._options = options
        self._capabilities = capabilities_of(options)
        self._opened: Store | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def commits(self) -> int:
        """Durable commits by this handle since it was opened, each one sync of the disk (and a few more for checkpoints)."""
        return self._store.writer.commits

    async def open(self, *, create: bool = True) -> None:
        if self._opened is not None:
            raise EngineStateError("this handle is open already: close it first, or make another one")
        self._opened = await asyncio.to_thread(open_store, self._options, create=create)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._store.writer.submit(commands)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        (claim,) = await self._store.writer.submit((ClaimRequest(worker, claim_id, turns, tasks, selectors),))
        assert isinstance(claim, Claim)
        return claim

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        (heartbeat,) = await self._store.writer.submit((BeatRequest(worker, ttl_us),))
        assert isinstance(heartbeat, Heartbeat)
        return heartbeat

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        return await self._store.reads.read(partial(reads.get_instances, ids=ids))

    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        return await self._store.reads.read(partial(reads.query_instances, filter=filter, limit=limit, cursor=cursor))

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        return await self._store.reads.read(partial(reads.read_history, ranges=ranges))

    def wakeups(self) -> AsyncIterator[Wakeup]:
        store = self._store
        return store.wakeups.listen(store.writer.look)

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise EngineStateError("this handle of the store is not open: await open() first")
        return self._opened
