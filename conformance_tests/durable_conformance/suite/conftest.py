"""Runs the suite's coroutines, each on a store of its own, and names the property that a failing one breaks."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import Counter

import pytest

from durable_conformance.driver import Driver
from durable_conformance.harness import Harness
from durable_conformance.plugin import CASES
from durable_conformance.properties import proving

PATIENCE_S = 60.0
"""A test that takes longer waits for something that will not come."""


@pytest.fixture
def hub(durable_harness: Harness) -> Driver:
    """The store under test; it is open while the test runs."""
    return Driver(durable_harness)


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> str:
    """What ``--durable-backend`` says."""
    return str(request.node.callspec.params["durable_harness"])


@pytest.fixture
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("durable_profile"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.option.durable_seed)


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    """How long the soak profile tries random programs."""
    return float(request.config.option.durable_minutes)


@pytest.fixture
def dice(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Of this test: what others draw changes nothing."""
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Counter[str]:
    """Count what was tried, for the certificate."""
    counted: Counter[str] = request.node.stash.setdefault(CASES, Counter())
    return counted


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    mark = pyfuncitem.get_closest_marker("durable_property")
    assert mark is not None, "a test of the suite proves a property"
    with proving(*mark.args):
        if inspect.iscoroutinefunction(pyfuncitem.obj):
            driver = arguments["hub"]
            assert isinstance(driver, Driver)
            asyncio.run(_run(pyfuncitem, driver, arguments))
        else:
            pyfuncitem.obj(**arguments)
    return True


async def _run(item: pytest.Function, driver: Driver, arguments: dict[str, object]) -> None:
    await driver.open()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await item.obj(**arguments)
    finally:
        await driver.harness.destroy()
