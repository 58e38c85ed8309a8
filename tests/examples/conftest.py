from __future__ import annotations

from pathlib import Path

import pytest

STORES = {"memory": "memory://", "sqlite": "sqlite:///{folder}/store.db"}
"""Every store that needs no server."""


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store of each kind."""
    return STORES[request.param].format(folder=tmp_path)


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A new store that outlives its engine."""
    return STORES["sqlite"].format(folder=tmp_path)
