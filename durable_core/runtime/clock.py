"""Hub time between two answers of the store: the last timestamp it gave, plus what has passed since on this process's monotonic clock."""

from __future__ import annotations

import time


class HubClock:
    """Never runs backwards. Until the store has answered once, it counts from 0."""

    def __init__(self) -> None:
        self._ahead_us = -_monotonic_us()

    def learn(self, hub_us: int) -> None:
        """The store said that it is ``hub_us`` now."""
        self._ahead_us = max(self._ahead_us, hub_us - _monotonic_us())

    def now_us(self) -> int:
        return self._ahead_us + _monotonic_us()


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000
