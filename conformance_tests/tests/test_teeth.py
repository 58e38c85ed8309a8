"""The suite fails every broken store and names the promise that it breaks; the unbroken twins pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from durable_conformance.broken.flaw import TWINS, Flaw, load
from durable_conformance.properties import Property
from durable_conformance.teeth import Bite, bite, pass_over

FLAWS = load()


@pytest.fixture(scope="module")
def bites(begin: Callable[..., dict[str, Future[Any]]]) -> dict[str, Future[Bite]]:
    """By the name of a flaw or a twin."""
    return begin("test_an_unbroken_twin_passes", pass_over) | begin("test_a_broken_store_is_caught_by_name", bite)  # the longest first


@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
def test_a_broken_store_is_caught_by_name(bites: dict[str, Future[Bite]], flaw: Flaw) -> None:
    found = bites[flaw.name].result()
    assert found.caught, f"{flaw.what} The failing assertions named {found.named or 'nothing'}."


@pytest.mark.parametrize("twin", TWINS)
def test_an_unbroken_twin_passes(bites: dict[str, Future[Bite]], twin: str) -> None:
    assert bites[twin].result().named == ()


def test_every_property_has_a_broken_store() -> None:
    assert {flaw.property for flaw in FLAWS.values()} == set(Property)
