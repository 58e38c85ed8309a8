"""The stores that tests run on, by name: a new one each time, gone afterwards."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from durable_postgres.testing import drop_hub, fresh_hub

__all__ = ["DURABLE", "STORES", "new_store"]

DURABLE = ("sqlite", "postgres")
"""What outlives its process."""
STORES = ("memory", *DURABLE)

_numbers = itertools.count()


@contextmanager
def new_store(name: str, folder: Path) -> Iterator[str]:
    """Its URL."""
    if name == "memory":
        yield f"memory://test-{next(_numbers)}"
    elif name == "sqlite":
        yield f"sqlite:///{folder / 'store.db'}"
    else:
        url = fresh_hub()
        yield url
        asyncio.run(drop_hub(url))
