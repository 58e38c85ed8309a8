"""Opening the database file: what it must be, and the settings that every connection has.

Write-ahead log: readers and the writer do not wait for each other. A checkpoint runs inside COMMIT, hence only while its
process holds the writers' lock: SQLite before 3.51.3 can damage a file if two connections checkpoint and write in the same
instant (its "WAL-reset bug"), and here no two ever do. For the same reason there is no ``mmap`` and no checkpoint by a reader.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from durable_core.errors import StoreError, StoreFormatError, StoreReadOnlyError
from durable_sqlite.errors import translate
from durable_sqlite.options import SqliteOptions

__all__ = ["APPLICATION_ID", "SQLITE_LEAST", "check_library", "check_place", "connect", "scalar"]

APPLICATION_ID = 0x44437262
"""``DCrb`` in the file's header: the file is ours."""
SQLITE_LEAST = (3, 35, 0)
"""Generated columns (3.31), several ON CONFLICT clauses (3.35). Tested with 3.40."""

_STATEMENTS_CACHED = 256
_CACHE_KIB = 32 * 1024


def check_library() -> None:
    if sqlite3.sqlite_version_info < SQLITE_LEAST:
        least = ".".join(map(str, SQLITE_LEAST))
        raise StoreError(
            f"this Python uses SQLite {sqlite3.sqlite_version}; durable-core needs {least} or later: use a newer Python or SQLite library"
        )


def check_place(path: Path, *, create: bool) -> None:
    """Say clearly what SQLite would call "unable to open database file". Raises ``StoreFormatError`` or ``StoreReadOnlyError``."""
    if not path.parent.is_dir():
        raise StoreFormatError(f"the folder {path.parent} does not exist: create it, or correct the store URL")
    if path.is_dir():
        raise StoreFormatError(f"{path} is a folder: the store URL must name a file")
    if not path.exists() and not create:
        raise StoreFormatError(f"there is no store at {path}: correct the store URL, or open it with create=True")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreReadOnlyError(f"{path} cannot be written by this process: give it read and write permission")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreReadOnlyError(
            f"the folder {path.parent} cannot be written, and SQLite needs files beside {path.name}: give this process write permission"
        )


def connect(options: SqliteOptions, *, create: bool = False) -> sqlite3.Connection:
    """A connection with our settings. Transactions are begun and ended by hand. It may be handed from thread to thread, never
    shared at one time."""
    where = ":memory:" if options.path is None else f"{options.path.as_uri()}?mode={'rwc' if create else 'rw'}"
    try:
        connection = sqlite3.connect(
            where,
            uri=options.path is not None,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS_CACHED,
            timeout=options.lock_wait_s,
        )
    except sqlite3.Error as error:
        raise translate(error, where) or StoreError(f"{where} cannot be opened: {error}") from error
    try:
        connection.execute(f"PRAGMA synchronous = {options.synchronous}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, where) or StoreError(f"{where} cannot be used: {error}") from error
    return connection


def scalar(connection: sqlite3.Connection, sql: str) -> int:
    value = connection.execute(sql).fetchone()[0]
    assert isinstance(value, int), (sql, value)
    return value
