"""Which calls have the same idempotency key: a service that deduplicates by it must do the work of a call once, and that of two calls twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable_core import ActivityContext, OrchestrationContext, RetryPolicy, TaskFailedError, activity, orchestrator
from durable_core.backend import AbandonWorker
from tests.runtime.support import PATIENCE, engine_with, until

MS = timedelta(milliseconds=1)
RETRY = RetryPolicy(max_number_of_attempts=3, first_retry_interval=MS)


class Bank:
    """Charges once for each key. ``seen`` are (key, attempt key, attempt, delivery)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int]] = []
        self.charged: dict[str, int] = {}

    def charge(self, ctx: ActivityContext, amount: int) -> None:
        self.seen.append((ctx.idempotency_key, ctx.attempt_key, ctx.attempt, ctx.delivery))
        self.charged.setdefault(ctx.idempotency_key, amount)


def test_a_bank_that_times_out_after_charging_charges_once(url, run):
    bank = Bank()

    @activity(retry=RETRY)
    async def charge(ctx: ActivityContext, amount: int) -> int:
        bank.charge(ctx, amount)
        if len(bank.seen) < 3:
            raise TimeoutError("the bank has charged, and its answer is late")
        return amount

    @orchestrator
    async def order(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(charge, 10)

    engine = engine_with(charge, order)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(order)).result(PATIENCE)

    assert run(main) == 10
    assert len(bank.seen) == 3
    assert list(bank.charged.values()) == [10]


def test_the_attempts_of_a_call_have_one_key_also_over_a_restart_and_no_other_call_has_it(tmp_path, run):
    """Two calls side by side, so that their attempts are not numbered one after the other; the worker that runs the second attempt of one is
    given up, as one that died."""
    bank = Bank()
    cut = asyncio.Event()

    @activity
    async def charge(ctx: ActivityContext, amount: int) -> None:
        bank.charge(ctx, amount)
        if amount == 10 and ctx.attempt == 2 and not cut.is_set():
            cut.set()
            await asyncio.Event().wait()
        if ctx.attempt < 3:
            raise TimeoutError("late")

    @orchestrator
    async def order(ctx: OrchestrationContext, generation: int) -> None:
        await asyncio.gather(*(ctx.call_activity(charge, amount, retry=RETRY) for amount in (10, 20)))
        if generation == 1:
            ctx.continue_as_new(2)

    engine = engine_with(charge, order, drain_s=0.05)

    async def main():
        async with engine.open(f"sqlite:///{tmp_path / 'store.db'}"):
            await engine.client.schedule_new_orchestration(order, 1, instance_id="order")
            await until(lambda: cut.is_set() and len(bank.seen) == 5)
            await engine.backend.apply([AbandonWorker(engine._session.worker.id)])
        async with engine.open(f"sqlite:///{tmp_path / 'store.db'}"):
            await engine.client.get_handle(order, "order").result(PATIENCE)

    run(main)
    assert sorted(bank.charged.values()) == [10, 10, 20, 20], "two calls, in each of two generations"
    for key in bank.charged:
        attempts = [(attempt_key, attempt) for its, attempt_key, attempt, _ in bank.seen if its == key]
        assert sorted({attempt for _, attempt in attempts}) == [1, 2, 3]
        assert attempts[0] == (key, 1), "the call is named by its first attempt"
        assert len(set(attempts)) == 3, "each attempt has a key of its own, the same for its deliveries"
    assert len(bank.seen) == 4 * 3 + 1, "of one attempt there were two deliveries"


def test_calling_again_is_another_call(url, run):
    bank = Bank()

    @activity
    async def charge(ctx: ActivityContext, amount: int, key: str) -> None:
        bank.charge(ctx, amount)
        keys.append(key)
        raise TimeoutError("late")

    @orchestrator
    async def order(ctx: OrchestrationContext) -> None:
        key = str(ctx.new_uuid())
        for _ in range(2):
            with pytest.raises(TaskFailedError):
                await ctx.call_activity(charge, 10, key)

    keys: list[str] = []
    engine = engine_with(charge, order)

    async def main():
        async with engine.open(url):
            await (await engine.client.schedule_new_orchestration(order)).result(PATIENCE)

    run(main)
    assert len(bank.charged) == 2
    assert len(keys) == 2
    assert len(set(keys)) == 1, "what to do instead: a key of the orchestrator's own"


def test_a_retried_child_makes_new_calls(url, run):
    """It may have given the money back before it failed."""
    bank = Bank()

    @activity
    async def charge(ctx: ActivityContext, amount: int) -> None:
        bank.charge(ctx, amount)

    @orchestrator
    async def child(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(charge, 10)
        if len(bank.charged) < 3:
            raise TimeoutError("the rest failed")

    @orchestrator
    async def order(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(child, retry=RETRY, instance_id="the-child")

    engine = engine_with(charge, child, order)

    async def main():
        async with engine.open(url):
            await (await engine.client.schedule_new_orchestration(order)).result(PATIENCE)

    run(main)
    assert [(attempt, delivery) for _, _, attempt, delivery in bank.seen] == [(1, 1)] * 3
    assert len(bank.charged) == 3


def test_a_direct_call_has_a_key_of_its_own():
    bank = Bank()

    @activity
    def charge(ctx: ActivityContext, amount: int) -> None:
        bank.charge(ctx, amount)

    charge(10)
    charge(10)
    assert len(bank.charged) == 2
    assert [(attempt, delivery) for _, _, attempt, delivery in bank.seen] == [(1, 1)] * 2
