"""Hubs for tests, and the harness with which the conformance kit tests this store (entry point ``durable_core.harnesses``).

Each hub is a PostgreSQL schema of its own, on a throw-away server (``servers.py``) or the one that ``DURABLE_TEST_POSTGRES``, a store URL,
names.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sys
from urllib.parse import urlsplit

from durable_core.backend import Backend, Capabilities
from durable_core.errors import StoreUrlError
from durable_postgres.backend import PostgresBackend, open_backend
from durable_postgres.lanes import connect
from durable_postgres.options import parse_url
from durable_postgres.queries import query
from durable_postgres.servers import server_url

__all__ = ["PostgresHarness", "ServerClockHarness", "drop_hub", "find_faults", "fresh_hub"]

_START_US = 1_700_000_000_000_000
_numbers = itertools.count(1)


def fresh_hub(options: str = "") -> str:
    """The URL of a hub of its own, to be made by whoever opens it."""
    url = server_url()
    return f"{url}{'&' if urlsplit(url).query else '?'}hub=test_{os.getpid()}_{next(_numbers)}_{secrets.token_hex(3)}{options}"


async def drop_hub(url: str) -> None:
    options = parse_url(url, {})
    connection = await connect(options)
    try:
        await connection.execute(query("drop_schema").format(hub=options.hub))
    finally:
        await connection.close()


async def find_faults(url: str) -> list[str]:
    """What a hub may never hold, between any two commits: rows that belong to no instance, leases of nobody, holes in a history,
    columns that are not what they are derived from."""
    connection = await connect(parse_url(url, {}))
    try:
        return [f"{kind}: {place}" for kind, place in await connection.fetch(query("find_faults"))]
    finally:
        await connection.close()


class PostgresHarness:
    """A hub of its own whose clock stands still but for ``advance_clock``, and where a closed handle is dead at once. Commits do not wait for
    the disk: no test of the kit ends the server."""

    features = frozenset({"many_handles", "attach", "cut_connection", "corrupt", "frozen_clock", "wall_clock"})

    def __init__(self, url: str = "postgresql:///:temp:") -> None:
        location, _, options = url.partition("?")
        if not location.endswith(":///:temp:"):
            raise StoreUrlError("the tests make hubs of their own: use postgresql:///:temp:, and name a server by DURABLE_TEST_POSTGRES")
        self.location = fresh_hub(f"&death_grace_s=0&synchronous_commit=off{options and '&' + options}")
        self._now_us = _START_US
        self._passed_us = 0
        self._handles: list[PostgresBackend] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._new().capabilities

    async def open(self) -> Backend:
        return await self._open(create=True)

    async def kill(self, handle: Backend) -> None:
        """To close it ends its sessions and gives no lease back: just like the end of its process."""
        await handle.close()

    @classmethod
    def attach(cls, location: str) -> AttachedHarness:
        return AttachedHarness(location)

    async def cut_connection(self, handle: Backend) -> None:
        assert isinstance(handle, PostgresBackend)
        handle.cut()

    async def corrupt(self) -> None:
        """What says which version the hub has is gone."""
        connection = await connect(parse_url(self.location, {}))
        try:
            await connection.execute("TRUNCATE hub")
        finally:
            await connection.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()
        if self._handles:
            await drop_hub(self.location)

    def advance_clock(self, us: int) -> None:
        self._now_us += us
        self._passed_us += us

    def jump_clock(self, us: int) -> None:
        self._now_us += us

    async def _open(self, *, create: bool) -> Backend:
        self._handles.append(handle := self._new())
        await handle.open(create=create)
        return handle

    def _new(self) -> PostgresBackend:
        return open_backend(self.location, clock_us=lambda: self._now_us, monotonic_us=lambda: self._passed_us)


class ServerClockHarness(PostgresHarness):
    """The same with the server's clock."""

    features = PostgresHarness.features - {"frozen_clock", "wall_clock"} | {"server_clock"}

    def _new(self) -> PostgresBackend:
        return open_backend(self.location)


class AttachedHarness(ServerClockHarness):
    """On the hub of another harness."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._handles = []

    async def open(self) -> Backend:
        return await self._open(create=False)

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()


if __name__ == "__main__":  # a server to try things on: python -m durable_postgres.testing
    sys.stdout.write(f"{server_url()}\nEnter ends it.\n")
    sys.stdout.flush()
    sys.stdin.readline()
