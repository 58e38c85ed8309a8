"""Open a store at a given moment and use it. Usage: open_at.py PATH TIME NAME"""

from __future__ import annotations

import asyncio
import sys
import time

from durable_core.backend import CreateInstance
from durable_sqlite import open_backend


async def main(path: str, at: float, name: str) -> None:
    backend = open_backend(f"sqlite:///{path}")
    time.sleep(max(0.0, at - time.time()))
    await backend.open()
    (outcome,) = await backend.apply([CreateInstance(name, name, "orch", b"1")])
    sys.stdout.write(outcome.status.name)
    await backend.close()


asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
