"""What the conformance kit needs beside the backend: ``--durable-backend examples.custom_backend.testing:Harness``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from durable_core.backend import Backend, Capabilities
from examples.custom_backend.backend import FilesBackend

_START_US = 1_700_000_000_000_000


class Harness:
    """A store of its own in a new folder, whose clock stands still but for ``advance_clock``. Other processes may open it too."""

    features = frozenset({"many_handles", "frozen_clock", "wall_clock", "attach"})
    capabilities: Capabilities = FilesBackend.capabilities

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="durable-files-"))
        self._now_us = _START_US
        self._passed_us = 0
        self._handles: list[FilesBackend] = []

    @property
    def location(self) -> str:
        return str(self._folder / "hub")

    @classmethod
    def attach(cls, location: str) -> AttachedHarness:
        return AttachedHarness(location)

    async def open(self) -> Backend:
        return await self._opened(
            FilesBackend(Path(self.location), clock_us=lambda: self._now_us, monotonic_us=lambda: self._passed_us), create=True
        )

    async def kill(self, handle: Backend) -> None:
        """A closed handle gives no lease back, and each call had ended: nothing else is left by a process that dies between two calls."""
        await handle.close()

    async def destroy(self) -> None:
        await self._close()
        shutil.rmtree(self._folder)

    def advance_clock(self, us: int) -> None:
        self._now_us += us
        self._passed_us += us

    def jump_clock(self, us: int) -> None:
        self._now_us += us

    async def _opened(self, handle: FilesBackend, *, create: bool) -> Backend:
        self._handles.append(handle)
        await handle.open(create=create)
        return handle

    async def _close(self) -> None:
        for handle in self._handles:
            await handle.close()


class AttachedHarness(Harness):
    """On the folder of another harness, which removes it, with the machine's clock."""

    features = frozenset({"many_handles"})

    def __init__(self, location: str) -> None:
        self._folder = Path(location).parent
        self._handles = []

    async def open(self) -> Backend:
        return await self._opened(FilesBackend(Path(self.location)), create=False)

    async def destroy(self) -> None:
        await self._close()
