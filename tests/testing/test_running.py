"""Ways to get an environment: a block, a decorator, a fixture of any runner."""

from __future__ import annotations

import asyncio
import inspect
import unittest
from datetime import datetime
from pathlib import Path

import pytest

from durable_core import EngineStateError
from durable_core.testing import Environment
from tests.testing import programs
from tests.testing.programs import HOUR, engine
from tests.testing.running import in_a_loop


@engine.testing(activities={"charge_card": lambda *args: "paid"})
async def test_a_decorated_test_may_use_fixtures(env: Environment, tmp_path: Path) -> None:
    assert tmp_path.name
    assert await (await env.client.schedule_new_orchestration(programs.careful)).result() == "paid"


def test_a_decorated_test_shows_what_it_still_needs() -> None:
    @engine.testing()
    async def test(a: int, env: Environment, b: int = 0) -> None: ...

    assert list(inspect.signature(test).parameters) == ["a", "b"]
    assert not inspect.iscoroutinefunction(test)


class TestMethods(unittest.TestCase):
    @engine.testing()
    async def test_methods_can_be_decorated(self, env: Environment) -> None:
        began = env.now
        await env.advance(HOUR)
        assert env.now == began + HOUR
        assert isinstance(self, TestMethods)


@engine.testing()
async def raises(env: Environment) -> None:
    raise ZeroDivisionError


def test_a_decorated_test_fails_as_it_would_bare_and_may_run_again() -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            raises()


@in_a_loop
async def test_it_may_be_opened_and_closed_in_different_tasks() -> None:
    """As fixtures of async runners do."""
    testing = engine.testing()
    env = await asyncio.create_task(testing.__aenter__())
    assert await (await env.client.schedule_new_orchestration(programs.moments, [1.0])).result() == [1.0]
    await asyncio.create_task(testing.__aexit__(None, None, None))
    with pytest.raises(EngineStateError):
        await env.client.get_instance("x")


@in_a_loop
async def test_the_beginning_must_be_aware() -> None:
    with pytest.raises(ValueError, match="naive"):
        engine.testing(now=datetime(2030, 1, 1))  # noqa: DTZ001
