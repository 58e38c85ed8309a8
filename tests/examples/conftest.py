from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import DURABLE, STORES, new_store


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new store of each kind."""
    with new_store(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def file_url(tmp_path: Path) -> Iterator[str]:
    """A new store in a file."""
    with new_store("sqlite", tmp_path) as url:
        yield url


@pytest.fixture(params=DURABLE)
def durable_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new store of each kind that outlives its engine."""
    with new_store(request.param, tmp_path) as url:
        yield url
