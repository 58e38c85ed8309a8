"""A connection that breaks in the middle of a call: whoever made it submits it again until it is answered, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, cast

from durable_conformance.driver import Driver, after, ended
from durable_conformance.faults import exercised
from durable_conformance.harness import Cuttable
from durable_conformance.properties import Property, proves, proving, requires
from durable_core.backend import OutcomeStatus
from durable_core.errors import StoreUnavailableError

pytestmark = requires("cut_connection")

T = TypeVar("T")
_PATIENCE_S = 10.0
_ROUNDS = 10


async def _cut_during(hub: Driver, call: Callable[[], Awaitable[T]], dice: random.Random) -> T:
    """Its answer, or that of the same call made again."""
    running = asyncio.ensure_future(call())
    await asyncio.sleep(dice.choice([0, dice.uniform(0, 0.003)]))
    await cast(Cuttable, hub.harness).cut_connection(hub.backend)
    exercised["connection cut"] += 1
    try:
        return await running
    except StoreUnavailableError:  # and nothing else: what a driver says of it is translated
        return await _until_answered(call)


async def _until_answered(call: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(0.01)


@proves(Property.PROGRESS)
async def test_in_a_claim(hub: Driver, dice: random.Random) -> None:
    await hub.register()
    for number in range(_ROUNDS):
        await _until_answered(partial(hub.one, hub.creation(f"i{number}")))
        claim = await _cut_during(hub, partial(hub.claim, claim_id=f"broken {number}"), dice)
        assert [turn.instance for turn in claim.turns] == [f"i{number}"]
        with proving(Property.LEASE):
            assert (await _until_answered(hub.claim)).turns == (), "it was handed out a second time"
        await _until_answered(partial(hub.one, hub.turn(claim.turns[0], record=ended())))


@proves(Property.RETRY)
async def test_in_a_commit(hub: Driver, dice: random.Random) -> None:
    turn = await hub.started()
    for number in range(_ROUNDS):
        command = hub.turn(turn, append=str(number).encode(), append_count=1, hold_us=1 << 40)
        outcome = await _cut_during(hub, partial(hub.one, command), dice)
        assert outcome.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED)
        turn = after(turn)
        with proving(Property.HISTORY):
            assert await _until_answered(hub.history) == [str(done).encode() for done in range(number + 1)]


@proves(Property.CONSERVATION)
async def test_in_a_read(hub: Driver, dice: random.Random) -> None:
    await hub.running()
    before = await hub.dump()
    for _ in range(_ROUNDS):
        assert await _cut_during(hub, hub.dump, dice) == before


@requires("many_handles")
@proves(Property.DEAF)
async def test_of_a_listener(hub: Driver) -> None:
    """It hears again of what others write."""
    other = await hub.harness.open()
    hints = aiter(hub.backend.wakeups())
    for _ in range(3):
        waiting = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(0)
        await cast(Cuttable, hub.harness).cut_connection(hub.backend)
        exercised["connection cut"] += 1
        async with asyncio.timeout(_PATIENCE_S):
            while not waiting.done():
                await hub.one(hub.creation(hub.fresh("i")), on=other)
                await asyncio.wait([waiting], timeout=0.05)
        await waiting
