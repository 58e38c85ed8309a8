"""The engine on a real store, in this process. Each test runs on memory and on SQLite."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

_names = itertools.count()
Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://runtime-{next(_names)}"
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def run() -> Run:
    """Run an async function to its end, at most a minute."""

    def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await main()

        return asyncio.run(bounded())

    return run
