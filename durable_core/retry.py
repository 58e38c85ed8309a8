"""When a failed call is tried again: a policy, and arithmetic on recorded time only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from attrs import field, frozen, validators
from msgspec import Struct

from durable_core.errors import FailureDetails
from durable_core.moments import LATEST_US, Duration, duration, microseconds


class RetryContext(Struct, frozen=True):
    """What a retry handler sees: the failure, the attempt that failed (from 1), and the recorded time since the first attempt was
    scheduled."""

    failure: FailureDetails
    attempt: int
    elapsed: timedelta


RetryHandler = Callable[[RetryContext], bool | timedelta]
Kinds = type[BaseException] | str

_not_negative = validators.ge(timedelta(0))


def _interval(given: Duration) -> timedelta:
    return duration(given, "an interval of a RetryPolicy")


def _optional_interval(given: Duration | None) -> timedelta | None:
    return None if given is None else _interval(given)


def _kinds(given: Kinds | Iterable[Kinds]) -> tuple[Kinds, ...]:
    """One exception class or name, or several."""
    single = isinstance(given, str | type)
    kinds: tuple[Any, ...] = (given,) if single else tuple(given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for kind in kinds:
        if not isinstance(kind, str) and not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"non_retriable of a RetryPolicy takes exception classes and their qualified names, got {kind!r}")
    return kinds


def _number_above(least: int, kinds: type | tuple[type, ...]) -> Any:
    """A bool is none, although Python says so."""
    return validators.and_(validators.not_(validators.instance_of(bool)), validators.instance_of(kinds), validators.ge(least))


@frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed call is tried again.

    ``max_number_of_attempts`` counts all attempts, the first included. The delay after attempt n is ``first_retry_interval *
    backoff_coefficient ** (n - 1)``, at most ``max_retry_interval``. No attempt starts later than ``retry_timeout`` after the first was
    scheduled. ``non_retriable`` names exception types (classes or qualified names) that end it at once, as does an exception with
    ``non_retriable = True``. ``handler`` decides instead of the arithmetic: False stops, True retries after the computed delay, a timedelta
    after that delay; it must be deterministic. Intervals are timedeltas or numbers of seconds.
    """

    first_retry_interval: timedelta = field(default=timedelta(seconds=1), converter=_interval, validator=_not_negative)
    max_number_of_attempts: int = field(default=3, validator=_number_above(1, int))
    backoff_coefficient: float = field(default=1.0, validator=_number_above(1, (int, float)))
    max_retry_interval: timedelta | None = field(default=None, converter=_optional_interval, validator=validators.optional(_not_negative))
    retry_timeout: timedelta | None = field(default=None, converter=_optional_interval, validator=validators.optional(_not_negative))
    non_retriable: tuple[Kinds, ...] = field(default=(), converter=_kinds)
    handler: RetryHandler | None = field(default=None, validator=validators.optional(validators.is_callable()))

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
            elif decision is not True:  # no number of seconds either: a 1 may be meant as True
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


def checked_retry(given: object) -> RetryPolicy | None:
    """Of a call, or of a decorator. Raises ``TypeError``."""
    if given is None or isinstance(given, RetryPolicy):
        return given
    count = given if isinstance(given, int) and given > 1 and not isinstance(given, bool) else 3
    raise TypeError(f"retry must be a RetryPolicy, got {given!r}; write: RetryPolicy(max_number_of_attempts={count})")
