"""When a failed call is tried again: the policy's arithmetic, and what an orchestrator sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core.errors import FailureDetails, TaskFailedError, TaskTimeoutError
from durable_core.events import CommandCancelled, SubOrchestrationFailed, SubOrchestrationStarted, TaskScheduled, TimerCreated
from durable_core.moments import LATEST_US, microseconds
from durable_core.replay.context import OrchestrationContext
from durable_core.retry import RetryContext, RetryPolicy
from tests.core.replay.driver import SECOND, START_US, Driven, completed, failed, fired
from tests.core.replay.programs import child, echo, flaky, seconds

KNOWN = (flaky, echo, child)

FAILURE = FailureDetails("package.module.Refused", "no", inner=FailureDetails("ConnectionResetError", "reset"))


def delays(policy: RetryPolicy, attempts: int) -> list[float | None]:
    """Seconds before attempts 2, 3, …, if nothing takes any time but the waiting."""
    found: list[float | None] = []
    elapsed_us = 0
    for attempt in range(1, attempts + 1):
        delay_us = policy.delay_us(FAILURE, attempt, elapsed_us)
        found.append(None if delay_us is None else delay_us / SECOND)
        elapsed_us += delay_us or 0
    return found


# ── arithmetic ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(), [1, 1, None]),
        (RetryPolicy(max_number_of_attempts=1), [None]),
        (RetryPolicy(max_number_of_attempts=5, backoff_coefficient=2), [1, 2, 4, 8, None]),
        (RetryPolicy(max_number_of_attempts=5, backoff_coefficient=2, max_retry_interval=seconds(3)), [1, 2, 3, 3, None]),
        (RetryPolicy(max_number_of_attempts=4, backoff_coefficient=1.5, first_retry_interval=seconds(0.1)), [0.1, 0.15, 0.225, None]),
        (RetryPolicy(max_number_of_attempts=4, first_retry_interval=seconds(5), max_retry_interval=seconds(3)), [3, 3, 3, None]),
        (RetryPolicy(max_number_of_attempts=3, first_retry_interval=seconds(0), backoff_coefficient=9), [0, 0, None]),
        (RetryPolicy(max_number_of_attempts=3, max_retry_interval=seconds(0)), [0, 0, None]),
        # no attempt starts later than the retry timeout: 1 + 2 = 3 may, 1 + 2 + 4 may not
        (RetryPolicy(max_number_of_attempts=9, backoff_coefficient=2, retry_timeout=seconds(3)), [1, 2, None]),
        (RetryPolicy(max_number_of_attempts=9, backoff_coefficient=2, retry_timeout=seconds(2.999)), [1, None]),
        (RetryPolicy(max_number_of_attempts=9, retry_timeout=seconds(0)), [None]),
        (RetryPolicy(max_number_of_attempts=9, first_retry_interval=seconds(0), retry_timeout=seconds(0)), [0] * 8 + [None]),
    ],
)
def test_delays(policy: RetryPolicy, expected: list[float | None]) -> None:
    assert delays(policy, len(expected)) == expected


def test_delays_are_exact_to_the_microsecond() -> None:
    policy = RetryPolicy(first_retry_interval=timedelta(days=300, microseconds=1))
    assert policy.delay_us(FAILURE, 1, 0) == 300 * 86_400 * SECOND + 1
    assert microseconds(timedelta.max) == (timedelta.max // timedelta(microseconds=1))
    assert microseconds(timedelta(microseconds=-1)) == -1


@pytest.mark.parametrize(
    ("policy", "attempt", "expected_us"),
    [
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=10), 10**5, LATEST_US),
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=1e300), 2, LATEST_US),
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=float("inf")), 2, LATEST_US),
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=10, max_retry_interval=seconds(60)), 10**5, 60 * SECOND),
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=10, first_retry_interval=seconds(0)), 10**5, 0),
        (RetryPolicy(max_number_of_attempts=10**6, backoff_coefficient=float("inf"), first_retry_interval=seconds(0)), 5, 0),
        (RetryPolicy(first_retry_interval=timedelta.max), 1, LATEST_US),
    ],
)
def test_overflow_is_the_longest_interval(policy: RetryPolicy, attempt: int, expected_us: int) -> None:
    assert policy.delay_us(FAILURE, attempt, 0) == expected_us


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_retry_interval": seconds(-1)},
        {"max_retry_interval": seconds(-1)},
        {"retry_timeout": timedelta(microseconds=-1)},
        {"max_number_of_attempts": 0},
        {"backoff_coefficient": 0.5},
        {"backoff_coefficient": float("nan")},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=f"'{name}' must be >= "):
        RetryPolicy(**wrong)


class Refused(Exception):
    pass


Refused.__module__ = "package.module"


@pytest.mark.parametrize(
    ("kinds", "retried"),
    [
        ((), True),
        ((KeyError, "Refused"), True),
        ((Refused,), False),
        (("package.module.Refused",), False),
        ((ConnectionResetError,), False),  # a cause
        ((KeyError, OSError), False),  # a builtin base of a cause
    ],
)
def test_types_that_are_not_retried(kinds: tuple[type[BaseException] | str, ...], retried: bool) -> None:
    assert (RetryPolicy(non_retriable=kinds).delay_us(FAILURE, 1, 0) is not None) == retried


def test_a_failure_may_say_that_it_is_not_to_be_retried() -> None:
    assert RetryPolicy(handler=lambda _: True).delay_us(FailureDetails("E", "", non_retriable=True), 1, 0) is None


@pytest.mark.parametrize(
    ("answer", "expected_us"),
    [(False, None), (True, 2 * SECOND), (seconds(7), 7 * SECOND), (seconds(0), 0), (seconds(-7), 0), (timedelta(microseconds=1), 1)],
)
def test_a_handler_decides(answer: bool | timedelta, expected_us: int | None) -> None:
    seen: list[RetryContext] = []

    def handler(context: RetryContext) -> bool | timedelta:
        seen.append(context)
        return answer

    policy = RetryPolicy(max_number_of_attempts=9, backoff_coefficient=2, handler=handler)
    assert policy.delay_us(FAILURE, 2, 3_500_000) == expected_us
    assert seen == [RetryContext(FAILURE, 2, seconds(3.5))]


def test_a_handler_is_bound_by_the_number_of_attempts_and_the_retry_timeout() -> None:
    policy = RetryPolicy(max_number_of_attempts=3, retry_timeout=seconds(10), handler=lambda _: seconds(6))
    assert policy.delay_us(FAILURE, 3, 0) is None
    assert policy.delay_us(FAILURE, 2, 4 * SECOND) == 6 * SECOND
    assert policy.delay_us(FAILURE, 2, 5 * SECOND) is None


@pytest.mark.parametrize("answer", [None, 0, 1, 5.0, "yes"])
def test_a_handler_that_answers_something_else_is_an_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="bool or a timedelta"):
        RetryPolicy(handler=lambda _: answer).delay_us(FAILURE, 1, 0)


# ── in an orchestrator ────────────────────────────────────────────────────────────────────────────────────────────


def retrying(policy: RetryPolicy, timeout: timedelta | None = None, *, start: bool = True) -> Driven:
    async def retried(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.call_activity(flaky, 9, "x", retry=policy, timeout=timeout)
        except TaskTimeoutError as error:
            return f"timeout: {error}"
        except TaskFailedError as error:
            return f"failed at call {error.task_id} {error.name}: {error.details.message}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    return Driven(retried, known=KNOWN, start=start)


def test_every_attempt_waits_its_time_and_the_last_failure_is_the_calls() -> None:
    with retrying(RetryPolicy(backoff_coefficient=3)) as driven:
        assert driven.asked == [TaskScheduled(1, "flaky", '[9,"x"]', 2, 1)]
        driven.apply(failed(1, message="one", at_s=10))
        assert driven.asked == [TimerCreated(1, START_US + 11 * SECOND)]
        driven.apply(fired(1, 11, at_s=12))
        assert driven.asked == [TaskScheduled(2, "flaky", '[9,"x"]', 2, 2, first=1)]
        driven.apply(failed(2, message="two", at_s=20))
        assert driven.asked == [TimerCreated(2, START_US + 23 * SECOND)]
        driven.apply(fired(2, 23), failed(3, message="three", at_s=30))
        assert driven.result == "failed at call 3 flaky: three"


def test_a_delay_of_zero_takes_no_timer() -> None:
    with retrying(RetryPolicy(first_retry_interval=seconds(0))) as driven:
        driven.apply(failed(1))
        assert driven.asked == [TaskScheduled(2, "flaky", '[9,"x"]', 2, 2, first=1)]


def test_attempts_that_were_recorded_without_the_first_one_replay_and_the_next_names_it() -> None:
    with retrying(RetryPolicy(first_retry_interval=seconds(0))) as driven:
        driven.apply(failed(1))
        old = [replace(event, first=0) if isinstance(event, TaskScheduled) else event for event in driven.history]
    with retrying(RetryPolicy(first_retry_interval=seconds(0)), start=False) as again:
        list(again.execution.replay(old))
        again.apply(failed(2))
        assert again.asked == [TaskScheduled(3, "flaky", '[9,"x"]', 2, 3, first=1)]


def test_elapsed_time_is_recorded_time_since_the_first_attempt() -> None:
    seen: list[timedelta] = []

    def handler(context: RetryContext) -> bool:
        seen.append(context.elapsed)
        return True

    with retrying(RetryPolicy(handler=handler)) as driven:
        driven.apply(failed(1, at_s=10), fired(1, 11), failed(2, at_s=25))
        assert seen == [seconds(10), seconds(25)]


def test_a_policy_that_says_no_ends_it_at_once() -> None:
    with retrying(RetryPolicy(non_retriable=(ValueError,))) as driven:
        driven.apply(failed(1, message="one"))
        assert driven.result == "failed at call 1 flaky: one"
        assert driven.asked == []
    with retrying(RetryPolicy()) as driven:
        driven.apply(failed(1, message="one", non_retriable=True))
        assert driven.result == "failed at call 1 flaky: one"


@pytest.mark.parametrize("error", [LookupError("broken"), StopIteration(5), StopAsyncIteration()])
def test_a_handler_that_raises_fails_the_call(error: Exception) -> None:
    def handler(_: RetryContext) -> bool:
        raise error

    with retrying(RetryPolicy(handler=handler)) as driven:
        driven.apply(failed(1))
        assert type(error).__name__ in driven.result
        driven.apply(completed(1, "late"))


def test_a_converter_that_raises_what_no_future_can_carry_fails_the_call() -> None:
    def decode(_: str | None) -> Any:
        return next(iter(()))

    driven = retrying(RetryPolicy())
    driven.execution.registry.activities["flaky"].__dict__["decode_result"] = decode
    driven.execution.close()
    with Driven(driven.bound.fn, known=KNOWN, start=False) as fresh:
        fresh.execution.registry.activities["flaky"].__dict__["decode_result"] = decode
        fresh.apply(driven.history[0])  # type: ignore[arg-type]
        fresh.apply(completed(1, "x"))
        assert fresh.result.startswith("RuntimeError: flaky: StopIteration")


def test_a_timeout_covers_all_attempts_and_gives_up_the_one_that_runs() -> None:
    with retrying(RetryPolicy(max_number_of_attempts=9), timeout=seconds(5)) as driven:
        assert driven.asked == [TaskScheduled(1, "flaky", '[9,"x"]', 2, 1), TimerCreated(1, START_US + 5 * SECOND)]
        driven.apply(failed(1, at_s=1), fired(2, 2))
        driven.apply(fired(1, 5))
        assert driven.asked == [CommandCancelled("task", 2)]
        assert driven.result.endswith("'flaky' did not end within 5 s")


def test_a_timeout_during_the_back_off_gives_up_its_timer() -> None:
    with retrying(RetryPolicy(first_retry_interval=seconds(60)), timeout=seconds(5)) as driven:
        driven.apply(failed(1, at_s=1), fired(1, 5))
        assert driven.asked == [TimerCreated(2, START_US + 61 * SECOND), CommandCancelled("timer", 2)]
        assert driven.result.startswith("timeout")


def test_a_call_that_ends_in_time_takes_its_timeout_back() -> None:
    for message in (completed(1, "x"), failed(1, non_retriable=True)):
        with retrying(RetryPolicy(), timeout=seconds(5)) as driven:
            driven.apply(message)
            assert driven.asked == [CommandCancelled("timer", 1)]


def test_a_timeout_of_less_than_a_microsecond_is_one() -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(echo, "x", timeout=timedelta(microseconds=1))

    with Driven(calling, known=KNOWN) as driven:
        assert driven.asked[1] == TimerCreated(1, START_US + 1)


def test_children_are_retried_with_ids_of_their_own_or_under_the_one_they_were_given() -> None:
    for chosen, ids in ((None, ["x1:0001", "x1:0002"]), ("mine", ["mine", "mine"])):

        async def calling(ctx: OrchestrationContext, chosen: str | None = chosen) -> int:
            return await ctx.call_sub_orchestrator(child, 1, instance_id=chosen, retry=RetryPolicy(first_retry_interval=seconds(0)))

        with Driven(calling, known=KNOWN) as driven:
            driven.apply(SubOrchestrationFailed(1, FAILURE))
            started = [event for event in driven.history if isinstance(event, SubOrchestrationStarted)]
            assert [(event.id, event.instance_id) for event in started] == [(1, ids[0]), (2, ids[1])]


def test_cancelling_a_child_names_it() -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        call = ctx.call_sub_orchestrator(child, 1, instance_id="mine", retry=RetryPolicy())
        await asyncio.sleep(1)
        call.cancel()

    with Driven(calling, known=KNOWN) as driven:
        driven.apply(fired(1, 1))
        assert driven.asked == [CommandCancelled("child", 1, "mine")]


HOPELESS: list[Callable[[OrchestrationContext], Any]] = [
    lambda ctx: ctx.call_activity(echo, "x", timeout=timedelta.max),
    lambda ctx: ctx.call_activity(echo, "x", timeout=timedelta(days=365 * 9000)),
]


@pytest.mark.parametrize("call", HOPELESS)
def test_a_timeout_beyond_all_dates_is_the_last_date(call: Callable[[OrchestrationContext], Any]) -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        await call(ctx)

    with Driven(calling, known=KNOWN) as driven:
        assert driven.asked[1] == TimerCreated(1, LATEST_US)
