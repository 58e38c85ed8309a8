"""Connections: each *lane* is one, opened when it is needed and again when it was lost, for one user at a time.

A handle has five: one for batches, one for claims, two for reads (``readers``), one that listens and holds incarnations alive
(``lives.py``). Lanes are not a pool: no query resets a connection between two uses, and a write never waits behind a read.

Plans never depend on how full the tables were when they were first made: every access is by index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from durable_core.errors import DurableError, StoreUnavailableError
from durable_postgres.errors import cannot_connect
from durable_postgres.options import PostgresOptions
from durable_postgres.queries import query

__all__ = ["Connection", "Lane", "connect", "disconnect"]

Connection = Any
"""``asyncpg.Connection``, whose package has no types."""

_connect: Any = asyncpg.connect

_SETTINGS = {
    "application_name": "durable-core",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "default_transaction_isolation": "read committed",
    # A client that vanishes inside a transaction must not keep its locks; nobody waits for a lock for ever.
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "20000",
}


async def connect(options: PostgresOptions, **settings: str) -> Connection:
    """Raises what ``errors.cannot_connect`` makes of it."""
    settings = {**_SETTINGS, **settings, "search_path": options.hub, "synchronous_commit": options.synchronous_commit}
    connection = None
    try:
        connection = await _connect(options.dsn, timeout=options.connect_timeout_s, command_timeout=options.command_timeout_s)
        # Not as parameters of the connection: poolers refuse those that they do not know.
        await connection.fetch(query("set_session"), list(settings), list(settings.values()))
        return connection
    except BaseException as error:
        if connection is not None:
            connection.terminate()
        if not isinstance(error, Exception):
            raise
        raise cannot_connect(error, options.where) from error


async def disconnect(connection: Connection) -> None:
    """In order, or by force if the server does not answer."""
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=2)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


class Lane:
    """``prepare`` is awaited on each new connection before its first use; ``settings`` are the session's."""

    def __init__(self, options: PostgresOptions, prepare: Callable[[Connection], Awaitable[None]] | None = None, **settings: str) -> None:
        self._options = options
        self._settings = settings
        self._prepare = prepare
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def is_free(self) -> bool:
        return not self._turn.locked()

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """The connection, for this user alone. Errors are the driver's; after any but one that the server or we reported, and after
        a cancellation, nobody knows what the connection is doing: it is dropped."""
        async with self._turn:
            connection = await self._open()
            try:
                yield connection
            except (asyncpg.PostgresError, DurableError):
                if connection.is_closed() or connection.is_in_transaction():
                    self._drop()
                raise
            except BaseException:
                self._drop()
                raise

    def cut(self) -> None:
        """Lose the connection, as a network does; what is under way does not learn how it ended."""
        if self._connection is not None:
            self._connection.terminate()

    async def close(self) -> None:
        self._closed = True
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                await disconnect(connection)

    async def _open(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError("this handle of the store was closed: open another one")
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            connection = await connect(self._options, **self._settings)
            try:
                if self._prepare is not None:
                    await self._prepare(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
