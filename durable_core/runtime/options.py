"""How much a worker takes on at once, and how long it waits. Every bound has a default that suits one process on a few cores."""

from __future__ import annotations

import os
from typing import Literal

from attrs import Attribute, field, frozen, validators

from durable_core.moments import Duration, duration
from durable_core.replay.machine import Limits

_CORES = os.cpu_count() or 1


def _count(default: int, least: int = 1) -> int:
    """A field for a number of things."""

    def check(_options: object, of: Attribute[int], given: object) -> None:
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            raise ValueError(f"WorkerOptions.{of.name} must be a whole number, at least {least}, got {given!r}")

    made: int = field(default=default, validator=check)
    return made


def _seconds(given: Duration) -> float:
    return duration(given, "a time of WorkerOptions").total_seconds()


def _above_zero(_options: object, of: Attribute[float], seconds: float) -> None:
    if seconds <= 0:
        raise ValueError(f"WorkerOptions.{of.name} must be above zero, got {seconds!r}")


@frozen(kw_only=True)
class WorkerOptions:
    """``max_active_instances``: instances with a turn in hand. ``max_cached_instances`` and ``max_cached_bytes`` (of history) bound the
    executions kept in memory while they wait; the least recently used ones are dropped and replayed when needed. ``max_async_activities``,
    ``activity_threads`` and ``activity_processes`` bound what runs at once. What ends in ``_s`` is seconds, and takes a timedelta, too.
    """

    max_active_instances: int = _count(5_000)
    max_cached_instances: int = _count(5_000, least=0)
    max_cached_bytes: int = _count(128 << 20, least=0)
    max_async_activities: int = _count(500)
    activity_threads: int = _count(min(32, _CORES + 4))
    activity_processes: int = _count(_CORES)
    max_messages_per_turn: int = _count(1_000)
    hold_s: float = field(default=10.0, converter=_seconds, validator=validators.ge(0))
    heartbeat_s: float = field(default=3.0, converter=_seconds, validator=_above_zero)
    worker_ttl_s: float = field(default=15.0, converter=_seconds, validator=_above_zero)
    poll_s: float = field(default=1.0, converter=_seconds, validator=_above_zero)
    """How long an idle worker, or a client that waits, sleeps at most if every wake-up is lost."""
    drain_s: float = field(default=10.0, converter=_seconds, validator=validators.ge(0))
    """How long a closing engine waits for running activities."""
    max_attempts: int = _count(5)
    """Claims without an accepted commit after which an instance is parked."""
    max_deliveries: int = _count(5)
    """Deliveries of an activity to workers that died, or were lost, before they had a result: after so many its call fails. From the third
    one on it runs alone, so that those who merely died with a killer live: with less than three, they fail with it."""
    first_backoff_s: float = field(default=1.0, converter=_seconds, validator=_above_zero)
    last_backoff_s: float = field(default=300.0, converter=_seconds, validator=_above_zero)
    on_mismatch: Literal["keep", "fail"] = field(default="keep", validator=validators.in_(("keep", "fail")))
    """What becomes of an instance whose code does not fit its history, or that can never get on: it is kept and tried again with back-off,
    so that putting the code right repairs it; or it is FAILED."""
    limits: Limits = field(factory=Limits, validator=validators.instance_of(Limits))

    def __attrs_post_init__(self) -> None:
        if self.heartbeat_s >= self.worker_ttl_s:
            raise ValueError(f"heartbeat_s ({self.heartbeat_s:g}) must be below worker_ttl_s ({self.worker_ttl_s:g}), better a fifth of it")
