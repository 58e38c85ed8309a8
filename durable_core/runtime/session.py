"""What exists while an engine is open, shared by its client and its worker."""

from __future__ import annotations

from collections.abc import Callable

from durable_core.backend import Backend
from durable_core.definitions.registry import Registry
from durable_core.runtime.clock import HubClock
from durable_core.runtime.committer import Committer
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.reads import Reader
from durable_core.runtime.waiters import Waiters


class Session:
    """A worker sets ``wake``, which tells it that there may be something to claim. ``draining``: nothing new is begun any more."""

    def __init__(self, backend: Backend, registry: Registry, options: WorkerOptions) -> None:
        self.backend = backend
        self.registry = registry
        self.options = options
        self.wake: Callable[[], None] = lambda: None
        self.draining = False
        self.clock = HubClock()
        self.committer = Committer(backend)
        self.reader = Reader(backend)
        self.waiters = Waiters()
