"""Critical sections, as the replay machine sees them; what an entity does with a lock is in tests/core/test_mailbox.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable_core import LockingRulesViolationError, OrchestrationContext
from durable_core.definitions.entity import EntityId
from durable_core.events import (
    CommandCancelled,
    EntityCalled,
    EntityLockRequested,
    EntityOperationCompleted,
    EntitySignaled,
    EntityUnlocked,
    ExecutionCompleted,
    ExecutionTerminated,
    TimerCreated,
    TimerFired,
)
from durable_core.replay.locks import outstanding_locks
from tests.core.replay.driver import SECOND, START_US, Driven
from tests.core.replay.programs import Counter, child, seconds

KNOWN = (Counter, child)


async def in_section(ctx: OrchestrationContext) -> int:
    a, b = ctx.entity(Counter, "a"), ctx.entity(Counter, "b")
    async with ctx.lock_entities(b, a, EntityId("COUNTER", "b")):
        return await a.call(Counter.add, 1)


def test_locks_are_asked_for_one_by_one_in_order_and_given_back_in_the_other() -> None:
    with Driven(in_section, known=KNOWN) as driven:
        assert driven.asked == [EntityLockRequested(1, "@counter@a")]
        driven.apply(EntityOperationCompleted(1, None))
        assert driven.asked == [EntityLockRequested(2, "@counter@b")]
        driven.apply(EntityOperationCompleted(2, None))
        assert driven.asked == [EntityCalled(3, "@counter@a", "add", "1", 1)]
        assert driven.turn.locks == ((1, "@counter@a"), (2, "@counter@b"))
        driven.apply(EntityOperationCompleted(3, "7"))
        assert driven.asked == [EntityUnlocked(2, "@counter@b"), EntityUnlocked(1, "@counter@a")]
        assert driven.result == 7
        assert not driven.turn.locks


@pytest.mark.parametrize("answers", range(4))
def test_a_replay_is_in_the_same_section(answers: int) -> None:
    with Driven(in_section, known=KNOWN) as driven:
        for number in range(1, answers + 1):
            driven.apply(EntityOperationCompleted(number, "1" if number == 3 else None))
        with Driven(in_section, known=KNOWN, history=driven.history) as again:
            assert again.execution.problem is None
            turn = again.execution.take_turn()
            assert turn.locks == driven.turn.locks == outstanding_locks(driven.history)
            assert [len(turn.locks), again.execution.section is not None] == [[1, True], [2, True], [2, True], [0, False]][answers]


async def limited(ctx: OrchestrationContext) -> str:
    try:
        async with asyncio.timeout(5), ctx.lock_entities(EntityId("counter", "a"), EntityId("counter", "b")):
            return "in"
    except TimeoutError:
        async with ctx.lock_entities(EntityId("counter", "c")):
            return "too late"


def test_a_request_that_is_given_up_is_taken_back_with_what_was_locked_before() -> None:
    with Driven(limited, known=KNOWN) as driven:
        assert TimerCreated(1, START_US + 5 * SECOND) in driven.asked
        driven.apply(EntityOperationCompleted(1, None))
        driven.apply(TimerFired(1, START_US + 5 * SECOND))
        assert driven.asked == [
            CommandCancelled("entity", 2),
            EntityUnlocked(2, "@counter@b"),
            EntityUnlocked(1, "@counter@a"),
            EntityLockRequested(3, "@counter@c"),
        ]
        driven.apply(EntityOperationCompleted(2, None))  # the grant was on its way
        assert driven.turn.locks == ((3, "@counter@c"),)
        driven.apply(EntityOperationCompleted(3, None))
        assert driven.result == "too late"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda ctx: ctx.call_sub_orchestrator(child, 1), "call_sub_orchestrator is not allowed while .* inside lock_entities"),
        (lambda ctx: ctx.lock_entities(EntityId("counter", "z")).__aenter__(), "lock_entities is not allowed while"),
        (lambda ctx: ctx.entity(Counter, "z").call(Counter.get), "@counter@z is not among them .@counter@a"),
        (lambda ctx: ctx.call_entity(EntityId("other", "a"), "get"), "@other@a is not among them"),
    ],
)
def test_what_could_deadlock_is_refused(what: Any, message: str) -> None:
    async def breaking(ctx: OrchestrationContext) -> None:
        async with ctx.lock_entities(EntityId("counter", "a"), EntityId("counter", "b")):
            with pytest.raises(LockingRulesViolationError, match=message):
                await what(ctx)
        try:  # outside it is allowed
            await what(ctx)
        except asyncio.CancelledError:
            raise

    with Driven(breaking, known=KNOWN) as driven:
        driven.apply(EntityOperationCompleted(1, None), EntityOperationCompleted(2, None))
        *unlocked, after = driven.asked
        assert unlocked == [EntityLockRequested(2, "@counter@b"), EntityUnlocked(2, "@counter@b"), EntityUnlocked(1, "@counter@a")]
        assert getattr(after, "id", 0) in (1, 3)


def test_signals_are_allowed_to_any_entity() -> None:
    async def signalling(ctx: OrchestrationContext) -> None:
        async with ctx.lock_entities(EntityId("counter", "a")):
            ctx.entity(Counter, "a").signal(Counter.add, 1)
            ctx.entity(Counter, "z").signal_at(seconds(9), Counter.add, 2)

    with Driven(signalling, known=KNOWN) as driven:
        driven.apply(EntityOperationCompleted(1, None))
        assert driven.asked == [
            EntitySignaled(2, "@counter@a", "add", "1", 1),
            EntitySignaled(3, "@counter@z", "add", "2", 1, START_US + 9 * SECOND),
            EntityUnlocked(1, "@counter@a"),
        ]


def test_an_end_within_a_section_leaves_the_locks_to_the_commit() -> None:
    async def leaving(ctx: OrchestrationContext) -> str:
        async def section() -> None:
            async with ctx.lock_entities(EntityId("counter", "a")):
                await asyncio.sleep(100)

        task = asyncio.create_task(section())
        await asyncio.sleep(1)
        return f"{task.done()}"

    with Driven(leaving) as driven:
        driven.apply(EntityOperationCompleted(1, None))
        driven.apply(TimerFired(1, START_US + SECOND))
        assert isinstance(driven.ending, ExecutionCompleted)
        assert (driven.asked, driven.turn.locks) == ([], ((1, "@counter@a"),))


def test_termination_within_a_section_leaves_the_locks_to_the_commit() -> None:
    with Driven(in_section, known=KNOWN) as driven:
        driven.apply(EntityOperationCompleted(1, None))
        driven.apply(ExecutionTerminated("null"))
        assert (driven.asked, driven.turn.locks) == ([], ((1, "@counter@a"), (2, "@counter@b")))


def test_no_entity_is_a_section_too() -> None:
    async def empty(ctx: OrchestrationContext) -> str:
        async with ctx.lock_entities():
            return "in"

    with Driven(empty) as driven:
        assert (driven.result, driven.asked) == ("in", [])
