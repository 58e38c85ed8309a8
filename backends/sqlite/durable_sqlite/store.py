"""An open store: the parts of this package, put together and taken apart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import define

from durable_core.backend import Capabilities
from durable_sqlite.clocks import Clocks
from durable_sqlite.commit import Committer
from durable_sqlite.connection import check_library, check_place, connect
from durable_sqlite.errors import translate_os
from durable_sqlite.locks import PROVES_DEATH, Lives, WriterQueue, folder_for
from durable_sqlite.migrate import prepare
from durable_sqlite.options import SqliteOptions
from durable_sqlite.reads import Readers
from durable_sqlite.steps import Steps
from durable_sqlite.wakeups import Wakeups
from durable_sqlite.watch import Watch
from durable_sqlite.writer import Writer

__all__ = ["Store", "capabilities_of", "open_store"]

T = TypeVar("T")


class _Reads(Protocol):
    """Where reads run: on connections of their own, or for a store in memory on the writer's."""

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T: ...


@define
class Store:
    """What a handle has while it is open."""

    writer: Writer
    reads: _Reads
    wakeups: Wakeups
    readers: Readers | None
    lives: Lives | None
    queue: WriterQueue | None

    async def close(self) -> None:
        """Leases stay, but who asks finds this handle's incarnations dead from now on: nobody could work on them any more."""
        self.wakeups.close()
        if self.readers is not None:
            await self.readers.close()
        await self.writer.close()
        if self.lives is not None:
            self.lives.drop_all()
        if self.queue is not None:
            self.queue.close()


def capabilities_of(options: SqliteOptions) -> Capabilities:
    in_file = options.path is not None
    return Capabilities(
        durability="none" if not in_file else "disk" if options.synchronous == "full" else "process",
        multi_process=in_file,
        proves_death=in_file and PROVES_DEATH,
        max_batch=4_000,
    )


def open_store(options: SqliteOptions, *, create: bool) -> Store:
    """Blocking. Raises what ``connection.check_place`` and ``migrate.prepare`` raise."""
    check_library()
    return _open_memory(options) if options.path is None else _open_file(options, options.path, create=create)


def _open_memory(options: SqliteOptions) -> Store:
    connection = connect(options)
    prepare(connection, ":memory:", create=True)
    wakeups = Wakeups()
    committer = Committer(connection, where=":memory:", connect=None, new_steps=_steps(options, None), queue=None)
    writer = Writer(committer, wakeups, None)
    return Store(writer, writer, wakeups, readers=None, lives=None, queue=None)


def _open_file(options: SqliteOptions, path: Path, *, create: bool) -> Store:
    check_place(path, create=create)
    folder = folder_for(path)
    try:
        folder.mkdir(exist_ok=True)
        queue = WriterQueue(folder, options.lock_wait_s)
    except OSError as error:
        raise translate_os(error, folder) from error
    try:
        connection = _prepared(options, path, queue, create=create)
    except BaseException:
        queue.close()
        raise
    lives, wakeups, again = Lives(folder), Wakeups(), partial(connect, options)
    committer = Committer(
        connection, where=str(path), connect=again, new_steps=_steps(options, lives if PROVES_DEATH else None), queue=queue
    )
    writer, readers = Writer(committer, wakeups, Watch(lives)), Readers(again, options.readers, str(path))
    return Store(writer, readers, wakeups, readers=readers, lives=lives, queue=queue)


def _prepared(options: SqliteOptions, path: Path, queue: WriterQueue, *, create: bool) -> sqlite3.Connection:
    """Under the writers' lock: a migration writes, and two processes may come at once."""
    queue.acquire()
    try:
        connection = connect(options, create=create)
        try:
            prepare(connection, str(path), create=create)
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        queue.release()


def _steps(options: SqliteOptions, lives: Lives | None) -> Callable[[sqlite3.Connection], Steps]:
    capabilities = capabilities_of(options)
    clock = Clocks(options)
    return lambda connection: Steps(connection, capabilities, clock.now_us, lives)
