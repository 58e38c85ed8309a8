"""Is there a hub, is it ours, and which version? Bring it up to date.

A hub is a PostgreSQL schema with a table ``hub`` that knows the number of the last schema file carried out. Migrating is one transaction
under an advisory lock: of two processes that migrate at once, one does and the other finds it done. Workers that run meanwhile wait for
its locks; those that are too old for the new version then say so (``StoreVersionError``).
"""

from __future__ import annotations

import asyncpg

from durable_core.errors import DurableError, StoreError, StoreFormatError, StoreReadOnlyError, StoreUrlError, StoreVersionError
from durable_postgres.errors import NO_SESSION, cannot_connect
from durable_postgres.lanes import Connection, connect, disconnect
from durable_postgres.options import PostgresOptions
from durable_postgres.queries import migrations, query

__all__ = ["SCHEMA_VERSION", "SERVER_LEAST", "check_version", "prepare"]

SCHEMA_VERSION = len(migrations())
SERVER_LEAST = 130000
"""Tested with 15."""


async def prepare(options: PostgresOptions, *, create: bool) -> None:
    """Raises ``StoreFormatError``, ``StoreVersionError``, ``StoreReadOnlyError``, and what ``errors.translate`` knows."""
    connection = await connect(options)
    try:
        await _prepare(connection, options, create=create)
    except DurableError:
        raise
    except Exception as error:
        raise cannot_connect(error, options.where) from error
    finally:
        await disconnect(connection)


async def _prepare(connection: Connection, options: PostgresOptions, *, create: bool) -> None:
    server = await connection.fetchrow(query("describe_server"), options.hub)
    _check_server(server, options)
    await _check_session(connection, options)
    if not server["has_hub"]:
        if not create:
            raise StoreFormatError(f"there is no {options.where}: correct the store URL, or open it with create=True")
        if server["relations"]:
            text = f"the schema {options.hub!r} is somebody else's: choose another hub=… in the store URL"
            raise StoreFormatError(f"{options.where}: {text}")
    if not server["has_hub"] or await _version(connection, options) < SCHEMA_VERSION:
        async with connection.transaction():
            await connection.execute(query("lock_migrations"), options.hub)
            await _migrate(connection, options)


def _check_server(server: asyncpg.Record, options: PostgresOptions) -> None:
    if server["server_version"] < SERVER_LEAST:
        found, least = server["server_version"] // 10_000, SERVER_LEAST // 10_000
        raise StoreError(f"{options.where}: the server is PostgreSQL {found}; durable-core needs {least} or later")
    if server["standby"] or server["read_only"]:
        why = "it is a standby: connect to the primary" if server["standby"] else "transactions are read-only by default for this user"
        raise StoreReadOnlyError(f"{options.where} cannot be written: {why}")
    if server["search_path"] != options.hub:
        raise StoreUrlError(f"{options.where}: {NO_SESSION}")


async def _check_session(connection: Connection, options: PostgresOptions) -> None:
    """A process of the server that serves two of our connections by turns is lent out by a pooler, statement by statement. (Without a pooler
    between, a connection has been told at its start who serves it, and a second one is not needed.)"""
    if await connection.fetchval(query("server_process")) == connection.get_server_pid():
        return
    second = await connect(options)
    try:
        for _ in range(10):
            if await connection.fetchval(query("server_process")) == await second.fetchval(query("server_process")):
                raise StoreUrlError(f"{options.where}: {NO_SESSION}")
    finally:
        await disconnect(second)


async def _version(connection: Connection, options: PostgresOptions) -> int:
    version = await connection.fetchval(query("schema_version"))
    if version is None:
        raise StoreFormatError(f"{options.where} is damaged: its version is missing; restore a backup")
    check_version(version, options.where)
    return int(version)


def check_version(version: int, where: str) -> None:
    """Also asked by every batch: somebody may migrate under us."""
    if version > SCHEMA_VERSION:
        text = f"{where} has schema version {version}, this durable-core knows versions up to {SCHEMA_VERSION}"
        raise StoreVersionError(f"{text}: upgrade durable-core in every process that uses the hub")


async def _migrate(connection: Connection, options: PostgresOptions) -> None:
    server = await connection.fetchrow(query("describe_server"), options.hub)
    if not server["has_schema"]:
        await connection.execute(query("create_schema").format(hub=options.hub))
    done = await _version(connection, options) if server["has_hub"] else 0
    for script in migrations()[done:]:
        await connection.execute(script)
    await connection.execute(query("set_schema_version"), SCHEMA_VERSION)
