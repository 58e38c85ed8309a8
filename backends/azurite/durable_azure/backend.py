"""The nine methods of the protocol, each a line or two: the work is done elsewhere in this package."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from durable_azure.options import AzureOptions, parse_emulator_url, parse_url
from durable_azure.rounds import ClaimRequest, Look
from durable_azure.store import Store, open_store
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
from durable_core.hub import Beat, State, query, read_history, record_of

__all__ = ["AzureBackend", "open_backend", "open_emulator"]

T = TypeVar("T")

_CAPABILITIES = Capabilities(durability="replicated", multi_process=True, proves_death=False, max_payload_bytes=64 << 20)


def open_backend(url: str, **options: object) -> AzureBackend:
    """The factory behind ``azure:`` URLs (``options.py`` has their options). Raises ``StoreUrlError``; ``open`` is the first to
    speak to the service."""
    return AzureBackend(parse_url(url, options))


def open_emulator(url: str, **options: object) -> AzureBackend:
    """The same for ``azurite:`` URLs."""
    return AzureBackend(parse_emulator_url(url, options))


class AzureBackend:
    """A handle on a store in a container, which any number of handles and processes may share."""

    def __init__(self, options: AzureOptions) -> None:
        self._options = options
        self._opened: Store | None = None

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    @property
    def commits(self) -> int:
        """Appends by this handle since it was opened that were accepted."""
        return self._store.commits

    @property
    def operations(self) -> Counter[str]:
        """Requests by this handle since it was opened, as they are billed; ``operations.dollars`` says what for."""
        return self._store.blobs.operations

    async def open(self, *, create: bool = True) -> None:
        if self._opened is not None:
            raise EngineStateError("this handle is open already: close it first, or make another one")
        self._opened = await open_store(self._options, self.capabilities, create=create)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._store.submit(commands)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        (claim,) = await self._store.submit((ClaimRequest(worker, claim_id, turns, tasks, selectors),))
        assert isinstance(claim, Claim)
        return claim

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        (heartbeat,) = await self._store.submit((Beat(worker, ttl_us),))
        assert isinstance(heartbeat, Heartbeat)
        return heartbeat

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        return await self._read(lambda state: [record_of(state, id) for id in ids])

    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        return await self._read(lambda state: query(state, filter, limit=limit, cursor=cursor))

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        return await self._read(lambda state: [read_history(state, range) for range in ranges])

    def wakeups(self) -> AsyncIterator[Wakeup]:
        return self._store.wakeups.listen()

    async def _read(self, read: Callable[[State], T]) -> T:
        answer: T
        (answer,) = await self._store.submit((Look(read),))
        return answer

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise EngineStateError("this handle of the store is not open: await open() first")
        return self._opened
