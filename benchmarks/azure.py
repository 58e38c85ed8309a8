"""What only a store on blobs makes one ask. Each prints one JSON row.

    python -m benchmarks.azure idle [SECONDS]          one worker that has nothing to do: requests an hour, US$ a month
    python -m benchmarks.azure client [N] [--busy]     a client in a process without a worker: from the start to the result; alone, or
                                                       while others keep the worker busy
    python -m benchmarks.azure client-idle [N]         the same, each after an idle minute
    python -m benchmarks.azure cost [SECONDS]          US$ a million activities, by workers and ``commit_every_s``, at a hundred
                                                       activities a second
    python -m benchmarks.azure recovery [EFFECTS]      opening a hub with so many effects since its last snapshot

They start an emulator of their own, unless AZURITE_BLOB_ENDPOINT names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from itertools import count, islice
from typing import Any
from uuid import uuid4

from benchmarks import report
from benchmarks.workloads import hello1, hello5, noop
from durable_azure import AzureBackend, open_emulator
from durable_azure.azurite import shared_azurite
from durable_azure.codec import decode_body
from durable_azure.frames import Tip, read_frames
from durable_azure.log import FIRST_LOG, log_name
from durable_azure.operations import WRITES, dollars
from durable_core import DurableClient, DurableEngine, OrchestrationHandle
from durable_core.backend import CreateInstance

HOURS_A_MONTH = 730
IDLE_S = 60
STARTED_EVERY_S = 0.05


def new_engine() -> DurableEngine:
    engine = DurableEngine()
    engine.register(noop, hello1, hello5)
    return engine


async def idle(seconds: int) -> report.Row:
    backend = new_backend()
    async with new_engine().open(backend=backend) as engine:
        assert await (await engine.client.schedule_new_orchestration(hello1, 1)).result() == 1
        await asyncio.sleep(20)  # what it held is let go of, and looks become rare
        before, started = backend.operations.copy(), time.monotonic()
        await asyncio.sleep(seconds)
        hours = (time.monotonic() - started) / 3_600
        an_hour = {name: round(count / hours) for name, count in (backend.operations - before).items()}
    return {"seconds": seconds, "operations_an_hour": an_hour, "dollars_a_month": round(dollars(an_hour) * HOURS_A_MONTH, 2)}


async def client(n: int, *, busy: bool, pause_s: float) -> report.Row:
    url = f"azurite://bench-{uuid4().hex}"
    processes = [await start("worker", url)]
    try:
        assert processes[0].stdout is not None
        await processes[0].stdout.readline()
        if busy:
            processes.append(await start("load", url))
        backend = open_emulator(url)
        async with new_engine().open(backend=backend, worker=False) as engine:
            latencies = [await one(engine.client, k, pause_s or 0.2) for k in range(n)]
            appends = {"appends": backend.operations["append"], "accepted": backend.commits}
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    return {
        "n": n,
        "busy": busy,
        "p50_ms": report.percentile_ms(latencies, 0.5),
        "p99_ms": report.percentile_ms(latencies, 0.99),
        **appends,
    }


async def start(what: str, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.azure", what, "--url", url, stdout=subprocess.PIPE)


async def one(client: DurableClient, k: int, pause_s: float) -> float:
    await asyncio.sleep(pause_s)
    started = time.perf_counter()
    assert await (await client.schedule_new_orchestration(hello1, k)).result() == k
    return time.perf_counter() - started


async def work(url: str) -> None:
    backend = open_emulator(url)
    async with new_engine().open(backend=backend):
        print("ready", flush=True)
        await interruption()
        print(json.dumps(backend.operations), flush=True)


async def load(url: str) -> None:
    """From a process of its own, too: a hundred activities a second, until interrupted; what was started is waited for."""
    backend = open_emulator(url)
    interrupted = asyncio.create_task(interruption())
    async with new_engine().open(backend=backend, worker=False) as engine:
        started: list[asyncio.Task[OrchestrationHandle[int]]] = []
        while not interrupted.done():
            started.append(asyncio.create_task(engine.client.schedule_new_orchestration(hello5, 1)))
            await asyncio.sleep(STARTED_EVERY_S)
        await asyncio.gather(*(handle.result() for handle in await asyncio.gather(*started)))
        print(json.dumps(backend.operations), flush=True)


async def interruption() -> None:
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    await interrupted.wait()


async def cost(seconds: int, workers: int, commit_every_s: float) -> report.Row:
    """All requests of all processes, the client's too."""
    url = f"azurite://bench-{uuid4().hex}?commit_every_s={commit_every_s}"
    processes = [await start("worker", url) for _ in range(workers)]
    for process in processes:
        assert process.stdout is not None
        await process.stdout.readline()
    processes.append(await start("load", url))
    await asyncio.sleep(seconds)
    operations: Counter[str] = Counter()
    for process in reversed(processes):
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        operations += Counter(json.loads(out.splitlines()[-1]))
    async with new_engine().open(url, worker=False) as engine:
        ended = [state async for state in engine.client.query_instances(page_size=1_000) if state.is_ended]
    activities = len(ended) * 5
    writes = sum(count for name, count in operations.items() if name in WRITES)
    return {
        "workers": workers,
        "commit_every_s": commit_every_s,
        "activities": activities,
        "operations": dict(operations),
        "writes_per_activity": round(writes / activities, 3),
        "dollars_per_million_activities": round(dollars(operations) / activities * 1e6, 2),
    }


async def recovery(effects: int) -> report.Row:
    """``roll_bytes`` as large as it gets, so that there is no snapshot."""
    backend = new_backend(roll_bytes=1 << 30)
    await backend.open()
    numbers, written, data = count(), 0, b""
    while written < effects:
        await backend.apply([CreateInstance(f"i{k}", f"e{k}", "orch", bytes(100), f"r{k}") for k in islice(numbers, 5_000)])
        data = await backend._store.blobs.read(log_name(FIRST_LOG)) or b""
        written = sum(len(decode_body(frame.body, "the log")) for frame in read_frames(Tip(), data, "the log", 0))
    await backend.close()
    started = time.perf_counter()
    await backend.open()
    seconds = time.perf_counter() - started
    await backend.close()
    return {"effects": written, "log_mib": round(len(data) / (1 << 20), 1), "seconds": round(seconds, 2)}


def new_backend(**options: object) -> AzureBackend:
    return open_emulator(f"azurite://bench-{uuid4().hex}", **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["idle", "client", "client-idle", "cost", "recovery", "worker", "load"])
    parser.add_argument("n", nargs="?", type=int)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "AZURITE_BLOB_ENDPOINT" not in os.environ:
        os.environ["AZURITE_BLOB_ENDPOINT"] = shared_azurite().endpoint
    match options.what:
        case "worker":
            asyncio.run(work(options.url))
        case "load":
            asyncio.run(load(options.url))
        case "cost":
            for workers in (1, 3):
                for commit_every_s in (0.0, 0.05, 0.2):
                    show("cost", cost(options.n or 20, workers, commit_every_s))
        case "idle":
            show("idle", idle(options.n or 60))
        case "client":
            show("client", client(options.n or 100, busy=options.busy, pause_s=0))
        case "client-idle":
            show("client-idle", client(options.n or 5, busy=False, pause_s=IDLE_S))
        case _:
            show("recovery", recovery(options.n or 100_000))


def show(what: str, measured: Coroutine[Any, Any, report.Row]) -> None:
    print(json.dumps({"what": what, **asyncio.run(measured)}))


if __name__ == "__main__":
    main()
