"""What a backend's author supplies beside the backend: a class with this shape, and one line.

    [project.entry-points."durable_core.harnesses"]
    sqlite = "durable_sqlite.testing:SqliteHarness"      # URL scheme = called with the URL

or ``--durable-backend module:factory`` (called without arguments). Nothing needs to be imported from here: the shape is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol

from durable_core.backend import Backend, Capabilities

__all__ = ["FEATURES", "Harness", "factory_for"]

FEATURES = {
    "many_handles": "`open` may be called again while other handles are open",
    "frozen_clock": "the hub's clock stands still but for `advance_clock`",
}
"""What a harness may declare beside the store's capabilities. Each lets more of the suite run."""


class Harness(Protocol):
    """One store of its own, empty at first. Its methods run in the event loop of the test that uses it."""

    features: frozenset[str]
    """Of ``FEATURES``."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self) -> Backend:
        """A new handle on the store, opened."""
        ...

    async def kill(self, handle: Backend) -> None:
        """Drop a handle as if its process had died: nothing is given back, and nothing of it goes on."""
        ...

    async def destroy(self) -> None:
        """Close all handles and remove the store."""
        ...

    def advance_clock(self, us: int) -> None:
        """Only with ``frozen_clock``."""
        ...


def factory_for(spec: str) -> Callable[[], Harness]:
    """What ``--durable-backend`` names. Raises ``LookupError`` or ``ImportError`` with a message for whoever typed it."""
    scheme, colon, rest = spec.partition(":")
    if not colon:
        raise LookupError(f"{spec!r} is neither a store URL nor module:factory")
    if rest.startswith("//"):
        found = [entry for entry in entry_points(group="durable_core.harnesses") if entry.name == scheme]
        if not found:
            known = ", ".join(sorted(entry.name for entry in entry_points(group="durable_core.harnesses"))) or "none"
            raise LookupError(f"no harness is installed for {scheme}:// URLs (installed: {known}); name one as module:factory")
        make = found[0].load()
        return lambda: make(spec)
    factory = getattr(import_module(scheme), rest, None)
    if factory is None:
        raise LookupError(f"module {scheme} has no {rest}")
    return lambda: factory()
