"""Hold one instance with a running activity, and have one claimed, until killed. Usage: hold_until_killed.py URL"""

from __future__ import annotations

import asyncio
import sys

from durable_core.backend import CommitTurn, CreateInstance, NewTask
from durable_postgres import open_backend

HOUR_US = 3_600_000_000


async def main(url: str) -> None:
    backend = open_backend(url)
    await backend.open()
    await backend.heartbeat("victim", ttl_us=HOUR_US)
    held, _ = await backend.apply([CreateInstance(id, f"e{id}", "orch", b"1", worker="victim") for id in ("held", "claimed")])
    assert held.turn is not None
    task = NewTask("t", "act", b"1", claim=True)
    await backend.apply(
        [CommitTurn("held", held.turn.execution, held.turn.epoch, 0, "victim", "k", b"[1]", 1, tasks=(task,), hold_us=HOUR_US)]
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.sleep(60)


asyncio.run(main(*sys.argv[1:]))
