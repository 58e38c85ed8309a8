"""Which clocks tell hub time: the machine's, or those of a test."""

from __future__ import annotations

import logging
import time

from durable_core.hub import HubClock
from durable_sqlite.options import SqliteOptions

__all__ = ["Clocks"]

_logger = logging.getLogger("durable_core.sqlite")


class Clocks:
    """Of one handle. Asked by one thread at a time."""

    def __init__(self, options: SqliteOptions) -> None:
        self._where = options.path or ":memory:"
        self._wall_us = options.clock_us or (lambda: time.time_ns() // 1_000)
        standstill = options.clock_us is not None
        self._monotonic_us = options.monotonic_us or ((lambda: 0) if standstill else (lambda: time.monotonic_ns() // 1_000))
        self._hub = HubClock()

    def now_us(self, stored_us: int) -> int:
        """``stored_us``: when the store was last written."""
        now_us = self._hub.now_us(self._wall_us(), self._monotonic_us(), stored_us)
        if self._hub.news is not None:
            _logger.warning("%s: %s", self._where, self._hub.news)
            self._hub.news = None
        return now_us
