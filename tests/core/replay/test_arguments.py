"""Arguments against history: calls that changed places are told, arguments that were merely changed are warned of."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_core.converter import JsonConverter
from durable_core.definitions.entity import EntityId
from durable_core.definitions.orchestrator import make_orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import NonDeterminismError
from durable_core.events import Event, TaskScheduled
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.machine import Execution
from durable_core.retry import RetryPolicy
from tests.core.replay.driver import Driven, completed, failed, fired
from tests.core.replay.programs import child, echo, flaky, square
from tests.core.replay.test_matching import KNOWN, Code, orders, problem_of, recorded

PLACES = "calls have changed places"


def warnings_of(code: Code, history: Sequence[Event], caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING), Driven(orders(code), known=KNOWN, history=list(history)) as driven:
        assert driven.execution.problem is None, driven.execution.problem
    return [record.getMessage() for record in caplog.records]


# ── places ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def both(ctx: OrchestrationContext) -> tuple[str, str]:
    return await asyncio.gather(ctx.call_activity(echo, "EUR"), ctx.call_activity(echo, "USD"))


async def both_swapped(ctx: OrchestrationContext) -> tuple[str, str]:
    usd, eur = ctx.call_activity(echo, "USD"), ctx.call_activity(echo, "EUR")
    return await asyncio.gather(eur, usd)


async def in_turn(ctx: OrchestrationContext) -> list[str]:
    return [await ctx.call_activity(echo, "EUR"), await ctx.call_activity(echo, "USD")]


async def in_turn_swapped(ctx: OrchestrationContext) -> list[str]:
    usd = await ctx.call_activity(echo, "USD")
    return [await ctx.call_activity(echo, "EUR"), usd]


def test_two_calls_of_one_turn_that_changed_places_are_told() -> None:
    for answers in ([], [completed(2, "2 USD")]):
        text = str(problem_of(both_swapped, recorded(both, *answers)))
        for piece in (PLACES, "history event 1", '"EUR"', '"USD"', "call 2", "in both_swapped"):
            assert piece in text, text


def test_two_calls_of_different_turns_that_changed_places_are_told() -> None:
    assert PLACES in str(problem_of(in_turn_swapped, recorded(in_turn, completed(1, "1 EUR"))))


def test_the_second_of_them_may_come_after_the_history(caplog: pytest.LogCaptureFixture) -> None:
    """When only one of the two is in the history, it looks like a changed argument until the other one is asked for."""
    history = recorded(in_turn)
    with Driven(orders(in_turn_swapped), known=KNOWN, history=history) as driven:
        assert driven.execution.problem is None
        driven.execution.apply(completed(1, "1 EUR"))
        with pytest.raises(NonDeterminismError, match=f"the history has this for activity 'echo' .call 1.: {PLACES}"):
            driven.execution.take_turn()


async def children(ctx: OrchestrationContext) -> None:
    await asyncio.gather(ctx.call_sub_orchestrator(child, 1), ctx.call_sub_orchestrator(child, 2))


async def children_swapped(ctx: OrchestrationContext) -> None:
    await asyncio.gather(ctx.call_sub_orchestrator(child, 2), ctx.call_sub_orchestrator(child, 1))


ACCOUNT = EntityId("counter", "e")


async def operations(ctx: OrchestrationContext) -> None:
    await asyncio.gather(ctx.call_entity(ACCOUNT, "add", 1), ctx.call_entity(ACCOUNT, "add", 2))


async def operations_swapped(ctx: OrchestrationContext) -> None:
    await asyncio.gather(ctx.call_entity(ACCOUNT, "add", 2), ctx.call_entity(ACCOUNT, "add", 1))


async def signals(ctx: OrchestrationContext) -> None:
    ctx.signal_entity(ACCOUNT, "add", 1)
    ctx.signal_entity(ACCOUNT, "add", 2)
    await ctx.wait_for_external_event("go")


async def signals_swapped(ctx: OrchestrationContext) -> None:
    ctx.signal_entity(ACCOUNT, "add", 2)
    ctx.signal_entity(ACCOUNT, "add", 1)
    await ctx.wait_for_external_event("go")


async def sent(ctx: OrchestrationContext) -> None:
    ctx.send_event("other", "go", 1)
    ctx.send_event("other", "go", 2)
    await ctx.wait_for_external_event("go")


async def sent_swapped(ctx: OrchestrationContext) -> None:
    ctx.send_event("other", "go", 2)
    ctx.send_event("other", "go", 1)
    await ctx.wait_for_external_event("go")


async def timers(ctx: OrchestrationContext) -> None:
    await asyncio.gather(asyncio.sleep(10), asyncio.sleep(20))


async def timers_swapped(ctx: OrchestrationContext) -> None:
    await asyncio.gather(asyncio.sleep(20), asyncio.sleep(10))


async def locks(ctx: OrchestrationContext) -> None:
    async with ctx.lock_entities(EntityId("counter", "a"), EntityId("counter", "b")):
        pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (children, children_swapped),
        (operations, operations_swapped),
        (signals, signals_swapped),
        (sent, sent_swapped),
        (timers, timers_swapped),
    ],
    ids=lambda code: code.__name__,
)
def test_commands_of_every_kind_that_changed_places_are_told(old: Code, new: Code) -> None:
    assert PLACES in str(problem_of(new, recorded(old)))


# ── what does no harm ─────────────────────────────────────────────────────────────────────────────────────────────


async def changed(ctx: OrchestrationContext) -> tuple[str, str]:
    return await asyncio.gather(ctx.call_activity(echo, "EUR and more of it, with a long tail of secrets"), ctx.call_activity(echo, "GBP"))


def test_changed_arguments_are_warned_of_once_and_little_of_them_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    [warning] = warnings_of(changed, recorded(both), caplog)
    for piece in ("orchestrator 'orders' of 'order-7'", "activity 'echo' (call 1)", '"EUR"', "and its code now asks for it", "in changed"):
        assert piece in warning, warning
    assert "secrets" not in warning
    assert "GBP" not in warning


async def longer(ctx: OrchestrationContext) -> None:
    await asyncio.gather(asyncio.sleep(10), asyncio.sleep(30))


def test_a_changed_due_time_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    [warning] = warnings_of(longer, recorded(timers), caplog)
    assert "timer 2" in warning
    assert "for 2023-11-14 22:13:40+00:00, and its code now asks for it for 2023-11-14 22:13:50+00:00" in warning


async def with_a_default(ctx: OrchestrationContext) -> None:
    await ctx.call_activity("greet", "Ada", "Dear")


async def without(ctx: OrchestrationContext) -> None:
    await ctx.call_activity("greet", "Ada")


def test_a_parameter_more_is_a_change_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    assert len(warnings_of(with_a_default, recorded(without), caplog)) == 1


async def repeats(ctx: OrchestrationContext) -> None:
    policy = RetryPolicy(max_number_of_attempts=3, first_retry_interval=timedelta(0))
    for _ in range(3):
        await asyncio.gather(*(ctx.call_activity(echo, "same") for _ in range(2)))
    await asyncio.gather(*(ctx.call_activity(flaky, 2, name, retry=policy) for name in "aab"))


def test_calls_with_equal_arguments_and_retries_confuse_nobody(caplog: pytest.LogCaptureFixture) -> None:
    messages = [*(completed(number, "same") for number in range(1, 7)), failed(7), failed(9), failed(8), failed(10), completed(12, "a")]
    history = recorded(repeats, *messages)
    assert [event.attempt for event in history if isinstance(event, TaskScheduled)][6:] == [1, 1, 1, 2, 2, 2, 3]
    assert warnings_of(repeats, history, caplog) == []


def test_unchanged_code_is_warned_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for code in (both, in_turn, children, operations, signals, sent, timers, locks):
        assert warnings_of(code, recorded(code), caplog) == []


async def loops(ctx: OrchestrationContext) -> None:
    for number in itertools.count():
        await ctx.call_activity(square, number % 2)
        await asyncio.sleep(5)


def test_timers_of_other_messages_are_no_places(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that sleeps longer now may meet a time at which another turn's timer was due."""

    async def sleeps_longer(ctx: OrchestrationContext) -> None:
        for number in itertools.count():
            await ctx.call_activity(square, number % 2)
            await asyncio.sleep(10)

    history = recorded(loops, completed(1, 0), fired(1, 5), completed(2, 1, 5), fired(2, 10))
    assert len(warnings_of(sleeps_longer, history, caplog)) == 1


