"""Reading: records, pages and histories, on lanes of their own. A text that is no Unicode text (a lone surrogate) cannot have been stored,
so it is never found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, pairwise
from typing import Any, TypeVar

from durable_core.backend import ENTITY_PREFIX, HistoryPage, HistoryRange, HistoryRow, InstanceFilter, InstanceRecord, Page
from durable_core.errors import StoreError, StoreUnavailableError
from durable_core.hub import State, cursor_after, read_cursor, record_of
from durable_postgres.errors import cannot_connect
from durable_postgres.lanes import Connection, Lane
from durable_postgres.options import PostgresOptions
from durable_postgres.queries import query
from durable_postgres.rows import detail_of, instance_row

__all__ = ["Reads"]

T = TypeVar("T")


class Reads:
    def __init__(self, options: PostgresOptions) -> None:
        self._where = options.where
        # A filter's conditions decide which index serves it: its plan is to see them.
        self.lanes = [Lane(options, plan_cache_mode="auto") for _ in range(options.readers)]
        self._next = cycle(self.lanes)

    async def close(self) -> None:
        for lane in self.lanes:
            await lane.close()

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        wanted = [id.encode() for id in set(ids) if _is_text(id)]

        async def read(connection: Connection) -> list[Any]:
            return list(await connection.fetch(query("get_instances"), wanted))

        records = {record.instance: record for record in map(_record, await self._read(read))}
        return [records.get(id) for id in ids]

    async def query_instances(self, filter: InstanceFilter, limit: int, cursor: str | None) -> Page:
        after_us, after_id = (-1, "") if cursor is None else read_cursor(cursor)
        prefix = filter.id_prefix if filter.id_prefix is not None else ENTITY_PREFIX if filter.entities else None
        if not all(_is_text(text) for text in (after_id, filter.name, prefix, filter.parent) if text is not None):
            return Page((), None)
        conditions = (
            after_us,
            after_id.encode(),
            _raw(prefix),
            None if prefix is None else _after_prefix(prefix.encode()),
            filter.entities,
            None if filter.statuses is None else sorted(filter.statuses),
            _raw(filter.name),
            _raw(filter.parent),
            filter.created_from_us,
            filter.created_to_us,
            filter.updated_from_us,
            limit + 1,
            filter.updated_to_us,
        )

        async def read(connection: Connection) -> list[Any]:
            return list(await connection.fetch(query("query_instances"), *conditions))

        rows = await self._read(read)
        records = tuple(map(_record, rows[:limit]))
        return Page(records, cursor_after(records[-1]) if records and len(rows) > limit else None)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        async def read(connection: Connection) -> list[HistoryPage]:
            return [await _read_range(connection, range) for range in ranges]

        return await self._read(read)

    async def _read(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._read_once(read)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            return await self._read_once(read)  # the connection may have been lost long ago, unseen: a new one may well work

    async def _read_once(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        lane = next((lane for lane in self.lanes if lane.is_free), None) or next(self._next)
        try:
            async with lane.use() as connection:
                return await read(connection)
        except Exception as error:
            if isinstance(error, StoreError):
                raise
            raise cannot_connect(error, self._where) from error


async def _read_range(connection: Connection, range: HistoryRange) -> HistoryPage:
    if not _is_text(range.instance) or (range.execution is not None and not _is_text(range.execution)):
        return HistoryPage(())
    found = await connection.fetchrow(
        query("read_history"), range.instance.encode(), _raw(range.execution), range.first, min(range.max_bytes, 512 << 20)
    )
    if found is None:
        return HistoryPage(())
    rows = tuple(HistoryRow(first, count, payload) for _, first, count, payload in found["rows"] or ())
    for row, following in pairwise(rows):
        assert row.first + row.count == following.first, f"a hole in the history of {range.instance!r} before event {following.first}"
    end = rows[-1].first + rows[-1].count if rows else found["history_length"]
    return HistoryPage(rows, end if end < found["history_length"] else None)


def _record(found: Any) -> InstanceRecord:
    row = instance_row(found["row"])
    record = record_of(State(instances={row.instance: row}, details=dict(detail_of(found["details"], row.instance))), row.instance)
    assert record is not None
    return record


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first bytes after all those that start with ``prefix`` (UTF-8 has no 0xFF); None: there is no end."""
    return prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else None


def _raw(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
