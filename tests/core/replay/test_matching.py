"""Code against history: what is a mismatch, what its message says, what stays of the instance, and what changes do no harm.

Each row records a history with one version of an orchestrator and replays it with another version of the same name.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core.definitions.entity import EntityId
from durable_core.definitions.orchestrator import Orchestrator, make_orchestrator
from durable_core.errors import NonDeterminismError
from durable_core.events import (
    CommandCancelled,
    EntitySignaled,
    Event,
    EventSent,
    ExecutionCompleted,
    ExecutionStarted,
    SubOrchestrationStarted,
    TaskScheduled,
    TimerCreated,
)
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.machine import LOGIC_VERSION
from durable_core.replay.matching import Expected
from durable_core.retry import RetryPolicy
from tests.core.replay.driver import START_US, Driven, completed, failed, fired, raised
from tests.core.replay.programs import Counter, child, echo, fail, flaky, seconds, square

KNOWN = (square, echo, fail, flaky, Counter, child)

Code = Callable[[OrchestrationContext], Coroutine[Any, Any, Any]]


def orders(fn: Code) -> Orchestrator[..., Any]:
    """All versions are registered under one name."""
    return make_orchestrator(fn, name="orders")


def recorded(fn: Code, *messages: Any, python: str = "") -> list[Event]:
    with Driven(orders(fn), known=KNOWN, python=python, logic=LOGIC_VERSION) as driven:
        for message in messages:
            driven.apply(message)
        return driven.history


def problem_of(fn: Code, history: Sequence[Event], *, python: str = "") -> NonDeterminismError:
    with Driven(orders(fn), known=KNOWN, history=history, python=python) as driven:
        assert driven.ending is None, "the instance is not destroyed"
        assert isinstance(driven.execution.problem, NonDeterminismError)
        driven.execution.apply(raised("more"))
        with pytest.raises(NonDeterminismError) as problem:
            driven.execution.take_turn()
        assert problem.value is driven.execution.problem
        return problem.value


# ── the versions ──────────────────────────────────────────────────────────────────────────────────────────────────


async def original(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    await ctx.call_activity(echo, "a")
    return "done"


async def another_name(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    await ctx.call_activity(fail, "a")
    return "done"


async def an_extra_call_first(ctx: OrchestrationContext) -> str:
    ctx.call_activity(fail, "new")
    return await original(ctx)


async def an_extra_call_later(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    ctx.call_activity(echo, "a")
    await ctx.call_activity(echo, "new")
    return "done"


async def a_missing_call(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    await ctx.wait_for_external_event("instead")
    return "done"


async def another_order(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(echo, "a")
    await ctx.call_activity(square, 1)
    return "done"


async def a_timer_instead(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    await ctx.create_timer(seconds(1))
    return "done"


async def a_child_instead(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    await ctx.call_sub_orchestrator(child, 1)
    return "done"


async def an_earlier_end(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    return "done"


async def an_exception(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(square, 1)
    raise LookupError("no such order")


async def a_generation(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(square, 1)
    ctx.continue_as_new()


MISMATCHES: list[tuple[Code, list[Any], int | None, str, str]] = [
    # code, messages of the original, position, what the history says, what the code does
    (another_name, [completed(1, 1)], 3, "activity 'echo' (call 2)", "asked for activity 'fail' (call 2)"),
    (an_extra_call_first, [], 1, "activity 'square' (call 1)", "asked for activity 'fail' (call 1)"),
    (an_extra_call_later, [completed(1, 1)], None, "it asked for nothing more", "asked for activity 'echo' (call 3)"),
    (a_missing_call, [completed(1, 1)], 3, "activity 'echo' (call 2)", "did not"),
    (another_order, [], 1, "activity 'square' (call 1)", "asked for activity 'echo' (call 1)"),
    (a_timer_instead, [completed(1, 1)], 3, "activity 'echo' (call 2)", "asked for timer 1"),
    (a_child_instead, [completed(1, 1)], 3, "activity 'echo' (call 2)", "asked for sub-orchestration 'child' as 'x1:0001' (child 1)"),
    (an_earlier_end, [completed(1, 1)], 3, "activity 'echo' (call 2)", "ended with a return"),
    (an_exception, [completed(1, 1)], 3, "activity 'echo' (call 2)", "ended with the exception LookupError: no such order at "),
    (a_generation, [completed(1, 1)], 3, "activity 'echo' (call 2)", "ended with continue_as_new"),
    (
        an_exception,
        [completed(1, 1), completed(2, "a")],
        3,
        "activity 'echo' (call 2)",
        "ended with the exception LookupError: no such order at ",
    ),
]


@pytest.mark.parametrize(("code", "messages", "position", "says", "asks"), MISMATCHES, ids=lambda value: getattr(value, "__name__", None))
def test_a_mismatch_says_what_and_where(code: Code, messages: list[Any], position: int | None, says: str, asks: str) -> None:
    text = str(problem_of(code, recorded(original, *messages)))
    where = f"At history event {position} the history says it asked for {says}, but" if position is not None else f"the history says {says}"
    assert where in text, text
    assert f"but now the code {asks}" in text, text
    for piece in ("orchestrator 'orders' of instance 'order-7'", "the code was changed", "set of strings", "wall clock", "nothing is lost"):
        assert piece in text, text
    if asks.startswith("asked for ") or code is an_exception:
        lines, first = inspect.getsourcelines(code)
        numbers = [first + offset for offset in range(len(lines))]
        assert any(f"{__file__}:{number} in {code.__name__}" in text for number in numbers), text


def test_the_line_is_the_one_that_asked() -> None:
    text = str(problem_of(another_name, recorded(original, completed(1, 1))))
    _, first = inspect.getsourcelines(another_name)
    assert f"{__file__}:{first + 2} in another_name" in text


def test_the_line_is_not_invented_when_no_code_of_the_user_runs() -> None:
    """A retry asks for its next attempt when the failure arrives: the host's frames above it are not to blame."""

    async def retried(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(flaky, 9, "x", retry=RetryPolicy(first_retry_interval=timedelta(0)))

    async def waits_longer(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(flaky, 9, "x", retry=RetryPolicy(first_retry_interval=seconds(1)))

    text = str(problem_of(waits_longer, recorded(retried, failed(1))))
    assert "asked for timer 1 (a create_timer, sleep or timeout) at the retry, timeout or cancellation of an earlier call" in text


def test_the_line_is_the_users_also_when_a_library_asked() -> None:
    namespace: dict[str, Any] = {"__name__": "some_library"}
    source = "def call(ctx, activity, argument):\n    return ctx.call_activity(activity, argument)\n"
    exec(compile(source, "/venv/lib/python3.13/site-packages/some_library.py", "exec"), namespace)  # noqa: S102

    async def through_a_library(ctx: OrchestrationContext) -> None:
        await namespace["call"](ctx, echo, "a")

    text = str(problem_of(through_a_library, recorded(original)))
    assert f"{__file__}:" in text
    assert ".through_a_library" in text
    assert "some_library" not in text


def test_a_child_under_another_id() -> None:
    async def before(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(child, 1, instance_id="first")

    async def after(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(child, 1, instance_id="second")

    text = str(problem_of(after, recorded(before)))
    assert "the history says it asked for sub-orchestration 'child' as 'first' (child 1)" in text
    assert "asked for sub-orchestration 'child' as 'second' (child 1)" in text


@pytest.mark.parametrize(
    ("before", "after", "says", "asks"),
    [
        (
            lambda ctx: ctx.call_entity(EntityId("counter", "a"), "get"),
            lambda ctx: ctx.call_entity(EntityId("counter", "b"), "get"),
            "@counter@a.get (call 1)",
            "@counter@b.get (call 1)",
        ),
        (
            lambda ctx: ctx.call_entity(EntityId("counter", "a"), "get"),
            lambda ctx: ctx.call_entity(EntityId("counter", "a"), "add", 1),
            "@counter@a.get (call 1)",
            "@counter@a.add (call 1)",
        ),
        (
            lambda ctx: ctx.call_entity(EntityId("counter", "a"), "get"),
            lambda ctx: ctx.signal_entity(EntityId("counter", "a"), "get"),
            "@counter@a.get (call 1)",
            "@counter@a.get (call 1)",
        ),
        (
            lambda ctx: ctx.send_event("other", "go"),
            lambda ctx: ctx.send_event("another", "go"),
            "event 'go' to 'other' (call 1)",
            "event 'go' to 'another' (call 1)",
        ),
        (lambda ctx: ctx.call_activity(square, 1).cancel(), lambda ctx: ctx.call_activity(square, 1), "cancelling task 1", "did not"),
        (lambda ctx: _two_calls(ctx)[0].cancel(), lambda ctx: _two_calls(ctx)[1].cancel(), "cancelling task 1", "cancelling task 2"),
    ],
)
def test_entities_events_and_cancellations_are_matched(
    before: Callable[[OrchestrationContext], object], after: Callable[[OrchestrationContext], object], says: str, asks: str
) -> None:
    async def old(ctx: OrchestrationContext) -> None:
        before(ctx)
        await ctx.wait_for_external_event("go")

    async def new(ctx: OrchestrationContext) -> None:
        after(ctx)
        await ctx.wait_for_external_event("go")

    history, _, code = str(problem_of(new, recorded(old))).partition("but now the code")
    assert says in history
    assert asks in code


def _two_calls(ctx: OrchestrationContext) -> list[Any]:
    return [ctx.call_activity(square, i) for i in range(2)]


def test_iteration_over_a_set_of_strings() -> None:
    """Two processes with different hash seeds, played by two orders."""
    current: list[str] = []

    async def over_a_set(ctx: OrchestrationContext) -> None:
        for name in current:
            ctx.call_activity(name, 1)
        await ctx.wait_for_external_event("go")

    current = ["red", "blue"]
    history = recorded(over_a_set)
    current = ["blue", "red"]
    assert "iteration over a set of strings" in str(problem_of(over_a_set, history))


def test_another_python_is_named_first_among_the_causes() -> None:
    history = recorded(original, completed(1, 1), python="3.11")
    here = str(problem_of(another_name, history, python="3.11"))
    there = str(problem_of(another_name, history, python="3.13"))
    assert "recorded on Python" not in here
    causes = there.partition("Likely causes: ")[2]
    assert causes.startswith(
        f"the history was recorded on Python 3.11 (engine logic {LOGIC_VERSION}) and this is Python 3.13 (engine logic {LOGIC_VERSION})"
    )


def test_another_logic_of_the_engine_is_named_too() -> None:
    history = recorded(original, completed(1, 1), python="3.11")
    started = history[0]
    assert isinstance(started, ExecutionStarted)
    history[0] = replace(started, logic=LOGIC_VERSION + 1)
    assert f"engine logic {LOGIC_VERSION + 1}" in str(problem_of(another_name, history, python="3.11"))


def test_another_python_may_replay() -> None:
    history = recorded(original, completed(1, 1), python="3.11")
    with Driven(orders(original), known=KNOWN, history=history, python="3.13") as driven:
        driven.apply(completed(2, "a"))
        assert driven.result == "done"


def test_after_a_mismatch_the_old_code_goes_on_as_if_nothing_had_happened() -> None:
    history = recorded(original, completed(1, 1))
    problem_of(another_name, history)
    with Driven(orders(original), known=KNOWN, history=history) as driven:
        driven.apply(completed(2, "a"))
        assert driven.result == "done"


def test_a_mismatch_at_the_end_is_one_too() -> None:
    history = recorded(original, completed(1, 1), completed(2, "a"))
    assert isinstance(history[-1], ExecutionCompleted)

    async def goes_on(ctx: OrchestrationContext) -> None:
        await original(ctx)
        await ctx.wait_for_external_event("more")

    text = str(problem_of(goes_on, history))
    assert "history event 5 the history says it ended with a return, but now the code did not" in text


# ── what does no harm ─────────────────────────────────────────────────────────────────────────────────────────────


async def before(ctx: OrchestrationContext) -> str:
    await ctx.call_activity(echo, "a", tags={"team": "red"})
    await asyncio.sleep(60)
    ctx.send_event("other", "go", 1)
    ctx.signal_entity(EntityId("counter", "e"), "add", 1)
    await ctx.call_sub_orchestrator(child, 1)
    return "before"


async def after(ctx: OrchestrationContext) -> str:
    """Other payloads, tags, due times and results; a new status; an event awaited that was not."""
    ctx.set_custom_status("new")
    ctx.logger.info("new")
    await ctx.call_activity(echo, "b")
    await ctx.create_timer(seconds(5))
    ctx.send_event("other", "go", 2)
    ctx.signal_entity(EntityId("counter", "e"), "add", 2)
    await ctx.call_sub_orchestrator(child, 2)
    return "after"


def test_other_payloads_and_due_times_are_accepted_and_the_history_stays_as_it_is() -> None:
    history = recorded(before, completed(1, "a"), fired(1, 60))
    with Driven(orders(after), known=KNOWN, history=history) as driven:
        assert driven.execution.problem is None
        assert driven.history == history
        assert driven.turn.events == ()


def test_the_order_among_kinds_is_free_and_within_a_kind_it_is_not() -> None:
    """asyncio's own order of a timer and a call differs from version to version (3.11 and 3.12: ``wait_for``)."""

    async def one_way(ctx: OrchestrationContext) -> None:
        ctx.create_timer(seconds(1))
        ctx.call_activity(square, 1)
        ctx.signal_entity(EntityId("counter", "e"), "add", 1)
        await ctx.call_sub_orchestrator(child, 1)

    async def the_other_way(ctx: OrchestrationContext) -> None:
        call = ctx.call_sub_orchestrator(child, 1)
        ctx.signal_entity(EntityId("counter", "e"), "add", 1)
        ctx.call_activity(square, 1)
        ctx.create_timer(seconds(1))
        await call

    with Driven(orders(the_other_way), known=KNOWN, history=recorded(one_way)) as driven:
        assert driven.execution.problem is None


def test_wait_for_of_another_python_replays() -> None:
    """3.11 and 3.12 ask for the timer and the call in different orders. Played by hand here; tools/matrix.py does it for real."""

    async def waits(ctx: OrchestrationContext) -> str:
        try:
            return await asyncio.wait_for(ctx.call_activity(echo, "x"), 5)
        except TimeoutError:
            return "late"

    history = recorded(waits, fired(1, 5))
    start, commands = history[0], history[1:3]
    assert {type(command) for command in commands} == {TaskScheduled, TimerCreated}
    for swapped in (commands, commands[::-1]):
        with Driven(orders(waits), known=KNOWN, history=[start, *swapped, *history[3:]]) as driven:
            assert driven.result == "late"


def test_the_commands_of_one_message_cannot_stand_in_for_those_of_another() -> None:
    async def two(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(square, 1)
        await ctx.call_activity(square, 2)

    async def both_at_once(ctx: OrchestrationContext) -> None:
        await asyncio.gather(ctx.call_activity(square, 1), ctx.call_activity(square, 2))

    assert "asked for activity 'square' (call 2)" in str(problem_of(both_at_once, recorded(two, completed(1, 1))))


def test_expected_takes_in_order_and_names_what_is_left() -> None:
    expected = Expected()
    for position, command in enumerate([TimerCreated(1, 5), TaskScheduled(1, "a", None, 0), TaskScheduled(2, "b", None, 0)], 4):
        expected.add(position, command)
    assert expected.first() == (4, TimerCreated(1, 5))
    assert expected.take(TaskScheduled(1, "a", "7", 1)) == (5, TaskScheduled(1, "a", None, 0))
    assert expected.take(TimerCreated(1, 99)) == (4, TimerCreated(1, 5))
    assert expected.take(EntitySignaled(1, "@e@k", "add", None, 0)) == (6, TaskScheduled(2, "b", None, 0))
    assert expected.take(TaskScheduled(2, "c", None, 0)) == (6, TaskScheduled(2, "b", None, 0))
    assert expected.first() is None
    assert expected.take(EventSent(1, "i", "n", None)) == (None, None)


def test_cancellations_are_matched_apart_from_what_they_cancel() -> None:
    """asyncio's own order of a cancellation and what follows it may differ from version to version."""

    async def one_way(ctx: OrchestrationContext) -> None:
        call, timer = ctx.call_activity(square, 1), ctx.create_timer(seconds(1))
        await asyncio.sleep(0)
        call.cancel()
        timer.cancel()
        ctx.call_activity(square, 2)
        ctx.create_timer(seconds(2))
        await ctx.wait_for_external_event("go")

    async def the_other_way(ctx: OrchestrationContext) -> None:
        call, timer = ctx.call_activity(square, 1), ctx.create_timer(seconds(1))
        ctx.create_timer(seconds(2))
        ctx.call_activity(square, 2)
        timer.cancel()
        call.cancel()
        await ctx.wait_for_external_event("go")

    history = recorded(one_way)
    assert CommandCancelled("task", 1) in history
    with Driven(orders(the_other_way), known=KNOWN, history=history) as driven:
        assert driven.execution.problem is None


def test_the_start_of_a_child_is_matched_by_its_derived_id() -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(child, 1)

    history = recorded(calling)
    assert history[1] == SubOrchestrationStarted(1, "child", "x1:0001", "1", 1)
    assert history[0] == ExecutionStarted("orders", None, 0, at_us=START_US, logic=LOGIC_VERSION)
    driven = Driven(orders(calling), known=KNOWN, start=False, execution_id="x2")
    list(driven.execution.replay(history))
    assert "as 'x2:0001'" in str(driven.execution.problem)
    driven.execution.close()