# ── converters ────────────────────────────────────────────────────────────────────────────────────────────────────


class Salted:
    """Another text each time, as an encryption gives."""

    def __init__(self) -> None:
        self._json = JsonConverter()
        self._salts = itertools.count()
        self.readable = True

    def encode(self, value: Any, type_hint: Any) -> str:
        return json.dumps([next(self._salts), self._json.encode(value, type_hint)])

    def decode(self, text: str, type_hint: Any) -> Any:
        if not self.readable:
            raise ValueError("the key was lost")
        return self._json.decode(json.loads(text)[1], type_hint)


def replayed_with(converter: Salted, code: Code, history: list[Event]) -> Execution:
    registry = Registry(converter)
    definition = registry.add(make_orchestrator(code, name="orders"))
    for known in KNOWN:
        registry.add(known)
    execution = Execution(registry.orchestrators[definition.name], registry, "order-7", "x1")
    if not history:
        return execution
    for _ in execution.replay(history):
        pass
    execution.close()
    return execution


def test_a_converter_that_never_gives_the_same_text_is_compared_by_value(caplog: pytest.LogCaptureFixture) -> None:
    converter = Salted()
    live = replayed_with(converter, both, [])
    live.apply(recorded(both)[0])  # type: ignore[arg-type]
    history = list(live.take_turn().events)
    live.close()
    assert replayed_with(converter, both, history).problem is None
    assert not caplog.records
    assert PLACES in str(replayed_with(converter, both_swapped, history).problem)
    converter.readable = False
    assert replayed_with(converter, both_swapped, history).problem is None, "what cannot be read is not compared"
    assert not caplog.records
