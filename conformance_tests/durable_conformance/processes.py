"""Processes of the suite: started, watched, and killed by their own id."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from durable_conformance.driver import Driver
from durable_conformance.harness import Attachable

__all__ = ["Child", "children"]


class Child:
    """``python -m durable_conformance.child`` on the store of a driver."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self) -> Any:
        """What it says next; None if it has ended."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    async def until(self, what: object) -> None:
        """Until it has said this."""
        while (said := await self.next()) != what:
            assert said is not None, f"it ended before it said {what!r}: {await self.errors()}"

    async def finish(self) -> list[Any]:
        """Let it come to its end; all it says until then."""
        said = []
        while (value := await self.next()) is not None:
            said.append(value)
        assert await self.process.wait() == 0, await self.errors()
        return said

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def kill(self) -> list[Any]:
        """kill -9; what it had said before."""
        if self.process.returncode is None:
            self.process.kill()
        said = []
        while (value := await self.next()) is not None:
            said.append(value)
        await self.process.wait()
        return said


@asynccontextmanager
async def children(hub: Driver, spec: str) -> AsyncIterator[Any]:
    """A function that starts one. Whatever happens, none outlives the block."""
    running: list[Child] = []

    async def start(what: str, **options: Any) -> Child:
        location = cast(Attachable, hub.harness).location
        command = [sys.executable, "-m", "durable_conformance.child", what, spec, location, json.dumps(options)]
        pipe = asyncio.subprocess.PIPE
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # it finds the harness where we found it
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment
        )
        running.append(Child(process))
        return running[-1]

    try:
        yield start
    finally:
        for child in running:
            await child.kill()
