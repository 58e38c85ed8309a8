"""PostgreSQL's errors, translated once.

53100 disk_full                           StoreFullError         nothing of the failed batch was written
25006 read-only transaction, 42501        StoreReadOnlyError
28… wrong password, 3D… no such database  StoreError             needs a person
3F…, 42P01 and the like                   StoreFormatError       the schema is not a hub of ours, or was removed
42P05, 26000 prepared statements mixed up StoreError            a pooler lends the connection to others between statements
08, 40, 53, 55P, 57, 58, lost connections, timeouts
                                          StoreUnavailableError  may work later; after a lost reply the outcome is unknown
anything else                             a command that cannot be written: it alone is REJECTED
"""

from __future__ import annotations

import asyncio
import ssl

import asyncpg

from durable_core.errors import StoreError, StoreFormatError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["NO_SESSION", "cannot_connect", "is_transient_conflict", "translate"]

NO_SESSION = (
    "a pooler between here and the server does not leave us a session of our own (advisory locks, LISTEN, settings): put it into session "
    "mode, or pass it by with the address of the server itself"
)

_BY_CODE: list[tuple[str, type[StoreError], str]] = [
    ("53100", StoreFullError, "no space left; nothing of the failed batch was written. Free space on the server: work then goes on"),
    ("25006", StoreReadOnlyError, "the server takes no writes here (a standby, or default_transaction_read_only)"),
    ("42501", StoreReadOnlyError, "this user lacks a privilege: it must own the hub's schema and its tables"),
    ("28", StoreError, "the server does not accept this user and password"),
    ("3D", StoreError, "there is no such database: create it, or correct the store URL"),
    ("3F", StoreFormatError, "the hub's schema is missing or damaged"),
    ("42P01", StoreFormatError, "a table of the hub is missing: restore a backup"),
    ("42703", StoreFormatError, "a column of the hub's tables is missing: restore a backup"),
    ("42883", StoreFormatError, "a function of the hub is missing: restore a backup"),
    ("42704", StoreFormatError, "a type of the hub is missing: restore a backup"),
    ("42P05", StoreError, NO_SESSION),
    ("26000", StoreError, NO_SESSION),
    ("XX", StoreError, "the server reports an internal error or damaged data: look at its log"),
    ("08", StoreUnavailableError, "the connection failed"),
    ("40", StoreUnavailableError, "the server gave up this batch in favour of another"),
    ("53", StoreUnavailableError, "the server is short of connections or memory"),
    ("55P", StoreUnavailableError, "a lock was not to be had in time"),
    ("57", StoreUnavailableError, "the server is shutting down or starting, or ended this connection"),
    ("58", StoreUnavailableError, "the server's disk or system reported an error: look at its log"),
]


def translate(error: BaseException, where: str) -> StoreError | None:
    """The store's trouble that ``error`` means, or None if it is about the command, not the store. Raise it ``from`` the original."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        code = getattr(error, "sqlstate", None) or ""
        for prefix, kind, text in _BY_CODE:
            if code.startswith(prefix):
                return kind(f"{where}: {text} (PostgreSQL says: {error})")
        return None
    if isinstance(error, asyncpg.DataError):
        return None  # a value that cannot be sent
    if isinstance(error, ssl.SSLCertVerificationError):
        return StoreError(f"{where}: the server's certificate is not accepted: look at sslmode and sslrootcert ({error})")
    if isinstance(error, OSError | asyncio.TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return StoreUnavailableError(f"{where}: the connection was lost or nobody answered in time ({type(error).__name__}: {error})")
    return None


def cannot_connect(error: Exception, where: str) -> StoreError:
    """The same for opening a connection, where nothing can be about a command."""
    if isinstance(error, ConnectionError) and "rejected SSL" in str(error):  # the driver has no class for it
        return StoreError(f"{where}: the server has no TLS: set it up there, or choose another sslmode ({error})")
    return translate(error, where) or StoreError(f"{where}: cannot be connected to ({type(error).__name__}: {error})")


def is_transient_conflict(error: BaseException) -> bool:
    """Deadlock, serialization failure, or somebody else's insert of the same id: nothing was written, and trying again helps."""
    return isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError | asyncpg.UniqueViolationError)
