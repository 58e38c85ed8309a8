"""Timers are messages that become visible later; hub time never runs backwards."""

from __future__ import annotations

from typing import cast

import pytest

from durable_conformance.driver import HOUR_US, SECOND_US, Driver, after
from durable_conformance.harness import Settable
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import NextExecution

pytestmark = requires("frozen_clock")


async def _now_us(hub: Driver) -> int:
    return (await hub.claim(turns=0, tasks=0)).now_us


@proves(Property.TIMERS)
async def test_a_timer_is_never_early_and_fires_once(hub: Driver) -> None:
    turn = await hub.started()
    due_us = await _now_us(hub) + 5 * SECOND_US
    timer = hub.message("i", due_us=due_us)
    assert (await hub.commit(turn, timers=(timer,))).messages == ()
    assert (await hub.claim()).next_due_us == due_us
    hub.harness.advance_clock(5 * SECOND_US - 1)
    assert (await hub.claim()).turns == ()
    hub.harness.advance_clock(1)
    claimed = await hub.claimed()
    assert claimed.messages == (timer,)
    assert (await hub.commit(claimed, consumes=(timer.id,))).messages == ()
    hub.harness.advance_clock(3600 * SECOND_US)
    assert (await hub.claim()).turns == ()


@proves(Property.TIMERS)
async def test_another_message_does_not_pull_a_timer_forward(hub: Driver) -> None:
    turn = await hub.started()
    await hub.commit(turn, timers=(hub.message("i", due_us=await _now_us(hub) + SECOND_US),))
    event = await hub.send()
    claimed = await hub.claimed()
    assert claimed.messages == (event,)
    assert (await hub.commit(claimed, consumes=(event.id,))).messages == ()


@proves(Property.TIMERS)
@pytest.mark.parametrize("fired", [False, True])
async def test_a_cancelled_timer_is_gone_fired_or_not(hub: Driver, fired: bool) -> None:
    turn = await hub.started()
    timer = hub.message("i", due_us=await _now_us(hub) + SECOND_US)
    await hub.commit(turn, timers=(timer,))
    if fired:
        hub.harness.advance_clock(SECOND_US)
    assert (await hub.commit(after(turn), cancel_timers=(timer.id, "unknown"))).messages == ()
    hub.harness.advance_clock(10 * SECOND_US)
    assert (await hub.claim()).turns == ()


@proves(Property.TIMERS)
async def test_timers_fire_in_order_of_due_time(hub: Driver) -> None:
    turn = await hub.started()
    now_us = await _now_us(hub)
    timers = [hub.message("i", due_us=now_us + offset) for offset in (30, 10, 20, 10)]
    await hub.commit(turn, timers=tuple(timers))
    hub.harness.advance_clock(15)
    event = await hub.send()
    hub.harness.advance_clock(100)
    assert (await hub.claimed()).messages == (timers[1], timers[3], event, timers[2], timers[0])


@proves(Property.TIMERS)
async def test_a_timer_as_first_act_after_continue_as_new_fires(hub: Driver) -> None:
    turn = await hub.running()
    old = hub.message("i", due_us=await _now_us(hub) + SECOND_US, execution=turn.execution)
    await hub.commit(turn, timers=(old,))
    await hub.commit(after(turn), append=None, next_execution=NextExecution("next", b"1"))
    following = after(after(turn), execution="next")
    new = hub.message("i", due_us=await _now_us(hub) + SECOND_US, execution="next")
    await hub.commit(following, timers=(new,))
    hub.harness.advance_clock(SECOND_US)
    with proving(Property.GENERATIONS):
        assert (await hub.claimed()).messages == (new,)


@proves(Property.TIMERS)
async def test_a_timer_that_is_already_due_comes_with_the_commit(hub: Driver) -> None:
    turn = await hub.started()
    timer = hub.message("i", due_us=1)
    assert (await hub.commit(turn, timers=(timer,))).messages == (timer,)


@requires("wall_clock")
@proves(Property.TIMERS)
@pytest.mark.parametrize(
    "jumps_us", [(HOUR_US * 24 * 365, -HOUR_US * 24 * 365), (-HOUR_US,)], ids=["a year ahead and back", "an hour back"]
)
async def test_time_goes_on_when_the_clock_is_set(hub: Driver, jumps_us: tuple[int, ...]) -> None:
    """A day's timer fires within a day and two minutes of the time that passes, and not before a day."""
    turn = await hub.started()
    for number, jump_us in enumerate(jumps_us):
        cast(Settable, hub.harness).jump_clock(jump_us)
        await hub.create(f"at {number}")  # something is written at that time
    day_us = 24 * HOUR_US
    due_us = await _now_us(hub) + day_us
    await hub.commit(turn, timers=(hub.message("i", due_us=due_us),))
    for _ in range(23):
        hub.harness.advance_clock(HOUR_US)
        assert "i" not in {each.instance for each in (await hub.claim()).turns}, "a timer fires early"
    hub.harness.advance_clock(HOUR_US + 120 * SECOND_US)
    assert "i" in {each.instance for each in (await hub.claim()).turns}, "the time stands still"


@proves(Property.TIMERS)
async def test_the_clock_never_runs_backwards(hub: Driver) -> None:
    await hub.register()
    await hub.create()
    now_us = await _now_us(hub)
    hub.harness.advance_clock(-1000 * SECOND_US)
    await hub.register()
    assert await _now_us(hub) >= now_us
    await hub.create("j")
    assert (await hub.existing("j")).created_us >= now_us
