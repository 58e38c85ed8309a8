"""All SQL is in ``.sql`` files; this finds a query by its name.

A file holds queries under ``-- name: some_name`` and a sentence. A query whose rows come from Python contains ``VALUES /*rows*/
(?, ?, …)`` or ``IN (/*rows*/ ?)`` once: ``Rows`` repeats what follows the mark. Row counts are rounded up to a power of two, so
that a few prepared statements serve every size, and the group is padded: with NULLs, which the query's ``WHERE column1 IS NOT
NULL`` passes over (or which match nothing, in an ``IN``).

Road not taken: ``executemany`` (gives the GIL away once a row: with one busy thread in the process a commit of 200 turns took
five seconds), and ``json_each`` over one parameter (cuts ids off at a NUL, and bytes would need hex).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["ROWS_PER_STATEMENT", "Rows", "migrations", "query"]

ROWS_PER_STATEMENT = 1024
"""SQLite's default limit is 32,766 parameters a statement; no query here has more than 24 a row."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_GROUP = re.compile(r"/\*rows\*/\s*(\([?, ]+\)|\?)")


@cache
def _queries() -> dict[str, str]:
    text = (files("durable_sqlite") / "sql" / "queries.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: _without_comments(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _without_comments(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip().rstrip(";")


def query(name: str) -> str:
    """The SQL text of a named query."""
    return _queries()[name]


@cache
def migrations() -> list[tuple[int, list[str]]]:
    """(version, statements) of every schema file, in order."""
    folder = files("durable_sqlite") / "sql" / "schema"
    found = sorted((entry.name, entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    numbered = [(int(name.split("_")[0]), list(_statements(text))) for name, text in found]
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1)), (
        f"schema files must be numbered from 1 without a gap: {found}"
    )
    return numbered


def _statements(script: str) -> Iterator[str]:
    """Split where a statement is complete. (``executescript`` would commit the surrounding transaction.)"""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip() or statement.lstrip().startswith("--"), f"unfinished statement in a schema file: {statement!r}"


class Rows:
    """A query over rows of ``width`` parameters each."""

    def __init__(self, name: str) -> None:
        text = query(name)
        group = _GROUP.search(text)
        assert group is not None, f"query {name} has no /*rows*/ group"
        self._before, self._group, self._after = text[: group.start()], group.group(1), text[group.end() :]
        self.width = self._group.count("?")
        self._texts: dict[int, str] = {}

    def chunks(self, parameters: Sequence[object], *others: object) -> Iterator[tuple[str, list[object]]]:
        """Statements and their parameters for a flat list of ``width`` values a row; ``others`` are for question marks that follow
        the rows."""
        step = ROWS_PER_STATEMENT * self.width
        for start in range(0, len(parameters), step):
            chunk = list(parameters[start : start + step])
            count = len(chunk) // self.width
            size = 1 << (count - 1).bit_length()
            chunk.extend([None] * ((size - count) * self.width))
            chunk.extend(others)
            yield self._text(size), chunk

    def execute(self, connection: sqlite3.Connection, parameters: Sequence[object]) -> None:
        for text, chunk in self.chunks(parameters):
            connection.execute(text, chunk)

    def fetch(self, connection: sqlite3.Connection, parameters: Sequence[object], *others: object) -> Iterator[Any]:
        """The one value (mostly a JSON text) that each statement of a reading query returns, unless it is NULL."""
        for text, chunk in self.chunks(parameters, *others):
            (value,) = connection.execute(text, chunk).fetchone()
            if value is not None:
                yield value

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            groups = ", ".join([self._group] * size)
            text = self._texts[size] = f"{self._before}{groups}{self._after}"
        return text
