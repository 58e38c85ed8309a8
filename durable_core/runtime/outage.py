"""Whether the store is there, as this process sees it: told once when it goes away, and once when it is back."""

from __future__ import annotations

import logging

from durable_core.runtime.clock import Clock

_logger = logging.getLogger("durable_core.engine")
_FORGOTTEN_S = 10.0
"""What nobody has tried for so long does not keep the store away."""


class Outage:
    """Fed by whoever calls the store; ``use`` is what for ("writes", "claims", …), since one may fail and another work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed_s: dict[str, float] = {}
        self._since_s = 0.0

    def failed(self, use: str, error: object) -> None:
        now_s = self._clock.time()
        if not self._failed_s:
            self._since_s = now_s
            _logger.warning("the store is away: %s fail: %s; trying again", use, error)
        else:
            _logger.debug("the store is away: %s fail: %s; trying again", use, error)
        self._failed_s[use] = now_s

    def worked(self, use: str) -> None:
        if not self._failed_s:
            return
        self._failed_s.pop(use, None)
        now_s = self._clock.time()
        if all(failed_s < now_s - _FORGOTTEN_S for failed_s in self._failed_s.values()):
            self._failed_s.clear()
            _logger.info("the store is back after %.1f s", now_s - self._since_s)
