"""Fakes: what may take the place of an activity, and that nothing of it is left afterwards."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from durable_core import (
    ActivityContext,
    DurableEngine,
    EngineStateError,
    NotRegisteredError,
    OrchestrationContext,
    OrchestrationFailedError,
    RegistrationError,
    orchestrator,
)
from durable_core.testing import Environment
from tests.testing import programs
from tests.testing.programs import HOUR, charge_card, engine, send_mail
from tests.testing.running import in_a_loop


async def with_context(ctx: ActivityContext, customer: str, cents: int = 100) -> str:
    return f"{ctx.name} {ctx.attempt} {customer} {cents}"


@pytest.mark.parametrize("key", [charge_card, charge_card.fn, "charge_card"], ids=["activity", "function", "name"])
@pytest.mark.parametrize(
    ("fake", "expected"),
    [
        (lambda *args: f"sync {args}", "sync ('ada',)"),
        (with_context, "charge_card 1 ada 100"),
        (Mock(return_value="mocked"), "mocked"),
        (AsyncMock(return_value="awaited"), "awaited"),
    ],
    ids=["sync", "async with context", "mock", "async mock"],
)
@in_a_loop
async def test_what_may_be_a_fake_and_by_what_it_is_named(key: Any, fake: Any, expected: str) -> None:
    async with engine.testing(activities={key: fake}) as env:
        assert await (await env.client.schedule_new_orchestration(programs.careful)).result() == expected


@in_a_loop
async def test_a_sync_fake_runs_on_the_event_loop_thread() -> None:
    here = threading.get_ident()
    sync_fake = Mock(side_effect=lambda to: threading.get_ident() == here)
    async with engine.testing(activities={charge_card: lambda *args: "paid", send_mail: sync_fake}) as env:
        assert await (await env.client.schedule_new_orchestration(programs.subscription, "ada")).result() == "paid"
    sync_fake.assert_called_once_with("ada")


@engine.testing(activities={charge_card: Mock(side_effect=ConnectionError("no line"))})
async def test_a_fake_that_raises(env: Environment) -> None:
    assert await (await env.client.schedule_new_orchestration(programs.careful)).result() == "ConnectionError: no line"


@engine.testing(activities={charge_card: lambda *args: 42})
async def test_the_result_of_a_fake_is_held_to_the_type_of_the_real_one(env: Environment) -> None:
    failed = await (await env.client.schedule_new_orchestration(programs.careful)).result()
    assert failed.startswith("durable_core.errors.PayloadError: the result of activity 'charge_card'")


@in_a_loop
async def test_a_fake_that_takes_two_hours() -> None:
    async def slow(customer: str, cents: int = 100) -> str:
        await env.sleep(2 * HOUR)
        return "at last"

    async with engine.testing(activities={charge_card: slow}) as env:
        began = env.now
        assert await (await env.client.schedule_new_orchestration(programs.impatient)).result() == "too slow"
        assert env.now == began + HOUR
        handle = await env.client.schedule_new_orchestration(programs.careful)
        await env.advance(HOUR)
        state = await handle.state()
        assert state is not None
        assert not state.is_ended
        assert await handle.result() == "at last"
        assert env.now == began + 3 * HOUR


@in_a_loop
async def test_a_fake_that_never_ends_does_not_hold_up_the_end() -> None:
    async def endless(customer: str, cents: int = 100) -> str:
        await env.sleep(1000 * HOUR)
        return "never"

    async with engine.testing(activities={charge_card: endless}) as env:
        await env.client.schedule_new_orchestration(programs.careful)
        await env.advance(HOUR)
        closing = time.monotonic()
    assert time.monotonic() - closing < 5


@in_a_loop
async def test_an_activity_may_not_advance_the_time_that_stands_still_for_it() -> None:
    async def fake(*args: object) -> str:
        await env.advance(HOUR)
        return "no"

    async with engine.testing(activities={charge_card: fake}) as env:
        assert "env.sleep" in await (await env.client.schedule_new_orchestration(programs.careful)).result()


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def not_an_activity() -> None: ...


@pytest.mark.parametrize(
    ("key", "fake", "error", "says"),
    [
        ("charge_cart", lambda *args: "", NotRegisteredError, "no activity 'charge_cart'.*charge_card, send_mail"),
        (not_an_activity, lambda *args: "", NotRegisteredError, "not_an_activity"),
        (programs.subscription, lambda *args: "", NotRegisteredError, "subscription"),
        (charge_card, "paid", RegistrationError, r"must be a function, got 'paid'; write: lambda \*args: 'paid'"),
        (charge_card, lambda: "", RegistrationError, r"must take its arguments, \(customer: 'str', cents: 'int' = 100\)"),
        (charge_card, lambda customer: "", RegistrationError, "too many"),
        (charge_card, lambda customer, cents: "", RegistrationError, "missing a required argument: 'cents'"),
    ],
)
@in_a_loop
async def test_a_fake_that_fits_nothing_is_refused(key: Any, fake: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        async with engine.testing(activities={key: fake}):
            pytest.fail("it was taken")
    async with engine.testing():  # the engine is free again
        pass


# ── before and after ─────────────────────────────────────────────────────────────────────────────────────────────


@in_a_loop
async def test_fakes_do_not_leak() -> None:
    fake = Mock(return_value="faked")
    async with engine.testing(activities={charge_card: fake}) as env:
        assert await (await env.client.schedule_new_orchestration(programs.careful, instance_id="one")).result() == "faked"
    async with engine.testing(activities={charge_card: lambda *args: "other"}) as env:
        assert await env.client.get_instance("one") is None
        assert await (await env.client.schedule_new_orchestration(programs.careful)).result() == "other"
    async with engine.open("memory://"):
        result = await (await engine.client.schedule_new_orchestration(programs.careful)).result()
        assert "a test must not charge a card" in result
        with pytest.raises(TimeoutError):  # and time is real again
            await (await engine.client.schedule_new_orchestration(programs.moments, [1.0])).result(timeout=HOUR / 36_000)
    fake.assert_called_once()


@in_a_loop
async def test_code_under_test_finds_the_client_where_it_looks_for_it() -> None:
    async with engine.testing() as env:
        assert engine.client is env.client
        with pytest.raises(EngineStateError):
            async with engine.open("memory://"):
                pytest.fail("it was open twice")
    with pytest.raises(EngineStateError):
        _ = engine.client


@in_a_loop
async def test_what_is_defined_meanwhile_stays_defined() -> None:
    engine = DurableEngine()
    async with engine.testing():
        engine.register(defined_late)
    async with engine.testing() as env:
        with pytest.raises(OrchestrationFailedError, match="late"):
            await (await env.client.schedule_new_orchestration(defined_late)).result()


@orchestrator
async def defined_late(ctx: OrchestrationContext) -> None:
    raise ValueError("late")
