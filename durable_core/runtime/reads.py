"""Reading the store: page after page, and records of many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from durable_core.backend import Backend, HistoryRange, InstanceFilter, InstanceRecord
from durable_core.runtime.clock import Clock
from durable_core.runtime.outage import Outage
from durable_core.runtime.patience import read_patiently

T = TypeVar("T")


class Reader:
    """Records are read together: however many clients ask within one tick of the loop, the store is asked once. While the store is away, each
    page is asked for again and again, for as long as a client waits."""

    def __init__(self, backend: Backend, clock: Clock, outage: Outage, patience_s: float) -> None:
        self._backend = backend
        self._patience_s = patience_s
        self._clock = clock
        self._outage = outage
        self._ids: list[str] = []
        self._reading: asyncio.Future[dict[str, InstanceRecord | None]] | None = None

    async def record(self, instance_id: str) -> InstanceRecord | None:
        self._ids.append(instance_id)
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        return (await asyncio.shield(self._reading))[instance_id]

    async def _read(self) -> dict[str, InstanceRecord | None]:
        await asyncio.sleep(0)  # whoever asks in this tick is in
        ids, self._ids, self._reading = list(dict.fromkeys(self._ids)), [], None
        return dict(zip(ids, await self._ask(partial(self._backend.get_instances, ids)), strict=True))

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await read_patiently(ask, self._patience_s, self._clock, self._outage)

    async def records(self, wanted: InstanceFilter, page_size: int = 1_000) -> AsyncIterator[InstanceRecord]:
        """All that match, in order of creation."""
        cursor, more = None, True
        while more:
            page = await self._ask(partial(self._backend.query_instances, wanted, limit=page_size, cursor=cursor))
            for record in page.records:
                yield record
            cursor, more = page.cursor, page.cursor is not None

    async def history(self, instance: str, execution: str | None = None) -> AsyncIterator[bytes]:
        """The rows of an execution (None: the current one), from the first."""
        first: int | None = 0
        while first is not None:
            [page] = await self._ask(partial(self._backend.read_history, [HistoryRange(instance, execution, first)]))
            for row in page.rows:
                yield row.payload
            first = page.next
