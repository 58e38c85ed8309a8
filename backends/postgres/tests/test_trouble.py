"""A server that turns read-only, runs out of disk or takes privileges away while an engine works on it: a clear error for who asks, and when the
trouble is over everything goes on by itself, each activity once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable_core import DurableClient, DurableEngine, OrchestrationContext, OrchestrationHandle
from durable_core.errors import StoreFullError, StoreReadOnlyError
from durable_postgres.servers import Server
from durable_postgres.testing import find_faults

MANY = 20
STEPS = 6


class Work:
    """``MANY`` orchestrations of ``STEPS`` activities; the third one of each waits for the trouble to be over."""

    def __init__(self) -> None:
        self.engine = DurableEngine()
        self.ran: Counter[tuple[int, int]] = Counter()
        self.over = asyncio.Event()
        self.waiting = asyncio.Event()
        self.engine.activity(self.step)
        self.engine.orchestrator(steps)

    async def step(self, number: int, step: int, load: str) -> int:
        self.ran[number, step] += 1
        if step == 2:
            self.waiting.set()
            await self.over.wait()
        return len(load)

    async def start(self, client: DurableClient) -> list[OrchestrationHandle[Any]]:
        handles = [await client.schedule_new_orchestration("steps", number) for number in range(MANY)]
        await self.waiting.wait()
        return handles

    async def end(self, handles: list[OrchestrationHandle[Any]], url: str) -> None:
        """When the trouble is over."""
        assert await asyncio.gather(*(handle.result() for handle in handles)) == [STEPS * 1_000] * MANY
        assert self.ran == Counter({(number, step): 1 for number in range(MANY) for step in range(STEPS)})
        assert await find_faults(url) == []


async def steps(ctx: OrchestrationContext, number: int) -> int:
    return sum([await ctx.call_activity("step", number, step, "x" * 1_000, return_type=int) for step in range(STEPS)])


async def write_on(client: DurableClient) -> None:
    """Until it does not work any more."""
    while True:
        await client.schedule_new_orchestration("unheard of", os.urandom(50_000).hex())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@asynccontextmanager
async def admin(server: Server) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_server_turns_read_only_and_back(server: Server) -> None:
    work, url = Work(), server.url + "?hub=read_only"
    async with work.engine.open(url), admin(server) as connection:
        handles = await work.start(work.engine.client)
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        with pytest.raises(StoreReadOnlyError, match="takes no writes here"):
            await write_on(work.engine.client)  # a moment later, they know
        assert await handles[0].state() is not None, "reading goes on"
        work.over.set()
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await connection.execute("SELECT pg_reload_conf()")
        await work.end(handles, url)


async def test_privileges_are_taken_away_and_given_back(server: Server) -> None:
    work, url = Work(), server.url + "?hub=privileges"
    async with admin(server) as connection:
        await connection.execute("CREATE ROLE worker LOGIN PASSWORD 'worker'; GRANT CREATE ON DATABASE postgres TO worker")
        theirs = url.replace(f"tester:{server.password}", "worker:worker")
        async with work.engine.open(theirs):
            handles = await work.start(work.engine.client)
            await connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA privileges FROM worker")
            with pytest.raises(StoreReadOnlyError, match="lacks a privilege"):
                await work.engine.client.schedule_new_orchestration("steps", 0)
            work.over.set()
            await connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA privileges TO worker")
            await work.end(handles, url)


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    folder = server.folder / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(
            f"to run out of disk needs a small one, and nobody but root may mount it (uid {os.geteuid()}: {mounted.stderr.decode()})"
        )
    server.own(folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_disk_is_full_and_is_freed(server: Server, small_disk: Path) -> None:
    """The database's, not the one of the server's log: without the latter, a server ends."""
    work, url = Work(), server.url.replace("/postgres", "/small")
    async with admin(server) as connection:
        await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        await connection.execute("CREATE DATABASE small TABLESPACE small")
        async with work.engine.open(url):
            handles = await work.start(work.engine.client)
            ballast = small_disk / "ballast"
            fill(ballast)
            with pytest.raises(StoreFullError, match="no space left; nothing of the failed batch was written"):
                await write_on(work.engine.client)  # what is there of a table may take some more
            work.over.set()
            ballast.unlink()
            await work.end(handles, url)
        await connection.execute("DROP DATABASE small WITH (FORCE)")
        await connection.execute("DROP TABLESPACE small")


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(1 << 16))
        except OSError:
            pass  # full
