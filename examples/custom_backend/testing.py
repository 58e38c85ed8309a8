"""What the conformance kit needs beside the backend: ``--durable-backend examples.custom_backend.testing:Harness``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from durable_core.backend import Backend, Capabilities
from examples.custom_backend.backend import FilesBackend

_START_US = 1_700_000_000_000_000


class Harness:
    """A store of its own in a new folder, whose clock stands still but for ``advance_clock``."""

    features = frozenset({"many_handles", "frozen_clock"})
    capabilities: Capabilities = FilesBackend.capabilities

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="durable-files-"))
        self._now_us = _START_US
        self._handles: list[FilesBackend] = []

    async def open(self) -> Backend:
        handle = FilesBackend(self._folder / "hub", clock_us=lambda: self._now_us)
        self._handles.append(handle)
        await handle.open()
        return handle

    async def kill(self, handle: Backend) -> None:
        """A closed handle gives no lease back, and each call had ended: nothing else is left by a process that dies between two calls."""
        await handle.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()
        shutil.rmtree(self._folder)

    def advance_clock(self, us: int) -> None:
        self._now_us += us
