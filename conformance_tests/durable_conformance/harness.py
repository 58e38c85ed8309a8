"""What a backend's author supplies beside the backend: a class with this shape, and one line.

    [project.entry-points."durable_core.harnesses"]
    sqlite = "durable_sqlite.testing:SqliteHarness"      # URL scheme = called with the URL

or ``--durable-backend module:factory`` (called without arguments). Nothing needs to be imported from here: the shape is enough.

A harness may have two more attributes. ``version``: a text for the certificate (without it: the version of the distribution that the
harness comes from). ``exemptions``: name of a test → why the store fails it for now; such a test is run all the same, and if it passes
that is a failure, so that no exemption outlives its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from durable_core.backend import Backend, Capabilities

__all__ = [
    "FEATURES",
    "Attachable",
    "Corruptible",
    "Cuttable",
    "Harness",
    "Settable",
    "attach_to",
    "check_handle",
    "check_harness",
    "declared_by",
    "factory_for",
]

FEATURES = {
    "many_handles": "`open` may be called again while other handles are open, also in the event loop of another thread",
    "frozen_clock": "the hub's clock stands still but for `advance_clock`",
    "wall_clock": "`jump_clock` sets the wall clock alone, and what tells how much time has passed goes on",
    "attach": "other processes can open the store (`Attachable`); one that is not `multi_process` has to refuse them",
    "cut_connection": "the connections of a handle can be broken (`Cuttable`)",
    "corrupt": "the store can be damaged (`Corruptible`)",
    "server_clock": "the clock of the process that uses the store decides nothing",
}
"""What a harness may declare beside the store's capabilities. Each lets more of the suite run."""

_CAPABILITIES = ("multi_process", "proves_death")
_NEEDED = {
    "frozen_clock": ("advance_clock",),
    "wall_clock": ("jump_clock",),
    "attach": ("location", "attach"),
    "cut_connection": ("cut_connection",),
    "corrupt": ("corrupt",),
}
"""What a harness has to have for a feature."""
_METHODS = ("open", "close", "apply", "claim", "heartbeat", "get_instances", "query_instances", "read_history", "wakeups", "capabilities")


class Harness(Protocol):
    """One store of its own, empty at first. Its methods run in the event loop of the test that uses it; a handle is used and killed in
    the loop that opened it."""

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


class Attachable(Harness, Protocol):
    """With ``attach``."""

    @property
    def location(self) -> str:
        """The store, for ``attach`` in another process."""
        ...

    @classmethod
    def attach(cls, location: str) -> Harness:
        """A harness on a store that another harness made and will remove: ``open`` creates nothing, ``destroy`` closes handles only, and
        the clock is the real one."""
        ...


class Cuttable(Harness, Protocol):
    """With ``cut_connection``."""

    async def cut_connection(self, handle: Backend) -> None:
        """Break every connection of the handle to the store, as a network does: what is under way does not learn how it ended."""
        ...


class Settable(Protocol):
    """A harness with ``wall_clock``."""

    def jump_clock(self, us: int) -> None:
        """Forwards or backwards."""
        ...


class Corruptible(Harness, Protocol):
    """With ``corrupt``."""

    async def corrupt(self) -> None:
        """Damage the store, no handle being open, so that whoever opens it can tell."""
        ...


def check_harness(harness: object) -> None:
    """Raises ``TypeError`` with what to do about it, if something is missing that every harness has, or that this one declares."""
    name = type(harness).__name__
    for part in ("features", "capabilities", "open", "kill", "destroy"):
        if not hasattr(harness, part):
            raise TypeError(f"{name} is no harness, it has no {part!r}: give it what durable_conformance.harness.Harness describes")
    features = getattr(harness, "features")  # noqa: B009  # it is an object
    if not isinstance(features, Set):
        raise TypeError(f"features of {name} is not a set: write frozenset({{'many_handles', …}})")
    for feature in sorted(features):
        if feature not in FEATURES:
            raise TypeError(f"{name} declares {feature!r}, which is no feature: choose from {', '.join(FEATURES)}")
        missing = [part for part in _NEEDED.get(feature, ()) if not hasattr(harness, part)]
        if missing:
            raise TypeError(f"{name} declares {feature!r} and has no {missing[0]!r}: add it, or do not declare {feature!r}")


def check_handle(handle: object) -> None:
    """Raises ``TypeError`` if what a harness opened is no backend."""
    missing = [name for name in _METHODS if not hasattr(handle, name)]
    if missing:
        raise TypeError(f"open() gave {type(handle).__name__}(), which has no {missing[0]!r}: it has to be a durable_core.backend.Backend")


def declared_by(harness: Harness) -> frozenset[str]:
    """The names that ``requires`` and ``refuses`` may use: features, capabilities, and ``durable`` if anything survives the process."""
    capabilities = harness.capabilities
    names = {name for name in _CAPABILITIES if getattr(capabilities, name)}
    return frozenset(harness.features | names | ({"durable"} if capabilities.durability != "none" else set()))


def factory_for(spec: str) -> Callable[[], Harness]:
    """What ``--durable-backend`` names. Raises ``LookupError`` or ``ImportError`` with a message for whoever typed it."""
    make = _maker_for(spec)
    return (lambda: make(spec)) if _is_url(spec) else (lambda: make())


def attach_to(spec: str, location: str) -> Harness:
    """In another process: a harness on the store at ``location``, which one of ``factory_for(spec)`` made."""
    harness: Harness = _maker_for(spec).attach(location)
    return harness


def _is_url(spec: str) -> bool:
    return spec.partition(":")[2].startswith("//")


def _maker_for(spec: str) -> Any:
    scheme, colon, rest = spec.partition(":")
    if not colon:
        raise LookupError(f"{spec!r} is neither a store URL nor module:factory")
    if _is_url(spec):
        found = [entry for entry in entry_points(group="durable_core.harnesses") if entry.name == scheme]
        if not found:
            known = ", ".join(sorted(entry.name for entry in entry_points(group="durable_core.harnesses"))) or "none"
            raise LookupError(f"no harness is installed for {scheme}:// URLs (installed: {known}); name one as module:factory")
        return found[0].load()
    factory = getattr(import_module(scheme), rest, None)
    if factory is None:
        raise LookupError(f"module {scheme} has no {rest}")
    return factory
