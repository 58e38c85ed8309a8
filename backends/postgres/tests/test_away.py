"""A server that stops, or stops answering, under an engine: every call of a client waits as long and then says so, and waiting for an instance
rides it out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable_core import DurableClient, DurableEngine, InstanceStatus, OrchestrationContext, StoreUnavailableError
from durable_core.runtime.clock import Clock, Timer
from durable_core.runtime.patience import CLIENT_PATIENCE_S
from durable_postgres import open_backend
from durable_postgres.servers import Server

SPEED = 5
SLACK_S = 20.0
"""Of the fast clock. What it must stay below is a driver's patience: 60 s for a statement, ten for a connection, again and again."""


class FastClock(Clock):
    """A client's ten seconds are two."""

    def time(self) -> float:
        return super().time() * SPEED

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(seconds / SPEED, callback)

    def limit(self, seconds: float | None) -> asyncio.Timeout:
        return super().limit(None if seconds is None else seconds / SPEED)


async def waiting(ctx: OrchestrationContext) -> str:
    return await ctx.wait_for_external_event("go", return_type=str)


async def _all(client: DurableClient) -> list[Any]:
    return [state async for state in client.query_instances()]


CALLS: dict[str, Callable[[DurableClient], Awaitable[Any]]] = {
    "schedule_new_orchestration": lambda client: client.schedule_new_orchestration("waiting"),
    "raise_event": lambda client: client.raise_event("w", "x"),
    "get_instance": lambda client: client.get_instance("w"),
    "query_instances": _all,
    "get_history": lambda client: client.get_history("w"),
    "purge": lambda client: client.purge("w", force=True),
}


class Freezing:
    def __init__(self, server: Server) -> None:
        self.server = server

    def begin(self) -> None:
        self.server.signal(signal.SIGSTOP)

    def end(self) -> None:
        self.server.signal(signal.SIGCONT)


class Stopping:
    def __init__(self, server: Server) -> None:
        self.server = server

    def begin(self) -> None:
        self.server.stop()

    def end(self) -> None:
        self.server.start()


@pytest.mark.parametrize("trouble", [Freezing, Stopping])
async def test_clients_wait_as_long_whatever_the_server_does(server: Server, trouble: type[Freezing | Stopping]) -> None:
    engine, clock, away = DurableEngine(), FastClock(), trouble(server)
    engine.orchestrator(waiting)
    async with engine._open(open_backend(server.url), engine._registry, engine._options, clock):
        client = engine.client
        handle = await client.schedule_new_orchestration("waiting", instance_id="w")
        await client.wait_for_start("w")
        away.begin()
        try:
            waits = [asyncio.create_task(wait) for wait in (handle.result(), client.wait_for_completion("w"))]

            async def seconds(call: Callable[[DurableClient], Awaitable[Any]]) -> float:
                began = clock.time()
                with pytest.raises(StoreUnavailableError):
                    await call(client)
                return clock.time() - began

            waited = await asyncio.gather(*map(seconds, CALLS.values()))
        finally:
            await asyncio.to_thread(away.end)
        assert not any(wait.done() for wait in waits)
        await asyncio.wait_for(_raise_event(client), 60)
        result, end = await asyncio.gather(*waits)
    assert result == "on"
    assert end.runtime_status is InstanceStatus.COMPLETED
    for call, waited_s in zip(CALLS, waited, strict=True):
        assert CLIENT_PATIENCE_S - 3 <= waited_s <= CLIENT_PATIENCE_S + SLACK_S, call


async def _raise_event(client: DurableClient) -> None:
    while True:
        try:
            await client.raise_event("w", "go", "on")
        except StoreUnavailableError:
            continue
        return
