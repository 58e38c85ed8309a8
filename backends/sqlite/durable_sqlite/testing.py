"""The harness with which the conformance kit tests this store (entry point ``durable_core.harnesses``), and a check of a store's file."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from durable_core.backend import Backend, Capabilities
from durable_core.errors import StoreUrlError
from durable_sqlite.backend import SqliteBackend, open_backend
from durable_sqlite.queries import query

__all__ = ["SqliteHarness", "SqliteInMemoryHarness", "find_faults"]

_START_US = 1_700_000_000_000_000


class SqliteHarness:
    """A store of its own, in a new folder or (``sqlite:///:memory:``) in memory, whose clock stands still but for ``advance_clock``.

    A store in memory has one handle; ``kill`` loses it.
    """

    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, url: str = "sqlite:///:temp:") -> None:
        location, question, query = url.partition("?")
        if location not in ("sqlite:///:temp:", "sqlite:///:memory:"):
            raise StoreUrlError(f"the tests make and remove a store of their own: use sqlite:///:temp: or sqlite:///:memory:, not {url!r}")
        self._folder: Path | None = None
        if location.endswith(":temp:"):
            self._folder = Path(tempfile.mkdtemp(prefix="durable-sqlite-"))
            location = f"sqlite:///{self._folder / 'hub.db'}"
        self.url = location + question + query
        self.features = frozenset(
            {"many_handles", "frozen_clock", "wall_clock", "attach", "corrupt"} if self._folder else {"frozen_clock", "wall_clock"}
        )
        self._now_us = _START_US
        self._passed_us = 0
        self._handles: list[SqliteBackend] = []

    @property
    def location(self) -> str:
        return self.url

    @classmethod
    def attach(cls, location: str) -> AttachedHarness:
        return AttachedHarness(location)

    @property
    def capabilities(self) -> Capabilities:
        return self._new().capabilities

    async def open(self) -> Backend:
        handle = self._new()
        await handle.open()
        self._handles.append(handle)
        return handle

    async def kill(self, handle: Backend) -> None:
        """What closing does is what the end of a process does: locks are let go of, leases stay."""
        await handle.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    def advance_clock(self, us: int) -> None:
        self._now_us += us
        self._passed_us += us

    def jump_clock(self, us: int) -> None:
        self._now_us += us

    async def corrupt(self) -> None:
        """The header of a page is overwritten; what the log still holds is gone."""
        assert self._folder is not None, "a store in memory has no file"
        for file in self._folder.glob("hub.db-*"):
            if file.is_file():
                file.unlink()
        with (self._folder / "hub.db").open("r+b") as database:
            database.write(b"no database" * 10)

    def _new(self) -> SqliteBackend:
        return open_backend(self.url, clock_us=lambda: self._now_us, monotonic_us=lambda: self._passed_us)


class AttachedHarness:
    """On the file of another harness, with the machine's clock."""

    features = frozenset({"many_handles"})
    version = SqliteHarness.version

    def __init__(self, url: str) -> None:
        self.url = url
        self._handles: list[SqliteBackend] = []

    @property
    def capabilities(self) -> Capabilities:
        return open_backend(self.url).capabilities

    async def open(self) -> Backend:
        handle = open_backend(self.url)
        await handle.open(create=False)
        self._handles.append(handle)
        return handle

    async def kill(self, handle: Backend) -> None:
        await handle.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()

    def advance_clock(self, us: int) -> None:
        raise NotImplementedError("it is the machine's clock")


class SqliteInMemoryHarness(SqliteHarness):
    """The same for ``sqlite:///:memory:``, callable without arguments."""

    def __init__(self) -> None:
        super().__init__("sqlite:///:memory:")


def find_faults(connection: sqlite3.Connection) -> list[str]:
    """What a store's file may never hold, between any two commits: rows that belong to no instance, holes in a history, derived columns
    that are not what they are derived from, and whatever SQLite itself finds."""
    faults = [f"{kind}: {what}" for kind, what in connection.execute(query("find_faults"))]
    return faults + [f"file: {text}" for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
