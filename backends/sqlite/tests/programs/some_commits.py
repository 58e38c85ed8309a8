"""Commit twenty times, one after the other, and print what the store counted. Usage: some_commits.py PATH"""

from __future__ import annotations

import asyncio
import sys

from durable_core.backend import CreateInstance
from durable_sqlite import open_backend


async def main(path: str) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await backend.open()
    before = backend.commits
    for number in range(20):
        await backend.apply([CreateInstance(f"i{before}{number}", "e", "orch", b"1", reuse="terminate_and_replace")])
    sys.stdout.write(str(backend.commits - before))
    await backend.close()


asyncio.run(main(sys.argv[1]))
