"""Hub time goes on, whatever the wall clock does, and never backwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable_core.hub import HubClock

SECOND = 1_000_000
YEAR = 365 * 86_400 * SECOND
NOW = 1_700_000_000 * SECOND


def test_it_is_the_wall_clock_where_that_goes_on_evenly() -> None:
    clock = HubClock()
    for second in range(1_000):
        assert clock.now_us(NOW + second * SECOND, 5 + second * SECOND) == NOW + second * SECOND
    assert clock.news is None


def test_a_moment_a_year_ahead_shifts_time_and_does_not_stop_it() -> None:
    clock = HubClock()
    clock.now_us(NOW, 0)
    assert clock.now_us(NOW + YEAR, SECOND) == NOW + YEAR
    assert clock.news is not None
    assert "ahead" in clock.news
    later = clock.now_us(NOW + 1_002 * SECOND, 1_001 * SECOND)
    assert NOW + YEAR + 999 * SECOND <= later <= NOW + YEAR + 1_000 * SECOND


def test_a_clock_that_is_set_back_is_told_of_once_and_stops_nothing() -> None:
    clock = HubClock()
    clock.now_us(NOW, 0)
    told = 0
    for second in range(1, 1_001):
        clock.now_us(NOW - 3_600 * SECOND + second * SECOND, second * SECOND)
        told += clock.news is not None
        clock.news = None
    assert told == 1
    assert clock.now_us(0, 1_000 * SECOND) >= NOW + 999 * SECOND


def test_another_handle_goes_on_from_what_was_written() -> None:
    clock = HubClock()
    assert clock.now_us(NOW, 7, NOW + YEAR) == NOW + YEAR
    assert clock.now_us(NOW + SECOND, 7 + SECOND, NOW + YEAR) == NOW + YEAR + SECOND - SECOND // 1_000


def test_a_monotonic_clock_that_runs_a_little_fast_carries_nothing_ahead() -> None:
    clock = HubClock()
    for minute in range(60 * 24 * 30):
        clock.now_us(NOW + minute * 60 * SECOND, round(minute * 60 * SECOND * 1.0005))
    end = NOW + 60 * 24 * 30 * 60 * SECOND
    assert clock.now_us(end, round(60 * 24 * 30 * 60 * SECOND * 1.0005)) == end


@given(st.lists(st.tuples(st.integers(-YEAR, YEAR), st.integers(0, 100 * SECOND), st.integers(0, 2 * NOW))))
def test_it_never_runs_backwards_and_is_never_behind_what_was_written(steps: list[tuple[int, int, int]]) -> None:
    clock, last, monotonic = HubClock(), 0, 0
    for jump, passed, stored in steps:
        monotonic += passed
        now = clock.now_us(NOW + jump, monotonic, stored)
        assert now >= max(last + passed - passed // 1_000 - 1 if last else 0, stored, NOW + jump)
        assert clock.floor_us(monotonic) == now
        last = now
