"""The suite fails every broken store and names the promise that it breaks; the unbroken twins pass."""

from __future__ import annotations

import pytest

from durable_conformance.broken.flaw import TWINS, Flaw, load
from durable_conformance.properties import Property
from durable_conformance.teeth import bite, pass_over

FLAWS = load()


@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
def test_a_broken_store_is_caught_by_name(flaw: Flaw) -> None:
    found = bite(flaw)
    assert found.caught, f"{flaw.what} The failing assertions named {found.named or 'nothing'}."


@pytest.mark.parametrize("twin", TWINS)
def test_an_unbroken_twin_passes(twin: str) -> None:
    assert pass_over(twin).named == ()


def test_every_property_has_a_broken_store() -> None:
    assert {flaw.property for flaw in FLAWS.values()} == set(Property)
