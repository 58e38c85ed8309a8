"""SQLite's errors, translated once.

SQLITE_FULL                          StoreFullError          nothing of the commit was written
SQLITE_READONLY, SQLITE_PERM         StoreReadOnlyError
SQLITE_CORRUPT, SQLITE_NOTADB        StoreFormatError
SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_PROTOCOL, SQLITE_NOMEM, SQLITE_INTERRUPT
                                     StoreUnavailableError   may work later
anything else                        a command that cannot be written: it alone is REJECTED
"""

from __future__ import annotations

import errno
import sqlite3

from durable_core.errors import StoreError, StoreFormatError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["translate", "translate_os"]

_MEANING: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_FULL: (
        StoreFullError,
        "no space left for {where}; nothing of the failed commit was written. Free space on that disk: work then goes on",
    ),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnlyError,
        "{where} cannot be written by this process. Give it write permission on the file and its folder",
    ),
    sqlite3.SQLITE_PERM: (StoreReadOnlyError, "this process may not write {where}. Give it write permission on the file and its folder"),
    sqlite3.SQLITE_NOTADB: (StoreFormatError, "{where} is not an SQLite database. Point the store URL at another file"),
    sqlite3.SQLITE_CORRUPT: (
        StoreFormatError,
        "{where} is damaged. Stop all processes that use it and restore a backup (or try `sqlite3 FILE .recover`)",
    ),
    sqlite3.SQLITE_BUSY: (StoreUnavailableError, "{where} is locked by another program. Look for one that holds a write transaction open"),
    sqlite3.SQLITE_LOCKED: (
        StoreUnavailableError,
        "{where} is locked by another program. Look for one that holds a write transaction open",
    ),
    sqlite3.SQLITE_IOERR: (StoreUnavailableError, "the disk of {where} reported an error. Look at the system's log"),
    sqlite3.SQLITE_CANTOPEN: (
        StoreUnavailableError,
        "{where} or its -wal file cannot be opened. Look at the folder's permissions and the limit of open files",
    ),
    sqlite3.SQLITE_PROTOCOL: (StoreUnavailableError, "{where} is too busy to be opened. Try again"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailableError, "no memory left while working on {where}"),
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailableError, "the work on {where} was interrupted. Try again"),
}


def translate(error: sqlite3.Error, where: str) -> StoreError | None:
    """The store's trouble that ``error`` means, or None if it is about the statement, not the store. Raise it ``from`` the original."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None  # raised by Python's module itself: a value that cannot be bound
    kind, text = _MEANING.get(code & 0xFF, (None, ""))
    return None if kind is None else kind(f"{text.format(where=where)} (SQLite says: {error})")


def translate_os(error: OSError, where: object) -> StoreError:
    """The same for a file beside the database (a lock)."""
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return StoreReadOnlyError(f"{where} cannot be written by this process: give it write permission ({error})")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"no space left for {where}: free space on that disk ({error})")
    return StoreUnavailableError(f"{where} cannot be used: {error}")
