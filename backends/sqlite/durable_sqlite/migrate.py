"""Is the file ours, and which version? Bring it up to date.

``PRAGMA application_id`` says that it is ours, ``user_version`` is the number of the last schema file applied. The check is repeated inside
``BEGIN IMMEDIATE``: of two processes that migrate at once, one does and the other finds it done.
"""

from __future__ import annotations

import sqlite3

from durable_core.errors import StoreError, StoreFormatError, StoreVersionError
from durable_sqlite.connection import APPLICATION_ID, scalar
from durable_sqlite.errors import translate
from durable_sqlite.queries import migrations, query

__all__ = ["SCHEMA_VERSION", "prepare"]

SCHEMA_VERSION = len(migrations())


def prepare(connection: sqlite3.Connection, where: str, *, create: bool) -> None:
    """Raises ``StoreFormatError`` or ``StoreVersionError``, and what ``errors.translate`` knows."""
    try:
        if _version(connection, where, create=create) < SCHEMA_VERSION:
            _use_write_ahead_log(connection, where)
            _migrate(connection, where, create=create)
        _check_writable(connection)
        connection.execute(query("load_hub")).fetchone()
    except sqlite3.Error as error:
        unusable = StoreFormatError(
            f"{where} says that it is a durable-core store, but its tables are not: restore a backup. (SQLite says: {error})"
        )
        raise translate(error, where) or unusable from error


def _version(connection: sqlite3.Connection, where: str, *, create: bool) -> int:
    """The file's schema version; 0 for an empty file that may become ours."""
    application, version = scalar(connection, "PRAGMA application_id"), scalar(connection, "PRAGMA user_version")
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            text = f"{where} has schema version {version}, this durable-core knows versions up to {SCHEMA_VERSION}"
            raise StoreVersionError(f"{text}: upgrade durable-core in every process that uses the store")
        return version
    if application or version or scalar(connection, query("count_tables")):
        raise StoreFormatError(f"{where} is an SQLite database, but not a durable-core store: point the store URL at another file")
    if not create:
        raise StoreFormatError(f"{where} is empty: correct the store URL, or open it with create=True")
    return 0


def _use_write_ahead_log(connection: sqlite3.Connection, where: str) -> None:
    """Outside a transaction, as SQLite wants it."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode not in ("wal", "memory"):
        raise StoreError(
            f"{where} cannot have a write-ahead log (journal mode stays {mode!r}): use a local disk, not a network file system"
        )


def _migrate(connection: sqlite3.Connection, where: str, *, create: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = _version(connection, where, create=create)
        for number, statements in migrations():
            if number > done:
                for statement in statements:
                    connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_writable(connection: sqlite3.Connection) -> None:
    """A file that can only be read is found out now, not at the first commit. Nothing is written."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
