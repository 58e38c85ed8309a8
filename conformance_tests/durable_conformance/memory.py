"""The harness of the store in memory."""

from __future__ import annotations

from itertools import count

from durable_core.backend import Backend, Capabilities
from durable_core.testing.memory import MemoryBackend

__all__ = ["AttachedMemoryHarness", "MemoryHarness"]

_numbers = count(1)
_START_US = 1_700_000_000_000_000


class MemoryHarness:
    """A store of its own in this process, whose clock stands still."""

    features = frozenset({"many_handles", "frozen_clock", "wall_clock", "attach"})
    version = "a dictionary"
    kind: type[MemoryBackend] = MemoryBackend

    def __init__(self, url: str = "memory://") -> None:
        self._name = f"conformance-{next(_numbers)}"
        self._now_us = _START_US
        self._passed_us = 0
        self._handles: list[MemoryBackend] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._new().capabilities

    @property
    def location(self) -> str:
        return self._name

    @classmethod
    def attach(cls, location: str) -> AttachedMemoryHarness:
        return AttachedMemoryHarness(location)

    async def open(self) -> Backend:
        handle = self._new()
        await handle.open()
        self._handles.append(handle)
        return handle

    async def kill(self, handle: Backend) -> None:
        await handle.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()

    def advance_clock(self, us: int) -> None:
        self._now_us += us
        self._passed_us += us

    def jump_clock(self, us: int) -> None:
        self._now_us += us

    def _new(self) -> MemoryBackend:
        return self.kind(self._name, clock_us=lambda: self._now_us, monotonic_us=lambda: self._passed_us)


class AttachedMemoryHarness(MemoryHarness):
    """On the store of another harness, which other processes do not have."""

    features = frozenset({"many_handles"})

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    async def open(self) -> Backend:
        handle = self.kind(self._name)
        await handle.open(create=False)
        self._handles.append(handle)
        return handle
