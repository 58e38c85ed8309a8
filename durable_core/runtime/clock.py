"""Hub time between two answers of the store: the last timestamp it gave, plus what has passed since on this process's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class HubClock:
    """Never runs backwards. Before the store has answered once, hub time is unknown and 0."""

    def __init__(self, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._hub_us = 0
        self._at_ns = 0

    def learn(self, hub_us: int) -> None:
        """The store said that it is ``hub_us`` now."""
        if hub_us > self.now_us():
            self._hub_us = hub_us
            self._at_ns = self._monotonic_ns()

    def now_us(self) -> int:
        if self._hub_us == 0:
            return 0
        return self._hub_us + (self._monotonic_ns() - self._at_ns) // 1000
