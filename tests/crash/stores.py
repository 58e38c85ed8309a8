"""A store seen from outside, past the engine: what its readable views say, and whether it is whole. Both stores have the same views."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import Coroutine
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from durable_core.errors import StoreUnavailableError
from durable_postgres.errors import translate
from durable_postgres.lanes import Lane
from durable_postgres.options import parse_url
from durable_postgres.testing import find_faults as find_faults_in_postgres
from durable_sqlite.testing import find_faults as find_faults_in_file

__all__ = ["PostgresStore", "Row", "SqliteStore", "Store", "store_at"]

Row = tuple[object, ...]
T = TypeVar("T")
PATIENCE_S = 60.0
"""A server may be away for a while: its end is part of some tests."""


class Store(Protocol):
    """Its methods are called from any thread, whether it runs a loop or not."""

    url: str

    def exists(self) -> bool:
        """Whether somebody has made it yet."""
        ...

    def rows(self, sql: str) -> list[Row]: ...

    def holds_task(self, id: str) -> bool: ...

    def has_workers(self) -> bool:
        """Whether a worker is there, or may be: of one that was killed a row stays until another worker looks."""
        ...

    def faults(self) -> list[str]:
        """What may never be in it."""
        ...

    def as_it_lies(self, folder: Path) -> Store:
        """The store as a killed process left it. To open a file would repair it before the next process comes: then a copy in ``folder``."""
        ...

    def close(self) -> None:
        """Nobody asks any more."""
        ...


def store_at(url: str) -> Store:
    return SqliteStore(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite") else PostgresStore(url)


class SqliteStore:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.url = f"sqlite:///{file}"
        self._open = threading.local()

    def exists(self) -> bool:
        return self.file.exists()

    def rows(self, sql: str) -> list[Row]:
        with closing(self._connect()) as connection:
            return connection.execute(sql).fetchall()

    def holds_task(self, id: str) -> bool:
        """Asked often: the connection is kept."""
        connection: sqlite3.Connection | None = getattr(self._open, "connection", None)
        if connection is None:
            connection = self._open.connection = self._connect()
        return connection.execute("SELECT 1 FROM tasks WHERE id = ?", (id,)).fetchone() is not None

    def has_workers(self) -> bool:
        return bool(self.rows("SELECT 1 FROM workers"))

    def faults(self) -> list[str]:
        with closing(self._connect()) as connection:
            is_made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'instances'").fetchone()
            return find_faults_in_file(connection) if is_made else []

    def as_it_lies(self, folder: Path) -> SqliteStore:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for suffix in ("", "-wal"):
            file = Path(f"{self.file}{suffix}")
            if file.exists():
                shutil.copy(file, folder / f"{self.file.name}{suffix}")
        return SqliteStore(folder / self.file.name)

    def close(self) -> None:
        self._open = threading.local()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.file.as_uri()}?mode=ro", uri=True)


class PostgresStore:
    """Asked in a thread that runs a loop for all of them: who asks may be in a loop of its own, or in none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._options = parse_url(url, {})
        self._lane = Lane(self._options)
        _loop()  # now: two threads that ask at once would make two

    def exists(self) -> bool:
        return bool(self._ask("SELECT 1 FROM pg_namespace WHERE nspname = $1", self._options.hub))

    def rows(self, sql: str) -> list[Row]:
        return self._ask(sql)

    def holds_task(self, id: str) -> bool:
        return bool(self._ask("SELECT 1 FROM task WHERE id = $1", id.encode()))

    def has_workers(self) -> bool:
        return bool(self._ask("SELECT 1 FROM worker WHERE NOT pg_try_advisory_xact_lock_shared(life_of(id))"))

    def faults(self) -> list[str]:
        return _run(find_faults_in_postgres(self.url)) if self.exists() else []

    def as_it_lies(self, folder: Path) -> PostgresStore:
        return self

    def close(self) -> None:
        _run(self._lane.close())

    def _ask(self, sql: str, *arguments: object) -> list[Row]:
        return _run(self._fetch(sql, *arguments))

    async def _fetch(self, sql: str, *arguments: object) -> list[Row]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                async with self._lane.use() as connection:
                    return [tuple(row) for row in await connection.fetch(sql, *arguments)]
            except Exception as error:
                if time.monotonic() > deadline or not isinstance(translate(error, self.url), StoreUnavailableError):
                    raise
                await asyncio.sleep(0.05)


def _run(question: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(question, _loop()).result(2 * PATIENCE_S)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop
