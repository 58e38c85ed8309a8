"""Retries end to end: how many, when (by the history's own times), and who decides."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from durable_core import OrchestrationContext, OrchestrationFailedError, RetryContext, RetryPolicy, activity, orchestrator
from durable_core.events import TaskFailed, TaskScheduled, TimerCreated, TimerFired
from tests.runtime.support import PATIENCE, engine_with

MS = timedelta(milliseconds=1)
runs: Counter[str] = Counter()


class PaymentError(Exception): ...


@activity
async def failing(key: str) -> None:
    runs[key] += 1
    raise PaymentError(f"{key} failed")


def history_of(url: str, run: Any, policy: RetryPolicy) -> list[Any]:
    """Of an orchestration whose only call fails for ever."""

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(failing, url, retry=policy)

    engine = engine_with(failing, root)
    runs.clear()

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root)
            with pytest.raises(OrchestrationFailedError, match="PaymentError"):
                await handle.result(PATIENCE)
            return await engine.client.get_history(handle.id)

    history: list[Any] = run(main)
    assert runs[url] == sum(isinstance(event, TaskScheduled) for event in history)
    return history


def delays_ms(history: list[Any]) -> list[float]:
    """From each failure to the due time of the timer that follows it, as recorded."""
    pairs = itertools.pairwise(history)
    return [
        (timer.due_us - failed.at_us) / 1000
        for failed, timer in pairs
        if isinstance(failed, TaskFailed) and isinstance(timer, TimerCreated)
    ]


def test_attempts_count_all_and_the_back_off_is_on_recorded_time(url, run):
    policy = RetryPolicy(first_retry_interval=10 * MS, backoff_coefficient=2, max_number_of_attempts=5, max_retry_interval=50 * MS)
    history = history_of(url, run, policy)
    assert [event.attempt for event in history if isinstance(event, TaskScheduled)] == [1, 2, 3, 4, 5]
    assert delays_ms(history) == [10, 20, 40, 50]
    fired = [(event.id, event.at_us >= event.due_us) for event in history if isinstance(event, TimerFired)]
    assert fired == [(1, True), (2, True), (3, True), (4, True)]


def test_no_attempt_starts_after_the_retry_timeout(url, run):
    policy = RetryPolicy(
        first_retry_interval=40 * MS, backoff_coefficient=20, max_number_of_attempts=50, retry_timeout=timedelta(seconds=10)
    )
    assert delays_ms(history_of(url, run, policy)) == [40, 800], "the third, of 16 s, would end too late"
    assert runs[url] == 3


@pytest.mark.parametrize("kind", [PaymentError, f"{__name__}.PaymentError"])
def test_types_that_are_not_retried(url, run, kind):
    name = f"{PaymentError.__module__}.PaymentError" if isinstance(kind, str) else kind
    history_of(url, run, RetryPolicy(max_number_of_attempts=5, first_retry_interval=MS, non_retriable=(name,)))
    assert runs[url] == 1


def test_a_handler_decides_by_bool(url, run):
    seen: list[tuple[int, bool, bool]] = []

    def handler(context: RetryContext) -> bool:
        seen.append((context.attempt, context.failure.is_caused_by(PaymentError), context.elapsed >= timedelta(0)))
        return context.attempt < 3

    history = history_of(url, run, RetryPolicy(max_number_of_attempts=10, first_retry_interval=5 * MS, handler=handler))
    assert runs[url] == 3
    assert seen == [(1, True, True), (2, True, True), (3, True, True)]
    assert delays_ms(history) == [5, 5]


def test_a_handler_decides_by_delay(url, run):
    history = history_of(
        url, run, RetryPolicy(max_number_of_attempts=3, handler=lambda context: timedelta(milliseconds=7 * context.attempt))
    )
    assert delays_ms(history) == [7, 14]


def test_a_handler_that_fails_fails_the_call(url, run):
    def handler(context: RetryContext) -> bool:
        raise RuntimeError("PaymentError confuses me")

    history_of(url, run, RetryPolicy(handler=handler))
    assert runs[url] == 1
