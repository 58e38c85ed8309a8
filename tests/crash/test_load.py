"""Worker processes on one PostgreSQL under a load, while one of them is killed again and again, and the server goes down twice.

Thousands of short orchestrations, and fan-outs of many activities that take up to 200 ms. The client, too, lives through it: what it started is
there once. An activity is run again only if its process was killed: that the server was gone is no reason. Ten seconds after the last fault,
nothing is left.

DURABLE_LOAD_S: how long the load lasts (12; `make crash-postgres`: 120). DURABLE_SEED repeats the dice.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import define, field

from durable_core import DurableClient
from durable_postgres.servers import Server
from tests.crash.audit import audit_load
from tests.crash.children import Child, Place
from tests.crash.program import errand, fan_out, new_engine
from tests.crash.stores import store_at

LOAD_S = float(os.environ.get("DURABLE_LOAD_S") or 12)
LONG = LOAD_S >= 60
PROCESSES = [2, 4] if LONG else [4]
WIDTH = 20_000 if LONG else 1_000
KILL_EVERY_S = 5.0
OUTSTANDING = 300
"""Orchestrations that have not ended: the load follows what the machine can do."""
SOON_S = 20.0  # fifteen until a death is certain that followed a restart of the server (docs/decisions/0017), and the work itself

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0 if LONG else 300)]


@pytest.fixture
def server() -> Iterator[Server]:
    """Of its own, to be restarted."""
    with Server() as server:
        yield server


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, store_at(server.url))
    yield place
    place.leave()


@define
class Load:
    place: Place
    server: Server
    dice: random.Random
    workers: list[Child] = field(factory=list)
    errands: int = 0
    fan_outs: int = 0
    kills: int = 0
    down_s: list[float] = field(factory=list)
    last_fault: float = 0.0

    async def run(self) -> None:
        async with self._client() as client:
            deadline = time.monotonic() + LOAD_S
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_errands(client, deadline))
                group.create_task(self._start_fan_outs(client))
                group.create_task(self._kill_workers(deadline))
                group.create_task(self._restart_server())

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[DurableClient]:
        engine = new_engine()
        async with engine.open(self.place.url, worker=False):
            yield engine.client

    async def _start_errands(self, client: DurableClient, deadline: float) -> None:
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self.place.left) > OUTSTANDING:
                await asyncio.sleep(0.05)
                continue
            numbers = range(self.errands, self.errands + 100)
            self.errands += 100
            await asyncio.gather(*(client.schedule_new_orchestration(errand, n, instance_id=f"errand{n}") for n in numbers))

    async def _start_fan_outs(self, client: DurableClient) -> None:
        """The last one has time to end before the last fault."""
        for number in range(3):
            await client.schedule_new_orchestration(fan_out, WIDTH, instance_id=f"fan-out{number}")
            self.fan_outs += 1
            await asyncio.sleep(LOAD_S / 5)

    async def _kill_workers(self, deadline: float) -> None:
        while time.monotonic() + KILL_EVERY_S < deadline:
            await asyncio.sleep(KILL_EVERY_S)
            victim = self.workers.pop(self.dice.randrange(len(self.workers)))
            self.kills += await asyncio.to_thread(victim.kill)
            self.last_fault = time.monotonic()
            self.workers.append(self.place.start_worker())

    async def _restart_server(self) -> None:
        """A crash, and then an end in order that no client is asked about."""
        for mode in ("immediate", "fast"):
            await asyncio.sleep(LOAD_S / 3)
            began = time.monotonic()
            await asyncio.to_thread(self.server.restart, mode)
            self.down_s.append(time.monotonic() - began)

    def wait_for_the_end(self) -> float:
        """How long after the last fault nothing was left, nor anything of the dead."""
        while (left := self.place.left()) or len(self.place.registered()) > len(self.workers):
            waited = time.monotonic() - self.last_fault
            assert waited < SOON_S, f"{left} orchestrations are left {waited:.1f} s after the last fault: {self.place.errors()}"
            time.sleep(0.02)
        return time.monotonic() - self.last_fault


@pytest.mark.parametrize("many", PROCESSES)
def test_workers_are_killed_and_the_server_goes_down(
    place: Place, server: Server, many: int, dice: random.Random, report: Callable[[str], None]
) -> None:
    load = Load(place, server, dice)
    load.workers += (place.start_worker() for _ in range(many))
    asyncio.run(load.run())
    waited_s = load.wait_for_the_end()
    place.stop()
    for worker in load.workers:
        worker.finish()
    figures = asyncio.run(audit_load(place, load.errands, load.fan_outs, WIDTH))
    down = ", ".join(f"{seconds:.1f}" for seconds in load.down_s)
    report(
        f"{load.errands} errands and {load.fan_outs} fan-outs of {WIDTH}: {figures.tasks} tasks, {figures.effects} effects, {figures.repeated} of "
        f"them repeated; {load.kills} workers killed, the server down for {down} s; all was done {waited_s:.1f} s after the last fault"
    )
    assert load.kills >= LOAD_S / KILL_EVERY_S - 1
    assert len(load.down_s) == 2
