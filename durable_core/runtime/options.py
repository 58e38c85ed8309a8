"""How much a worker takes on at once, and how long it waits. Every bound has a default that suits one process on a few cores."""

from __future__ import annotations

import os
from typing import Literal

from attrs import field, frozen

from durable_core.replay.machine import Limits

_CORES = os.cpu_count() or 1


@frozen(kw_only=True)
class WorkerOptions:
    """``max_active_instances``: instances with a turn in hand. ``max_cached_instances`` and ``max_cached_bytes`` (of history) bound the
    executions kept in memory while they wait; the least recently used ones are dropped and replayed when needed. ``max_async_activities``,
    ``activity_threads`` and ``activity_processes`` bound what runs at once.
    """

    max_active_instances: int = 5_000
    max_cached_instances: int = 5_000
    max_cached_bytes: int = 128 << 20
    max_async_activities: int = 500
    activity_threads: int = min(32, _CORES + 4)
    activity_processes: int = _CORES
    max_messages_per_turn: int = 1_000
    hold_s: float = 10.0
    heartbeat_s: float = 3.0
    worker_ttl_s: float = 15.0
    poll_s: float = 1.0
    """How long an idle worker, or a client that waits, sleeps at most if every wake-up is lost."""
    drain_s: float = 10.0
    """How long a closing engine waits for running activities."""
    max_attempts: int = 5
    """Claims without an accepted commit after which an instance is parked."""
    first_backoff_s: float = 1.0
    last_backoff_s: float = 300.0
    on_mismatch: Literal["keep", "fail"] = "keep"
    """What becomes of an instance whose code does not fit its history, or that can never get on: it is kept and tried again with back-off,
    so that putting the code right repairs it; or it is FAILED."""
    limits: Limits = field(factory=Limits)
