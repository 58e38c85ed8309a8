"""Hub time as one handle tells it: it goes on whatever the wall clock does, and never backwards."""

from __future__ import annotations

__all__ = ["HubClock"]

_SLOWER = 1_000
"""A monotonic clock that runs a little too fast must not carry hub time ahead of a wall clock that is right: time that nothing but it tells of goes
by a thousandth slower."""
_JUMP_US = 5_000_000


class HubClock:
    """``now_us`` is the wall clock's time, what the store was last written at, or what this handle knew before and has passed since by its
    monotonic clock, whichever is latest. So one moment in which the wall clock was a year ahead shifts hub time, and does not stop it.

    ``news`` is what to tell a person about the wall clock, once; whoever tells it sets it to None.
    """

    __slots__ = ("_at_us", "_is_behind", "_known_us", "news")

    def __init__(self) -> None:
        self._known_us = self._at_us = 0
        self._is_behind = False
        self.news: str | None = None

    def now_us(self, wall_us: int, monotonic_us: int, stored_us: int = 0) -> int:
        expected_us, told_us = self.floor_us(monotonic_us), max(wall_us, stored_us)
        if self._known_us:
            self._compare(wall_us, expected_us)
        if told_us <= expected_us:
            return expected_us
        self._known_us, self._at_us = told_us, monotonic_us
        return told_us

    def floor_us(self, monotonic_us: int) -> int:
        """What the time is at least. 0: nothing is known yet."""
        passed_us = max(0, monotonic_us - self._at_us) if self._known_us else 0
        return self._known_us + passed_us - passed_us // _SLOWER

    def _compare(self, wall_us: int, expected_us: int) -> None:
        was_behind, self._is_behind = self._is_behind, wall_us < expected_us - _JUMP_US
        if self._is_behind and not was_behind:
            self.news = f"the clock is {(expected_us - wall_us) / 1e6:,.0f} s behind the store's time, which goes on without it"
        elif wall_us > expected_us + _JUMP_US + (expected_us - self._known_us) // 500:
            self.news = f"the clock has jumped {(wall_us - expected_us) / 1e6:,.0f} s ahead (or this machine slept); timers follow it"
