"""What a flaw is: a harness of a broken store, the property that it breaks, and where in the suite that shows soonest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TypeVar

from attrs import frozen

from durable_conformance.properties import Property

__all__ = ["FLAWS", "MODULES", "TWINS", "Flaw", "breaks", "load"]

T = TypeVar("T")
MODULES = ("memory", "sqlite", "postgres")
"""Those beside this file that have broken stores."""
TWINS = ("memory:Twin", "memory:TwinWithAClock", "sqlite:Twin", "postgres:Twin")
"""The same layers without a mistake."""


@frozen
class Flaw:
    """``found_by``: a pytest ``-k`` expression for the part of the suite that is enough to find it."""

    name: str
    spec: str
    what: str
    property: Property
    found_by: str


FLAWS: dict[str, Flaw] = {}


def breaks(property: Property, found_by: str) -> Callable[[type[T]], type[T]]:
    """Above a harness whose docstring says what is wrong with its store."""

    def add(harness: type[T]) -> type[T]:
        module = harness.__module__
        name = f"{module.rpartition('.')[2]}.{harness.__name__}"
        text = " ".join((harness.__doc__ or "").split())
        FLAWS[name] = Flaw(name, f"{module}:{harness.__name__}", text, property, found_by)
        return harness

    return add


def load(modules: Sequence[str] = MODULES) -> dict[str, Flaw]:
    for module in modules:
        import_module(f"durable_conformance.broken.{module}")
    return FLAWS
