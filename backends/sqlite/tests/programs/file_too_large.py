"""Commit under a limit on file sizes that makes the write in COMMIT fail; then without it. Prints what happened."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
from pathlib import Path

from durable_core.backend import CreateInstance
from durable_core.errors import StoreUnavailableError
from durable_sqlite import open_backend
from durable_sqlite.testing import find_faults


async def main(path: str) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await backend.open()
    await backend.apply([CreateInstance("before", "e0", "orch", b"x")])
    batch = [CreateInstance(f"i{number}", f"e{number}", "orch", b"x" * 5_000, f"r{number}") for number in range(50)]
    limit = Path(path + "-wal").stat().st_size + 50_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        await backend.apply(batch)
    except StoreUnavailableError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(*{outcome.status.name for outcome in await backend.apply(batch)})
    await backend.close()
    connection = sqlite3.connect(path)
    print("faults:", find_faults(connection))
    connection.close()


asyncio.run(main(sys.argv[1]))
