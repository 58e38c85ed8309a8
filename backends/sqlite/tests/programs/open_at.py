"""Open a store at a given moment, use it and close it, so many times. Usage: open_at.py PATH TIME NAME TIMES"""

from __future__ import annotations

import asyncio
import sys
import time

from durable_core.backend import CreateInstance
from durable_sqlite import open_backend


async def main(path: str, at: float, name: str, times: int) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await asyncio.sleep(max(0.0, at - time.time()))
    for number in range(times):
        await backend.open()
        (outcome,) = await backend.apply([CreateInstance(f"{name}-{number}", name, "orch", b"1")])
        (record,) = await backend.get_instances([f"{name}-{number}"])
        sys.stdout.write(f"{outcome.status.name} " if record is not None else "missing ")
        await backend.close()


asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
