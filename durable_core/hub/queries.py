"""Reading a hub: records, pages of them in a stable order, and pages of history."""

from __future__ import annotations

from itertools import accumulate, takewhile

from durable_core.backend import HistoryPage, HistoryRange, InstanceFilter, InstanceRecord, Page
from durable_core.errors import UsageError
from durable_core.hub.rows import InstanceRow, State, facts_of


def record_of(state: State, id: str) -> InstanceRecord | None:
    """The record of an instance; None if there is none. An entity has no ``start``."""
    row = state.instances.get(id)
    if row is None:
        return None
    start, *others = (state.details.get((id, kind)) for kind in ("start", "custom_status", "output", "failure", "snapshot"))
    return InstanceRecord(*facts_of(row), start or b"", *others)


def matches(filter: InstanceFilter, row: InstanceRow) -> bool:
    """Whether all given conditions hold."""
    return (
        row.is_entity == filter.entities
        and (filter.statuses is None or row.status in filter.statuses)
        and filter.name in (None, row.name)
        and (filter.id_prefix is None or row.instance.startswith(filter.id_prefix))
        and (filter.parent is None or (row.parent is not None and row.parent.instance == filter.parent))
        and _in_range(row.created_us, filter.created_from_us, filter.created_to_us)
        and _in_range(row.updated_us, filter.updated_from_us, filter.updated_to_us)
    )


def _in_range(time_us: int, from_us: int | None, to_us: int | None) -> bool:
    return (from_us is None or from_us <= time_us) and (to_us is None or time_us < to_us)


def query(state: State, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
    """Up to ``limit`` matching records after ``cursor``, in order of ``order_of``."""
    after = (-1, "") if cursor is None else read_cursor(cursor)
    rows = sorted((row for row in state.instances.values() if order_of(row) > after and matches(filter, row)), key=order_of)
    records = tuple(record for row in rows[:limit] if (record := record_of(state, row.instance)) is not None)
    return Page(records, cursor_after(records[-1]) if records and len(rows) > limit else None)


def order_of(row: InstanceRow) -> tuple[int, str]:
    """(created, id), ids by code point, which is also the order of their UTF-8 bytes (SQL: BINARY, or COLLATE "C")."""
    return row.created_us, row.instance


def cursor_after(record: InstanceRecord) -> str:
    return f"{record.created_us}:{record.instance}"


def read_cursor(cursor: str) -> tuple[int, str]:
    created_us, colon, id = cursor.partition(":")
    if not (colon and created_us.isascii() and created_us.isdigit()):
        raise UsageError(f"{cursor!r} is not a cursor that query_instances returned")
    return int(created_us), id


def read_history(state: State, range: HistoryRange) -> HistoryPage:
    """One page of an execution's history; empty if there is none."""
    row = state.instances.get(range.instance)
    if row is None or range.execution not in (None, row.execution):
        return HistoryPage(())
    rows = [entry for entry in state.history.get(row.instance, []) if entry.first >= range.first]
    sizes = accumulate(len(entry.payload) for entry in rows)
    fitting = max(1, sum(1 for _ in takewhile(lambda size: size <= range.max_bytes, sizes)))
    return HistoryPage(tuple(rows[:fitting]), rows[fitting].first if fitting < len(rows) else None)
