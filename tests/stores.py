"""The stores that tests run on, by name: a new one each time, gone afterwards."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from durable_azure.azurite import shared_azurite
from durable_postgres.testing import drop_hub, fresh_hub

__all__ = ["DURABLE", "STORES", "new_store"]

DURABLE = ("sqlite", "postgres")
"""What outlives its process, and has views that the crash tests ask."""
STORES = ("memory", *DURABLE, "azurite")

_numbers = itertools.count()


@contextmanager
def new_store(name: str, folder: Path) -> Iterator[str]:
    """Its URL."""
    if name == "memory":
        yield f"memory://test-{next(_numbers)}"
    elif name == "sqlite":
        yield f"sqlite:///{folder / 'store.db'}"
    elif name == "azurite":
        yield f"azurite://test-{uuid4().hex}?endpoint={shared_azurite().endpoint}"
    else:
        url = fresh_hub()
        yield url
        asyncio.run(drop_hub(url))
