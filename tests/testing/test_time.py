"""Virtual time: months in milliseconds, every moment exact, and no jump while anything is under way."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from durable_core import InstanceStatus
from durable_core.testing import Environment, NothingToWaitForError
from durable_core.testing.clock import VirtualClock
from tests.testing import programs
from tests.testing.programs import DAY, HOUR, engine
from tests.testing.running import in_a_loop

FAKES = {"charge_card": lambda customer, cents=100: f"{customer} paid {cents}", "send_mail": lambda to: True}
START = datetime(2030, 1, 1, tzinfo=UTC)


@engine.testing(activities=FAKES, now=START)
async def test_thirty_days_take_milliseconds(env: Environment) -> None:
    began = time.perf_counter()
    handle = await env.client.schedule_new_orchestration(programs.subscription, "ada")
    assert await handle.result() == "ada paid 100"
    wall_s = time.perf_counter() - began
    print(f"30 days took {wall_s * 1e3:.1f} ms")  # noqa: T201
    assert wall_s < 1
    assert env.now == START + 30 * DAY


@engine.testing(activities=FAKES, now=START)
async def test_step_by_step(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.subscription, "ada")
    await env.advance(29 * DAY)
    state = await handle.state()
    assert env.now == START + 29 * DAY
    assert state is not None
    assert state.runtime_status is InstanceStatus.RUNNING
    await env.advance(DAY - timedelta(microseconds=1))
    state = await handle.state()
    assert state is not None
    assert state.runtime_status is InstanceStatus.RUNNING
    await env.advance(timedelta(microseconds=1))
    state = await handle.state()
    assert state is not None
    assert state.output_as(str) == "ada paid 100"
    assert state.last_updated_at == env.now == START + 30 * DAY


@engine.testing(now=START)
async def test_time_stands_still_while_nobody_waits(env: Environment) -> None:
    await env.client.schedule_new_orchestration(programs.approval, instance_id="a")
    await asyncio.sleep(0.05)
    await env.advance()
    assert env.now == START
    [event] = [event for event in await env.client.get_history("a") if type(event).__name__ == "TimerCreated"]
    assert event.due_us == round((START + 7 * DAY).timestamp() * 1e6)  # type: ignore[union-attr]


@pytest.mark.parametrize("hours", [[3, 1, 2], [1, 1, 0.5], [1 / 3, 2 / 3, 1e-9, 24 * 365 * 50]])
@engine.testing()
async def test_timers_fire_in_order_at_their_due_time(env: Environment, hours: list[float]) -> None:
    fired = await (await env.client.schedule_new_orchestration(programs.moments, hours)).result()
    microsecond = 1 / 3.6e9
    assert fired == [pytest.approx(max(time, microsecond), abs=microsecond) for time in sorted(hours)]


@engine.testing()
async def test_instances_share_one_time(env: Environment) -> None:
    late, early = [await env.client.schedule_new_orchestration(programs.moments, [hours]) for hours in (5.0, 2.0)]
    await early.result()
    state = await late.state()
    assert state is not None
    assert not state.is_ended
    assert await late.result() == [5.0]


@engine.testing(activities={"charge_card": FAKES["charge_card"]})
async def test_retries_back_off_for_hours(env: Environment) -> None:
    assert await (await env.client.schedule_new_orchestration(programs.retries)).result() == 0


@in_a_loop
async def test_a_fake_that_fails_is_retried_with_back_off() -> None:
    attempts: list[datetime] = []

    async def flaky(customer: str, cents: int = 100) -> str:
        attempts.append(env.now)
        if len(attempts) < 5:
            raise ConnectionError("no line")
        return "paid"

    async with engine.testing(activities={programs.charge_card: flaky}) as env:
        assert await (await env.client.schedule_new_orchestration(programs.retries)).result() == 15
        assert [moment - attempts[0] for moment in attempts] == [0 * HOUR, 1 * HOUR, 3 * HOUR, 7 * HOUR, 15 * HOUR]


@engine.testing()
async def test_a_timeout_wins_over_an_event_that_never_comes(env: Environment) -> None:
    began = env.now
    assert await (await env.client.schedule_new_orchestration(programs.approval)).result() == "nobody cared"
    assert env.now == began + 7 * DAY


@engine.testing()
async def test_an_event_in_time_wins_over_the_timeout(env: Environment) -> None:
    began = env.now
    handle = await env.client.schedule_new_orchestration(programs.approval)
    await env.advance(6 * DAY)
    await env.client.raise_event(handle.id, "Approved", "fine")
    assert await handle.result() == "fine"
    assert env.now == began + 6 * DAY


@engine.testing()
async def test_somebody_may_act_beside_the_one_who_waits(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.approval)

    async def approve_later() -> None:
        await env.sleep(3 * DAY)
        await env.client.raise_event(handle.id, "Approved", "late")

    began = env.now
    result, _ = await asyncio.gather(handle.result(), approve_later())
    assert result == "late"
    assert env.now == began + 3 * DAY


@engine.testing()
async def test_when_advance_returns_all_that_fell_due_has_happened(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.approval)

    async def approve_later() -> None:
        await env.sleep(DAY)
        await env.client.raise_event(handle.id, "Approved", "in time")

    approving = asyncio.create_task(approve_later())
    await env.advance(DAY)
    state = await handle.state()
    assert approving.done()
    assert state is not None
    assert state.output_as(str) == "in time"


@engine.testing()
async def test_whoever_acts_beside_gets_through_many_calls_at_one_moment(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.approval)

    async def look(depth: int) -> object:
        """The answer comes through many tasks."""
        return await asyncio.create_task(look(depth - 1)) if depth else await handle.state()

    async def approve() -> None:
        for _ in range(20):
            await asyncio.wait_for(asyncio.gather(look(3), handle.state()), 60)
        await env.client.raise_event(handle.id, "Approved", "at once")

    began = env.now
    result, _ = await asyncio.gather(handle.result(), approve())
    assert result == "at once"
    assert env.now == began


@in_a_loop
async def test_an_activity_may_wait_for_an_orchestration() -> None:
    async def fake(*args: object) -> str:
        return str(await (await engine.client.schedule_new_orchestration(programs.moments, [5.0])).result())

    async with engine.testing(activities={programs.charge_card: fake}) as env:
        assert await (await env.client.schedule_new_orchestration(programs.careful)).result() == "[5.0]"


@in_a_loop
async def test_it_is_told_what_time_stands_still_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("durable_core.testing.environment._TOLD_AFTER_S", 0.05)
    async with engine.testing() as env:
        await (await env.client.schedule_new_orchestration(programs.works_long, 0.3)).result()
    assert [record.getMessage() for record in caplog.records] == ["time has stood still for 0 s, during: work_in_thread"]


@engine.testing()
async def test_a_delayed_start(env: Environment) -> None:
    when = env.now + 90 * DAY
    handle = await env.client.schedule_new_orchestration(programs.started_at, start_at=when)
    await env.advance(89 * DAY)
    state = await handle.state()
    assert state is not None
    assert state.runtime_status is InstanceStatus.PENDING
    assert await handle.result() == when == env.now


@engine.testing()
async def test_a_child(env: Environment) -> None:
    assert await (await env.client.schedule_new_orchestration(programs.parent, [2.0, 1.0])).result() == [1.0, 2.0]


@in_a_loop
async def test_a_year_of_days_by_continue_as_new() -> None:
    charged: list[int] = []

    def charge(customer: str, day: int = 0) -> str:
        charged.append(day)
        return "paid"

    async with engine.testing(activities={"charge_card": charge}) as env:
        began = env.now
        assert await (await env.client.schedule_new_orchestration(programs.daily, "ada", 1, 365)).result() == 365
        assert env.now == began + 365 * DAY
    assert charged == list(range(1, 366))


@engine.testing()
async def test_an_entity(env: Environment) -> None:
    began = env.now
    assert await (await env.client.schedule_new_orchestration(programs.counts)).result() == [1, 3]
    assert env.now == began + 2 * DAY
    counter = await env.client.get_entity(programs.Counter, "c")
    assert counter is not None
    assert counter.value == 3


@engine.testing()
async def test_time_stands_still_during_real_work(env: Environment) -> None:
    """In a thread, in a process, and on the loop."""
    began = env.now
    name, pid, real = await (await env.client.schedule_new_orchestration(programs.works)).result()
    assert "activity" in name
    assert int(pid)
    assert real == "real"
    assert env.now == began + 365 * DAY


# ── clients that wait ────────────────────────────────────────────────────────────────────────────────────────────


@engine.testing()
async def test_the_time_limit_of_a_client_is_virtual(env: Environment) -> None:
    began = env.now
    handle = await env.client.schedule_new_orchestration(programs.moments, [24.0])
    for limit in (timedelta(), -HOUR):
        with pytest.raises(TimeoutError):
            await handle.result(timeout=limit)
    assert env.now == began
    with pytest.raises(TimeoutError):
        await handle.result(timeout=HOUR)
    assert env.now == began + HOUR
    with pytest.raises(TimeoutError):
        await env.client.wait_for_completion(handle.id, timeout=HOUR)
    state = await env.client.wait_for_completion(handle.id, timeout=22 * HOUR)
    assert state.runtime_status is InstanceStatus.COMPLETED
    assert env.now == began + DAY


@engine.testing()
async def test_nothing_left_to_wait_for(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.waits_for_ever, instance_id="estragon")
    with pytest.raises(
        NothingToWaitForError,
        match=r"nothing is left to wait for.*'estragon' \(waits_for_ever, RUNNING\) waits for the external event 'Godot' at .*programs\.py:\d+",
    ):
        await handle.result()
    await env.client.raise_event(handle.id, "Godot")
    await handle.result()


@engine.testing()
async def test_a_child_that_is_left_waiting_is_named(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.parent_of_waiting)
    with pytest.raises(NothingToWaitForError, match=r"'child' \(waits_for_ever, RUNNING\) waits for the external event 'Godot'"):
        await handle.result()


@engine.testing()
async def test_an_orchestration_that_cannot_go_on_is_not_waited_for(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.stuck)
    with pytest.raises(NothingToWaitForError, match="cannot go on: OrchestrationStuckError"):
        await handle.result()


@engine.testing()
async def test_nor_is_one_that_is_suspended(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.approval)
    await env.client.suspend(handle.id)
    with pytest.raises(NothingToWaitForError, match=r"\(approval, SUSPENDED\)"):
        await handle.result()
    await env.client.resume(handle.id)
    assert await handle.result() == "nobody cared"


@engine.testing()
async def test_an_eternal_orchestration_has_no_result(env: Environment) -> None:
    handle = await env.client.schedule_new_orchestration(programs.eternal)
    with pytest.raises(NothingToWaitForError, match="within 100 years"):
        await handle.result()


@engine.testing()
async def test_time_passes_forwards_and_not_for_ever(env: Environment) -> None:
    with pytest.raises(ValueError, match="forwards"):
        await env.advance(-DAY)
    with pytest.raises(ValueError, match="too far"):
        await env.advance(timedelta.max)


# ── the clock ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ranks_of_one_moment_come_one_jump_each() -> None:
    clock, told = VirtualClock(0), list[str]()
    for rank, name in [(2, "last"), (0, "engine"), (1, "beside"), (0, "engine too")]:
        clock.call_later(1, partial(told.append, name), rank)
    clock.call_later(0.5, partial(told.append, "cancelled")).cancel()
    for expected in (["engine", "engine too"], ["beside"], ["last"]):
        told.clear()
        assert clock.jump()
        assert told == expected
    assert not clock.jump()
    assert clock.now_us() == 1_000_000
