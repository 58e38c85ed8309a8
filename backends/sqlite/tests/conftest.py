"""Coroutine tests run in a loop of their own; ``store`` is a file and ``handle`` opens handles on it that the test's end closes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from durable_conformance.driver import Driver, driver_of
from durable_sqlite import SqliteBackend, open_backend


class Handles:
    """Called like ``open_backend`` with the store's URL filled in; opened on return."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[SqliteBackend] = []

    async def __call__(self, query: str = "", **options: Any) -> SqliteBackend:
        backend = open_backend(f"sqlite:///{self.path}{query}", **options)
        await backend.open()
        self.opened.append(backend)
        return backend

    async def close(self) -> None:
        for backend in self.opened:
            await backend.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


@pytest.fixture
def handle(store: Path) -> Handles:
    return Handles(store)


@pytest.fixture
def drive() -> Callable[[SqliteBackend], Awaitable[Driver]]:
    """The conformance kit's driver on a handle."""
    return driver_of


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    handles = pyfuncitem.funcargs.get("handle")

    async def run() -> None:
        try:
            await asyncio.wait_for(test(**arguments), 60)
        finally:
            if isinstance(handles, Handles):
                await handles.close()

    asyncio.run(run())
    return True
