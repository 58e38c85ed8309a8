"""``main(url)``: the worker in a process of its own, the service on a free port, and a few requests over HTTP.

``memory://`` cannot be shared between processes: there the service works itself.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from attrs import frozen
from httpx import AsyncClient
from uvicorn import Config, Server

from examples.parallel_work_items import process_work_item
from examples.rest_controller.app import create_app

__all__ = ["WORKER", "Answers", "WorkerEndedError", "main", "without_engine"]

WORKER = sys.executable, "-m", "examples.rest_controller.worker", "--child"
COUNT = 10
POLL_S = 0.05


@frozen
class Answers:
    """``unknown`` and ``refused`` are the HTTP statuses for an instance that nobody started and for a body that is no count."""

    unknown: int
    refused: int
    status: str
    output: list[int]


class WorkerEndedError(Exception):
    """The worker is gone before the work was done. Started again, it goes on."""


async def main(url: str, worker: Sequence[str] = WORKER) -> Answers:
    """``worker`` is the command that works; the URL is added."""
    if url.startswith("memory:"):
        print("a store in memory is of one process: the service works itself")
        async with serving(url, works=True) as client:
            return await talk(client)
    async with working([*worker, url]) as process, serving(url, works=False) as client:
        talking = asyncio.create_task(talk(client))
        dying = asyncio.create_task(process.wait())
        await asyncio.wait([talking, dying], return_when=asyncio.FIRST_COMPLETED)
        if not talking.done():
            talking.cancel()
            raise WorkerEndedError(f"the worker ended with status {process.returncode}")
        return talking.result()


async def talk(client: AsyncClient) -> Answers:
    unknown = await client.get("/status/nobody-started-this")
    refused = await client.post("/start", json="ten")
    started = await client.post("/start", json=COUNT, headers={"Idempotency-Key": "rest-work-items"})
    status = f"/status/{started.raise_for_status().json()['instanceId']}"
    while (answer := (await client.get(status)).raise_for_status().json())["output"] is None:
        await asyncio.sleep(POLL_S)
    return Answers(unknown.status_code, refused.status_code, answer["status"], answer["output"])


@asynccontextmanager
async def working(command: Sequence[str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def serving(url: str, *, works: bool) -> AsyncIterator[AsyncClient]:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # whoever connects before the service is up waits
        server = Server(Config(create_app(url, worker=works), log_level="warning"))
        running = asyncio.create_task(server.serve([listening]))
        host, port = listening.getsockname()
        try:
            async with AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            await running


async def without_engine() -> Answers:
    return Answers(404, 400, "COMPLETED", [await process_work_item(number) for number in range(COUNT)])
