"""Times as the engine keeps them: microseconds since the epoch, UTC (``*_us``); and what users write for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATEST_US = 253_402_300_799_000_000
"""The last second that a datetime can name. Durable timers that would fire later fire then; stores hold no larger time."""


def microseconds(delta: timedelta) -> int:
    """Exact, unlike ``total_seconds``."""
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def to_datetime(us: int) -> datetime:
    """Aware, in UTC."""
    return _EPOCH + timedelta(microseconds=us)


def to_us(moment: datetime, what: str) -> int:
    """Raises ``ValueError`` for a naive one; ``what`` says what it is for."""
    if moment.tzinfo is None:
        raise ValueError(f"{what} needs an aware datetime, got the naive {moment!r}; say which time zone, e.g. tzinfo=datetime.UTC")
    return microseconds(moment - _EPOCH)


def due_time_us(when: datetime | timedelta, now_us: int, what: str) -> int:
    """A time, or a while from now. Raises ``TypeError``, ``ValueError``, ``OverflowError``."""
    if not isinstance(when, timedelta | datetime):
        raise TypeError(f"{what} needs a timedelta or an aware datetime, got {when!r}")
    due_us = to_us(when, what) if isinstance(when, datetime) else now_us + microseconds(when)
    if due_us > LATEST_US:
        raise OverflowError(f"{what} cannot wait beyond the year 9999, got {when!r}")
    return due_us
