"""When a failed call is tried again: a policy, and arithmetic on recorded time only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from attrs import field, frozen, validators
from msgspec import Struct

from durable_core.errors import FailureDetails
from durable_core.moments import LATEST_US, microseconds


class RetryContext(Struct, frozen=True):
    """What a retry handler sees: the failure, the attempt that failed (from 1), and the recorded time since the first attempt was
    scheduled."""

    failure: FailureDetails
    attempt: int
    elapsed: timedelta


RetryHandler = Callable[[RetryContext], bool | timedelta]

_not_negative = validators.ge(timedelta(0))


@frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed call is tried again.

    ``max_number_of_attempts`` counts all attempts, the first included. The delay after attempt n is ``first_retry_interval *
    backoff_coefficient ** (n - 1)``, at most ``max_retry_interval``. No attempt starts later than ``retry_timeout`` after the first was
    scheduled. ``non_retriable`` names exception types (classes or qualified names) that end it at once, as does an exception with
    ``non_retriable = True``. ``handler`` decides instead of the arithmetic: False stops, True retries after the computed delay, a timedelta
    after that delay; it must be deterministic.
    """

    first_retry_interval: timedelta = field(default=timedelta(seconds=1), validator=_not_negative)
    max_number_of_attempts: int = field(default=3, validator=validators.ge(1))
    backoff_coefficient: float = field(default=1.0, validator=validators.ge(1))
    max_retry_interval: timedelta | None = field(default=None, validator=validators.optional(_not_negative))
    retry_timeout: timedelta | None = field(default=None, validator=validators.optional(_not_negative))
    non_retriable: tuple[type[BaseException] | str, ...] = ()
    handler: RetryHandler | None = None

    def delay_us(self, failure: FailureDetails, attempt: int, elapsed_us: int) -> int | None:
        """Microseconds to wait before the next attempt; None: give up."""
        final = failure.non_retriable or any(failure.is_caused_by(kind) for kind in self.non_retriable)
        if final or attempt >= self.max_number_of_attempts:
            return None
        delay = self._backoff_us(attempt)
        if self.handler is not None:
            decision = self.handler(RetryContext(failure, attempt, timedelta(microseconds=elapsed_us)))
            if decision is False:
                return None
            if isinstance(decision, timedelta):
                delay = max(0, microseconds(decision))
            elif decision is not True:
                raise TypeError(f"RetryPolicy.handler must return a bool or a timedelta, got {decision!r}")
        if self.retry_timeout is not None and elapsed_us + delay > microseconds(self.retry_timeout):
            return None
        return delay

    def _backoff_us(self, attempt: int) -> int:
        first = microseconds(self.first_retry_interval)
        ceiling = microseconds(self.max_retry_interval) if self.max_retry_interval is not None else LATEST_US
        try:
            return min(round(first * self.backoff_coefficient ** (attempt - 1)), ceiling) if first else 0
        except OverflowError:
            return ceiling
