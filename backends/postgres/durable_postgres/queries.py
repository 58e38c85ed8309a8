"""All SQL is in ``.sql`` files: ``queries.sql`` holds statements under ``-- name: some_name`` and a sentence, ``schema/`` the migrations,
numbered from 1."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["migrations", "query"]

_SQL = files("durable_postgres") / "sql"
_NAMED = re.compile(r"^-- name: (?P<name>\w+)\n(?:--.*\n)+(?P<text>(?:(?!--).*\n)*?.*);$", re.MULTILINE)


@cache
def _statements() -> dict[str, str]:
    return {found["name"]: found["text"] for found in _NAMED.finditer((_SQL / "queries.sql").read_text("utf-8"))}


def query(name: str) -> str:
    """The SQL text of a named query."""
    return _statements()[name]


@cache
def migrations() -> tuple[str, ...]:
    """The script that brings a hub from each version to the next."""
    scripts = {int(entry.name[:4]): entry.read_text("utf-8") for entry in (_SQL / "schema").iterdir() if entry.name.endswith(".sql")}
    return tuple(scripts[number] for number in range(1, len(scripts) + 1))
