"""The nine methods of the protocol, each a line or two: the work is done elsewhere in this package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from durable_core import backend as protocol
from durable_core.errors import EngineStateError
from durable_postgres.claims import ClaimRequest
from durable_postgres.options import PostgresOptions, parse_url
from durable_postgres.store import Store, capabilities_of, open_store

__all__ = ["PostgresBackend", "open_backend"]


def open_backend(url: str, **options: object) -> PostgresBackend:
    """The factory behind ``postgresql:`` URLs (``options.py`` has their options). Raises ``StoreUrlError``; nothing is connected to
    before ``open``."""
    return PostgresBackend(parse_url(url, options))


class PostgresBackend:
    """A handle on a hub in PostgreSQL, which any number of handles, processes and machines may share."""

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._capabilities = capabilities_of(options)
        self._opened: Store | None = None

    def __repr__(self) -> str:
        return f"<PostgresBackend {self._options.where}>"

    @property
    def capabilities(self) -> protocol.Capabilities:
        return self._capabilities

    async def open(self, *, create: bool = True) -> None:
        if self._opened is not None:
            raise EngineStateError("this handle is open already: close it first, or make another one")
        self._opened = await open_store(self._options, create=create)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def cut(self) -> None:
        """Lose all connections, for tests: what was under way does not learn how it ended."""
        self._store.cut()

    async def apply(self, commands: Sequence[protocol.Command]) -> list[protocol.Outcome]:
        return await self._store.steps.apply(commands)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: protocol.Selectors) -> protocol.Claim:
        return await self._store.steps.claim(ClaimRequest(worker, claim_id, turns, tasks, selectors))

    async def heartbeat(self, worker: str, *, ttl_us: int) -> protocol.Heartbeat:
        return await self._store.steps.beat(worker, ttl_us)

    async def get_instances(self, ids: Sequence[str]) -> list[protocol.InstanceRecord | None]:
        return await self._store.reads.get_instances(ids)

    async def query_instances(self, filter: protocol.InstanceFilter, *, limit: int, cursor: str | None = None) -> protocol.Page:
        return await self._store.reads.query_instances(filter, limit, cursor)

    async def read_history(self, ranges: Sequence[protocol.HistoryRange]) -> list[protocol.HistoryPage]:
        return await self._store.reads.read_history(ranges)

    def wakeups(self) -> AsyncIterator[protocol.Wakeup]:
        return self._store.wakeups.listen()

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise EngineStateError("this handle of the store is not open: await open() first")
        return self._opened
