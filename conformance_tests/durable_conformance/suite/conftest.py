"""Runs the suite's coroutines, each on a store of its own."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from durable_conformance.driver import Driver
from durable_conformance.harness import Harness


@pytest.fixture
def hub(durable_harness: Harness) -> Driver:
    """The store under test; it is open while the test runs."""
    return Driver(durable_harness)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    driver = arguments["hub"]
    assert isinstance(driver, Driver)

    async def run() -> None:
        await driver.open()
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            await driver.harness.destroy()

    asyncio.run(run())
    return True
