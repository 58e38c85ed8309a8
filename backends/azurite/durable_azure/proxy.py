"""A proxy on the loopback interface, between a handle and the emulator, that breaks what a network and a busy service break.

What becomes of a request, a *rule* says: it passes; it is lost before the service has seen it, or its answer is lost, or half of that, after
the service has done it; or the proxy answers with an error in the service's place. Every request is counted by what it does.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from enum import Enum
from urllib.parse import urlsplit

from attrs import define, field, frozen

from durable_azure.operations import operation_of

__all__ = ["Answered", "Fate", "Lost", "Proxy", "Request", "bad_network"]


class Lost(Enum):
    """Where the connection ends."""

    REQUEST = "the service never sees the request"
    ANSWER = "the service does what it is asked to, and nobody hears of it"
    HALF_AN_ANSWER = "only the beginning of the answer arrives"
    SILENCE = "the service never sees the request, and the connection stays"


@frozen
class Answered:
    """An answer in the service's place. ``done``: the service has done all the same what it was asked to."""

    status: int
    code: str = ""
    done: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Fate = Lost | Answered | None
"""None: the request passes."""


@frozen
class Request:
    method: str
    url: str
    headers: dict[str, str]

    @property
    def operation(self) -> str:
        """As ``operations.py`` calls it."""
        return operation_of(self.method, self.url, self.headers)


_BAD: tuple[Fate, ...] = (
    Answered(503, "ServerBusy"),
    Answered(503, "ServerBusy", done=True),
    Answered(500, "OperationTimedOut", done=True),
    Lost.REQUEST,
    Lost.ANSWER,
    Lost.HALF_AN_ANSWER,
)


def bad_network(dice: random.Random, share: float = 0.03) -> Callable[[Request], Fate]:
    """A rule: so many of the requests are broken, one way or another."""
    return lambda _request: dice.choice(_BAD) if dice.random() < share else None


def _pass(_request: Request) -> Fate:
    return None


@define(eq=False)
class Proxy:
    """``rule`` may be replaced at any time."""

    target: str
    rule: Callable[[Request], Fate] = _pass
    seen: Counter[str] = field(factory=Counter)
    broken: Counter[str] = field(factory=Counter)
    endpoint: str = ""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(factory=set)
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}{urlsplit(self.target).path}"

    def cut(self) -> None:
        """End every connection, whatever is under way."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        service_reader, service = await asyncio.open_connection(urlsplit(self.target).hostname, urlsplit(self.target).port)
        self._writers |= {client, service}
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._one(reader, client, service_reader, service):
                    pass
        finally:
            for writer in (client, service):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        service_reader: asyncio.StreamReader,
        service: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = _parse(head)
        message = head + await _body(reader, request.headers)
        self.seen[request.operation] += 1
        fate = self.rule(request)
        if fate is not None:
            self.broken[request.operation] += 1
        if fate is Lost.REQUEST:
            return False
        if fate is Lost.SILENCE:
            await reader.read()  # until the client gives it up
            return False
        answer = b""
        if not isinstance(fate, Answered) or fate.done:
            service.write(message)
            answer = await _answer(service_reader, request.method)
        if isinstance(fate, Lost):
            if fate is Lost.HALF_AN_ANSWER:
                client.write(answer[: len(answer) // 2])
                with suppress(ConnectionError):
                    await client.drain()
            return False
        client.write(_refusal(fate) if isinstance(fate, Answered) else answer)
        await client.drain()
        return True


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        body += size + await reader.readexactly(int(size, 16) + 2)
        if int(size, 16) == 0:
            return body


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if method == "HEAD" or status in (204, 304):
        return head
    lines = head.decode("latin-1").split("\r\n")[1:]
    return head + await _body(reader, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)})


def _refusal(fate: Answered) -> bytes:
    error = f'<?xml version="1.0"?><Error><Code>{fate.code}</Code><Message>by the proxy</Message></Error>'.encode() if fate.code else b""
    body = fate.body or error
    headers = [("Content-Length", str(len(body))), ("Content-Type", "application/xml"), ("Date", formatdate(usegmt=True)), *fate.headers]
    if fate.code:
        headers.append(("x-ms-error-code", fate.code))
    lines = [f"HTTP/1.1 {fate.status} by the proxy", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + body
