"""The service's clock: hub time for everybody, whatever the clocks of the workers say.

Each answer of the service carries its ``Date``, in whole seconds. When an answer arrives, the service's time is at least that; the best
of these bounds, moved on by this machine's monotonic clock, is the time. It lags by less than a second, and is never ahead. A monotonic clock
that runs too fast would carry an old bound ahead, so a bound loses a little with time.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

__all__ = ["ServiceClock"]

_DRIFT = 2e-4


class ServiceClock:
    """``learn`` takes the ``Date`` of an answer that has just arrived."""

    def __init__(self) -> None:
        self._offset_us: float | None = None
        self._learned_us = 0.0

    def learn(self, date: str | None) -> None:
        if date is None:
            return
        now_us = time.monotonic_ns() / 1_000
        offset_us = parsedate_to_datetime(date).timestamp() * 1e6 - now_us
        if self._offset_us is not None:
            offset_us = max(offset_us, self._offset_us - (now_us - self._learned_us) * _DRIFT)
        self._offset_us, self._learned_us = offset_us, now_us

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        assert self._offset_us is not None, "the service has not answered yet"
        return int(time.monotonic_ns() / 1_000 + self._offset_us)
