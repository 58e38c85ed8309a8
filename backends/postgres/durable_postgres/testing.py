"""A throw-away PostgreSQL server, and the harness with which the conformance kit tests this store (entry point
``durable_core.harnesses``).

The server is started when it is first asked for and removed when the process ends. ``DURABLE_TEST_POSTGRES``, a store URL, names one that
is there already: each test then makes and drops a PostgreSQL schema in that database.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from durable_core.backend import Backend, Capabilities
from durable_core.errors import StoreUrlError
from durable_postgres.backend import PostgresBackend, open_backend
from durable_postgres.lanes import connect
from durable_postgres.options import parse_url
from durable_postgres.queries import query

__all__ = ["PostgresHarness", "Server", "drop_hub", "find_faults", "fresh_hub", "server_url"]

_START_US = 1_700_000_000_000_000
_numbers = itertools.count(1)


class Server:
    """A cluster in a temporary folder, on a free port of the loopback interface, with a password. Raises ``RuntimeError`` if PostgreSQL's
    programs are not installed."""

    def __init__(self) -> None:
        self.password = secrets.token_urlsafe(12)
        self.folder = Path(tempfile.mkdtemp(prefix="durable-postgres-"))
        self._user = _unprivileged_user()
        self.data = self.folder / "data"
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
            os.chown(password_file, pwd.getpwnam(self._user).pw_uid, -1)
        self.port = _free_port()
        self._run("initdb", "--auth=scram-sha-256", "--username=tester", f"--pwfile={password_file}", "--encoding=UTF8", "--no-locale")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n")

    @property
    def url(self) -> str:
        return f"postgresql://tester:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def destroy(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [_find_program(program), f"--pgdata={self.data}", *arguments]
        with (self.folder / "out").open("wb") as out:  # a file: the server inherits it and would keep a pipe open
            ended = subprocess.run(
                command,
                user=self._user,
                extra_groups=None if self._user is None else [],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'out').read_text(errors='replace')}")


def _find_program(name: str) -> str:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = shutil.which(name) or (str(installed[-1]) if installed else None)
    if found is None:
        raise RuntimeError(f"{name} is not installed: install PostgreSQL's server, or name one by DURABLE_TEST_POSTGRES=postgresql://…")
    return found


def _unprivileged_user() -> str | None:
    """PostgreSQL does not run as root; None: as who we are."""
    if os.geteuid() != 0:
        return None
    return next(name for name in ("postgres", "nobody") if any(entry.pw_name == name for entry in pwd.getpwall()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@cache
def server_url() -> str:
    """The server that the tests of this process share."""
    given = os.environ.get("DURABLE_TEST_POSTGRES")
    if given:
        return given
    server = Server()
    atexit.register(server.destroy)
    server.start()
    return server.url


def fresh_hub(options: str = "") -> str:
    """The URL of a hub of its own, to be made by whoever opens it."""
    url = server_url()
    return f"{url}{'&' if urlsplit(url).query else '?'}hub=test_{os.getpid()}_{next(_numbers)}_{secrets.token_hex(3)}{options}"


async def drop_hub(url: str) -> None:
    options = parse_url(url, {})
    connection = await connect(options)
    try:
        await connection.execute(f'DROP SCHEMA IF EXISTS "{options.hub}" CASCADE')
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

    features = frozenset({"many_handles", "frozen_clock"})

    def __init__(self, url: str = "postgresql:///:temp:") -> None:
        location, _, options = url.partition("?")
        if not location.endswith(":///:temp:"):
            raise StoreUrlError("the tests make hubs of their own: use postgresql:///:temp:, and name a server by DURABLE_TEST_POSTGRES")
        self.url = fresh_hub(f"&death_grace_s=0&synchronous_commit=off{options and '&' + options}")
        self._now_us = _START_US
        self._handles: list[PostgresBackend] = []

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
        if self._handles:
            await drop_hub(self.url)

    def advance_clock(self, us: int) -> None:
        self._now_us += us

    def _new(self) -> PostgresBackend:
        return open_backend(self.url, clock_us=lambda: self._now_us)


if __name__ == "__main__":  # a server to try things on: python -m durable_postgres.testing
    sys.stdout.write(f"{server_url()}\nEnter ends it.\n")
    sys.stdout.flush()
    sys.stdin.readline()
