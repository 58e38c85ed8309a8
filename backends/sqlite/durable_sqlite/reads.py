"""Reading: records, pages and histories, on connections of their own so that nobody waits for a commit.

Each call sees one state of the store: one statement, or a read transaction around several. A text that is no Unicode text (a
lone surrogate) cannot have been stored, so it is never found.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, pairwise
from typing import Any, TypeVar

import msgspec

from durable_core.backend import ENTITY_PREFIX, HistoryPage, HistoryRange, HistoryRow, InstanceFilter, InstanceRecord, InstanceStatus, Page
from durable_core.errors import StoreError
from durable_core.hub import DETAIL_KINDS, DetailKind, State, cursor_after, read_cursor, record_of
from durable_sqlite.errors import translate
from durable_sqlite.queries import Rows, query
from durable_sqlite.rows import detail_rows, instance_row, parse

__all__ = ["Readers", "get_instances", "query_instances", "read_history"]

T = TypeVar("T")

_INSTANCES = Rows("load_instances")
_DETAILS: tuple[DetailKind, ...] = tuple(kind for kind in DETAIL_KINDS if kind != "obituaries")
_FEW = 10_000
"""Up to so many candidates are sorted by age; where there are more, all instances are passed in order of age until the page is full."""
_RARE = frozenset({InstanceStatus.FAILED, InstanceStatus.TERMINATED, InstanceStatus.SUSPENDED})
"""The states of the index ``instance_rare``."""


class Readers:
    """A few threads, each read on one of as many connections, opened when first needed."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], count: int, where: str) -> None:
        self._connect = connect
        self._where = where
        self._idle: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="durable-sqlite-reader")

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            answer = read(connection)
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, self._where) or StoreError(f"{self._where} cannot be read: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer


def get_instances(connection: sqlite3.Connection, ids: Sequence[str]) -> list[InstanceRecord | None]:
    with _one_state(connection):
        wanted = list({id for id in ids if _is_text(id)})
        state = _load(connection, chain.from_iterable(map(parse, _INSTANCES.fetch(connection, wanted))))
    return [record_of(state, id) for id in ids]


def query_instances(connection: sqlite3.Connection, filter: InstanceFilter, limit: int, cursor: str | None) -> Page:
    after_us, after_id = (-1, "") if cursor is None else read_cursor(cursor)
    if not all(_is_text(text) for text in (after_id, filter.name, filter.id_prefix, filter.parent) if text is not None):
        return Page((), None)
    parameters = {"after_us": after_us, "after_id": after_id, "many": limit + 1, **_conditions(filter)}
    with _one_state(connection):
        sql = query("query_instances").replace("/*source*/", query(_source(connection, filter, parameters)))
        rows = parse(connection.execute(sql, parameters).fetchone()[0])
        page = rows[:limit]
        state = _load(connection, page)
    records = tuple(record for row in page if (record := record_of(state, row[2])) is not None)
    return Page(records, cursor_after(records[-1]) if records and len(rows) > limit else None)


def read_history(connection: sqlite3.Connection, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
    with _one_state(connection):
        return [_read_range(connection, range) for range in ranges]


def _read_range(connection: sqlite3.Connection, range: HistoryRange) -> HistoryPage:
    if not _is_text(range.instance) or (range.execution is not None and not _is_text(range.execution)):
        return HistoryPage(())
    parameters = {"instance": range.instance, "execution": range.execution, "first": range.first, "max_bytes": range.max_bytes}
    found = connection.execute(query("read_history"), parameters).fetchone()
    if found is None:
        return HistoryPage(())
    length, entries = parse(found[0])
    rows = tuple(HistoryRow(first, count, bytes.fromhex(payload)) for first, count, payload in entries)
    for row, following in pairwise(rows):
        assert row.first + row.count == following.first, f"a hole in the history of {range.instance!r} before event {following.first}"
    end = rows[-1].first + rows[-1].count if rows else length
    return HistoryPage(rows, end if end < length else None)


def _load(connection: sqlite3.Connection, rows: Iterator[Any] | Sequence[Any]) -> State:
    """Instances, as ``load_instances`` returns them, and their details."""
    state = State()
    keys: list[int] = []
    for key, _first_due_us, *columns in rows:
        row = instance_row(*columns)
        state.instances[row.instance] = row
        keys.append(key)
    state.details.update(detail_rows(connection, [(key, kind) for key in keys for kind in _DETAILS]))
    return state


def _conditions(filter: InstanceFilter) -> dict[str, object]:
    """Parameters of ``query_instances``; None: no condition. A prefix becomes a range of ids."""
    prefix = filter.id_prefix if filter.id_prefix is not None else ENTITY_PREFIX if filter.entities else None
    return {
        "statuses": None if filter.statuses is None else msgspec.json.encode(sorted(filter.statuses)).decode(),
        "name": filter.name,
        "id_from": prefix,
        "id_to": None if prefix is None else _after_prefix(prefix),
        "parent": filter.parent,
        "created_from_us": filter.created_from_us,
        "created_to_us": filter.created_to_us,
        "updated_from_us": filter.updated_from_us,
        "updated_to_us": filter.updated_to_us,
        "entities": filter.entities,
    }


def _source(connection: sqlite3.Connection, filter: InstanceFilter, parameters: dict[str, object]) -> str:
    """Where to look: the answer is the same, the effort is not."""
    if filter.parent is not None and _count(connection, "count_children", parameters) < _FEW:
        return "source_by_parent"
    if parameters["id_to"] is not None and _count(connection, "count_ids", parameters) < _FEW:
        return "source_by_id"
    return "source_by_rare_status" if filter.statuses is not None and filter.statuses <= _RARE else "source_by_age"


def _count(connection: sqlite3.Connection, name: str, parameters: dict[str, object]) -> int:
    (count,) = connection.execute(query(name), parameters | {"many": _FEW}).fetchone()
    return int(count)


def _after_prefix(prefix: str) -> str | None:
    """The first text after all those that start with ``prefix``, in order of code points; None if there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD800 else last)  # surrogates are no characters
        prefix = prefix[:-1]
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
