"""Times as the engine keeps them: microseconds since the epoch, UTC (``*_us``); and what users write for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATEST_US = 253_402_300_799_000_000
"""The last second that a datetime can name. Durable timers that would fire later fire then; stores hold no larger time."""


Duration = timedelta | float
"""What users write for a while: a timedelta, or a number of seconds."""


def microseconds(delta: timedelta) -> int:
    """Exact, unlike ``total_seconds``."""
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def to_datetime(us: int) -> datetime:
    """Aware, in UTC."""
    return _EPOCH + timedelta(microseconds=us)


def duration(given: object, what: str) -> timedelta:
    """A timedelta, or a number of seconds. Raises ``TypeError``, ``ValueError``; ``what`` says what it is for."""
    if isinstance(given, timedelta):
        return given
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"{what} must be a timedelta or a number of seconds, got {given!r}")
    try:
        return timedelta(seconds=given)
    except (OverflowError, ValueError):
        raise ValueError(f"{what} must be a number of seconds that a timedelta can hold, got {given!r}") from None


def duration_above_zero(given: object, what: str) -> timedelta:
    made = duration(given, what)
    if made <= timedelta(0):
        raise ValueError(f"{what} must be above zero, got {given!r}")
    return made


def to_us(moment: datetime, what: str) -> int:
    """Raises ``TypeError``, ``ValueError`` for a naive one; ``what`` says what it is for."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} must be an aware datetime, got {moment!r}")
    if moment.utcoffset() is None:
        raise ValueError(f"{what} needs an aware datetime, got the naive {moment!r}; say which time zone, e.g. tzinfo=datetime.UTC")
    return microseconds(moment - _EPOCH)


def due_time_us(when: datetime | Duration, now_us: int, what: str) -> int:
    """A time, or a while from now. Raises ``TypeError``, ``ValueError``, ``OverflowError``."""
    if not isinstance(when, timedelta | datetime | int | float) or isinstance(when, bool):
        raise TypeError(f"{what} needs an aware datetime, a timedelta or a number of seconds, got {when!r}")
    due_us = to_us(when, what) if isinstance(when, datetime) else now_us + microseconds(duration(when, what))
    if due_us > LATEST_US:
        raise OverflowError(f"{what} cannot wait beyond the year 9999, got {when!r}")
    return due_us
