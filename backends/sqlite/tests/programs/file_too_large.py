"""Commit under a limit on file sizes that makes the write in COMMIT fail; then without it. Prints what happened."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys

from durable_core.backend import CreateInstance
from durable_core.errors import StoreUnavailableError
from durable_sqlite import open_backend
from durable_sqlite.testing import find_faults


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


async def main(path: str) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await backend.open()
    await backend.apply([CreateInstance("before", "e0", "orch", b"x")])
    batch = [CreateInstance(f"i{number}", f"e{number}", "orch", b"x" * 5_000, f"r{number}") for number in range(50)]
    limit = os.path.getsize(path + "-wal") + 50_000  # noqa: ASYNC240, PTH202 # nothing else runs in this loop
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        await backend.apply(batch)
    except StoreUnavailableError:
        say("refused")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say(*{outcome.status.name for outcome in await backend.apply(batch)})
    await backend.close()
    connection = sqlite3.connect(path)
    say("faults:", find_faults(connection))
    connection.close()


asyncio.run(main(sys.argv[1]))
