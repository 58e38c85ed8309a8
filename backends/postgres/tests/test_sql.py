"""The SQL files: each statement has a name, a sentence and a user; large tables are reached by index."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from durable_conformance.driver import HOUR_US
from durable_core.backend import CreateInstance
from durable_postgres.queries import migrations, query

PACKAGE = Path(str(files("durable_postgres")))
QUERIES = (PACKAGE / "sql" / "queries.sql").read_text("utf-8")


def names() -> list[str]:
    return re.findall(r"^-- name: (\w+)$", QUERIES, re.MULTILINE)


def test_each_query_is_found_under_its_name_and_used() -> None:
    code = "".join(file.read_text() for file in PACKAGE.glob("*.py"))
    assert len(names()) == len(set(names())) > 15
    for name in names():
        assert query(name)
        assert "-- name" not in query(name)
        assert re.search(rf'query\(\s*"{name}"', code), f"nobody sends {name}"
    assert len(migrations()) >= 1


def test_each_query_has_a_sentence() -> None:
    for name, comment in re.findall(r"^-- name: (\w+)\n(.*)$", QUERIES, re.MULTILINE):
        assert re.match(r"-- \S", comment), f"{name} has no sentence"


async def test_a_claim_and_a_batch_touch_what_they_need(handle: Any) -> None:
    """Plans are made once, on empty tables, and stay: with 3,000 instances none may read them all."""
    backend = await handle()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    commands = [CreateInstance(f"i{n}", f"e{n}", "orch" if n < 10 else "unheard of", b"", request_id=f"r{n}") for n in range(3_000)]
    await backend.apply(commands)
    steps = backend._store.steps
    clock = (None, 0)
    find = (*clock, b"w", b"c", [b"orch"], [b"act"], 5, 5, 1001, 5, None, None)
    load: tuple[Any, ...] = (
        *clock,
        [b"i1", b"i2"],
        [b"t"],
        [],
        [b"i1"],
        [5],
        [],
        [b"i1"],
        [b"t"],
        [b"i1"],
        ["start"],
        [b"r1"],
        [b"w"],
        False,
    )
    async with steps.claims.use() as connection:
        for name, arguments in (("find", find), ("load", load)):
            for _ in range(2):
                await connection.fetch(query(name), *arguments)
            plan = await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + query(name), *arguments)
            assert most_rows(plan) < 200, f"{name} reads too many rows"


def most_rows(plan: str) -> int:
    """Of all steps of a plan: rows returned and thrown away."""
    numbers = re.findall(r'"(?:Actual Rows|Rows Removed by [\w ]+)": (\d+)', plan)
    return max(map(int, numbers))
