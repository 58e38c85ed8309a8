"""What the command line runs in a process of its own: everything by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from durable_core.testing.simulation.run import Report, SimulationFailure, simulate


def simulate_by_name(engine: str, load: str, backend: str, workers: int, seeds: range) -> Report | str:
    """A failure comes as text: it has to travel."""
    try:
        return simulate(_named(engine), _named(load), seeds=seeds, workers=workers, backend=_named(backend))
    except SimulationFailure as failure:
        return str(failure)


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
