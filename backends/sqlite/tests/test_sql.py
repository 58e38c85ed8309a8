"""The SQL files: every query has a sentence, a user and a plan without a scan where scans would hurt; people can read the store."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from durable_conformance.driver import after
from durable_core.backend import InstanceStatus, NextExecution, RecordUpdate
from durable_sqlite.options import parse_url
from durable_sqlite.queries import Rows, _queries, migrations, query
from durable_sqlite.store import _open_memory
from durable_sqlite.testing import find_faults

TEXT = (files("durable_sqlite") / "sql" / "queries.sql").read_text("utf-8")
NAMES = sorted(_queries())
SOURCES = "\n".join(entry.read_text("utf-8") for entry in files("durable_sqlite").iterdir() if entry.name.endswith(".py"))
PARTS = {name for name in NAMES if name.startswith("source_")}
"""Not queries but pieces of one."""


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for _, statements in migrations():
        for statement in statements:
            connection.execute(statement)
    yield connection
    connection.close()


def plan(database: sqlite3.Connection, name: str, size: int = 2) -> list[str]:
    sql = query(name).replace("/*source*/", query("source_by_age"))
    if "/*rows*/" in sql:
        rows = Rows(name)
        sql = rows._text(size)
    parameters: Any = [None] * sql.count("?")
    if not parameters:
        parameters = dict.fromkeys(re.findall(r":(\w+)", sql))
    return [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + sql, parameters)]


@pytest.mark.parametrize("name", NAMES)
def test_a_query_has_a_sentence_and_a_user(name: str) -> None:
    assert re.search(rf"^-- name: {name}\n-- [A-Z].*[.?)]$", TEXT, re.MULTILINE), "a sentence under the name"
    assert f'"{name}"' in SOURCES, "nobody uses it"


@pytest.mark.parametrize("name", sorted(set(NAMES) - PARTS))
@pytest.mark.parametrize("size", [1, 1024])
def test_a_query_compiles_in_every_size(database: sqlite3.Connection, name: str, size: int) -> None:
    plan(database, name, size)


MAY_SCAN = {
    "load_hub": ["hub", "worker", "pragma"],
    "load_batch": ["hub", "worker", "pragma"],
    "count_tables": ["sqlite_(master|schema)"],
    "advance": ["hub"],
    "free_tasks_of": ["task"],
    "drop_cancelled_tasks_of": [],
    "forget": ["seen"],
    "find_faults": [".*"],
}
"""Small tables, rare moments."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - PARTS))
def test_no_query_scans_a_table_that_grows(database: sqlite3.Connection, name: str) -> None:
    scans = [
        step
        for step in plan(database, name)
        if re.match(r"SCAN (?!\d|CONSTANT|json_each|wanted|q\b|a\b|gone|changed|now|claim|chosen|page|\()", step)
    ]
    allowed = MAY_SCAN.get(name, []) + (["instance USING INDEX instance_by_age"] if name == "query_instances" else [])
    assert [step for step in scans if not any(re.match(f"SCAN {table}", step) for table in allowed)] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("find_turns", "instance_to_wake"),
        ("find_control", "instance_to_control"),
        ("find_tasks", "task_open"),
        ("next_wake", "instance_to_wake"),
        ("next_steal", "instance_to_wake"),
        ("next_control", "instance_to_control"),
        ("free_instances_of", "instance_by_holder"),
        ("load_inboxes", "inbox_by_time"),
        ("load_inboxes", "inbox_control"),
        ("count_children", "instance_by_parent"),
        ("refresh_first_due", "inbox_by_time"),
        ("refresh_first_due", "inbox_control"),
    ],
)
def test_the_index_that_was_made_for_it(database: sqlite3.Connection, name: str, index: str) -> None:
    assert any(index in step for step in plan(database, name)), plan(database, name)


def test_an_in_list_of_three_is_nowhere_in_the_schema() -> None:
    """It would set up a temporary table in every statement that writes the table (75 µs each, measured)."""
    schema = "\n".join(statement for _, statements in migrations() for statement in statements if "VIEW" not in statement)
    assert not re.search(r"\bIN \([^)]*,[^)]*,", re.sub(r"--.*", "", schema))


async def test_people_can_read_the_store(handle: Any, drive: Any, store: Path) -> None:
    hub = await drive(await handle())
    turn = await hub.running(append=b'[{"type":"A","n":1},{"type":"B"}]', append_count=2, tasks=(hub.task("t", claim=True),))
    half = RecordUpdate(InstanceStatus.RUNNING, custom_status=b'"half"')
    await hub.commit(turn, append=b"\xff not JSON", append_count=1, record=half)
    await hub.send("i", b'{"a":1}')
    reader = sqlite3.connect(store)
    events = reader.execute("SELECT instance, number, event FROM events").fetchall()
    assert [(instance, number, json.loads(event)["type"]) for instance, number, event in events[:2]] == [("i", 0, "A"), ("i", 1, "B")]
    assert events[2][2].startswith("not JSON")
    found = reader.execute("SELECT id, status, custom_status, messages, tasks, created FROM instances").fetchall()
    assert found[0][:5] == ("i", "RUNNING", '"half"', 1, 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", found[0][5])
    assert reader.execute("SELECT target, payload FROM messages").fetchall() == [("i", '{"a":1}')]
    assert reader.execute("SELECT id, instance, worker, payload FROM tasks").fetchall() == [("t", "i", "w", '"input"')]
    assert [row[0] for row in reader.execute("SELECT id FROM workers")] == ["w"]
    reader.close()


def test_rows_are_padded_to_a_power_of_two(database: sqlite3.Connection) -> None:
    rows = Rows("drop_messages")
    sizes = [(len(chunk) // 2, text.count("(?, ?)")) for text, chunk in rows.chunks([1] * 2 * 1500)]
    assert sizes == [(1024, 1024), (512, 512)]
    assert list(rows.chunks([])) == []


async def test_a_timer_of_an_earlier_execution_leaves_no_trace(handle: Any, drive: Any, store: Path) -> None:
    """Were ``first_due_us`` left as it is, every claim from that time on would look at the instance in vain."""
    hub = await drive(await handle())
    turn = await hub.running()
    await hub.commit(turn, timers=(hub.message("i", due_us=1 << 60, execution=turn.execution),))
    await hub.commit(after(turn), append=None, next_execution=NextExecution("next", b"1"))
    reader = sqlite3.connect(store)
    assert reader.execute("SELECT first_due_us FROM instance").fetchall() == [(None,)]
    assert find_faults(reader) == []
    reader.close()


async def test_memory_uses_the_same_schema() -> None:
    store = _open_memory(parse_url("sqlite:///:memory:", {}))
    assert await store.reads.read(lambda connection: connection.execute("PRAGMA user_version").fetchone()) == (len(migrations()),)
    await store.close()
