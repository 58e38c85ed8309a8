"""Coroutine tests run in a loop of their own. ``url`` names a hub that is there for one test; ``handle`` opens handles on it that the
test's end closes; ``proxy`` stands between a handle and the server."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from durable_conformance.driver import Driver, driver_of
from durable_postgres import PostgresBackend, open_backend
from durable_postgres.servers import Server
from durable_postgres.testing import drop_hub, fresh_hub

PATIENCE_S = None if "DURABLE_CROSSINGS" in os.environ else 100.0
"""Of one test; none in the long run."""


class Handles:
    """Called like ``open_backend`` with the hub's URL filled in; opened on return."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[PostgresBackend] = []

    async def __call__(self, *, url: str | None = None, **options: Any) -> PostgresBackend:
        backend = open_backend(url or self.url, **options)
        await backend.open()
        self.opened.append(backend)
        return backend

    async def close(self) -> None:
        for backend in self.opened:
            await backend.close()


async def _drive(backend: PostgresBackend, prefix: str = "") -> Driver:
    driver = await driver_of(backend)
    fresh = driver.fresh
    named: Any = driver
    named.fresh = lambda name: fresh(prefix + name)  # ids of two drivers must not meet
    return driver


class Proxy:
    """Passes bytes on between clients and the server, and counts what clients ask for ("statements": queries and executions).

    ``cut(number, after)``: the number-th statement from now on loses its connection, before the server got it or after the server has
    answered (the answer is lost). ``mute()``: connections stay open, and nothing comes through any more.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut: tuple[int, bool] | None = None
        self._muted = False
        self._mute_up_to = 0
        self._connections = 0
        self.direct_url = url
        self.statements = 0
        self.cuts = 0
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        parts = self._target
        self.url = parts._replace(
            netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}", query=parts.query + "&sslmode=disable"
        ).geturl()

    def cut(self, number: int, *, after: bool) -> None:
        self._cut = (self.statements + number, after)

    def mute(self) -> None:
        self._muted = True

    def mute_connections(self) -> None:
        """Those that are there; new ones work."""
        self._mute_up_to = self._connections

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, server_writer}
        self._connections += 1
        number = self._connections
        lost = asyncio.Event()
        for pump in (
            self._upwards(reader, server_writer, writer, lost, number),
            self._downwards(server_reader, writer, server_writer, lost, number),
        ):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_mute(self, number: int) -> bool:
        return self._muted or number <= self._mute_up_to

    async def _upwards(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter, lost: asyncio.Event, number: int
    ) -> None:
        typed = False
        try:
            while True:
                kind = await reader.readexactly(1) if typed else b""
                length = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(length, "big") - 4)
                typed = True
                if self._is_mute(number):
                    continue
                if kind in (b"Q", b"E"):
                    self.statements += 1
                    if self._cut is not None and self.statements == self._cut[0]:
                        (_, after), self._cut = self._cut, None
                        self.cuts += 1
                        if not after:
                            client.transport.abort()
                            server.transport.abort()
                            return
                        lost.set()
                server.write(kind + length + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            server.transport.abort() if lost.is_set() else server.close()

    async def _downwards(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, server: asyncio.StreamWriter, lost: asyncio.Event, number: int
    ) -> None:
        try:
            while True:
                kind = await reader.readexactly(1)
                length = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(length, "big") - 4)
                if lost.is_set():
                    if kind == b"Z":  # the server has done it all
                        client.transport.abort()
                        server.transport.abort()
                        return
                elif not self._is_mute(number):
                    client.write(kind + length + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """One of the test's own, to be stopped."""
    with Server() as server:
        yield server


@pytest.fixture
def url() -> Iterator[str]:
    url = fresh_hub()
    yield url
    asyncio.run(drop_hub(url))


@pytest.fixture
def handle(url: str) -> Handles:
    return Handles(url)


@pytest.fixture
def drive() -> Callable[..., Awaitable[Driver]]:
    """The conformance kit's driver on a handle; a second one of a test needs a prefix for the ids that it makes up."""
    return _drive


@pytest.fixture
def proxy(url: str) -> Proxy:
    """To be started by the test."""
    return Proxy(url)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}

    async def run() -> None:
        try:
            await asyncio.wait_for(test(**arguments), PATIENCE_S)
        finally:
            for opened in map(pyfuncitem.funcargs.get, ("handle", "proxy")):
                if isinstance(opened, Handles | Proxy):
                    await opened.close()

    asyncio.run(run())
    return True
