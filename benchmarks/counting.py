"""Counts the group commits of whatever backend a URL names, without engine or backend knowing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from durable_core.backend import Backend, Command, Outcome
from durable_core.runtime.stores import backend_for


class CountingBackend:
    """The backend it wraps, counting calls of ``apply``: each is one commit of however many turns."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.commits = 0

    @classmethod
    def of(cls, url: str) -> CountingBackend:
        return cls(backend_for(url))

    def as_backend(self) -> Backend:
        return cast(Backend, self)

    @property
    def operations(self) -> Counter[str] | None:
        """What the store has counted so far, if it counts requests."""
        counted = getattr(self.inner, "operations", None)
        return None if counted is None else Counter(counted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        self.commits += 1
        return await self.inner.apply(commands)
