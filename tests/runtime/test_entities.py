"""Entities end to end: locks, delayed signals, what operations send, deletion, and what a client sees of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core import (
    DurableClient,
    DurableEngine,
    EntityContext,
    EntityId,
    EntityState,
    LockingRulesViolationError,
    NotRegisteredError,
    OrchestrationContext,
    OrchestrationFailedError,
    TaskFailedError,
)
from durable_core.backend import AbandonWorker
from durable_core.testing import MemoryBackend

SECOND = timedelta(seconds=1)
engine = DurableEngine()


@engine.entity
class Account:
    balance: int = 0

    def add(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def get(self) -> int:
        return self.balance


@engine.entity
class Ledger:
    """Sends on what it is told."""

    entries: list[str]

    def __init__(self) -> None:
        self.entries = []

    def note(self, ctx: EntityContext, text: str) -> None:
        self.entries.append(f"{text} from {ctx.caller or 'nobody'}")

    async def forward(self, ctx: EntityContext, amount: int) -> str:
        ctx.signal_entity(EntityId("account", "forwarded"), Account.add, amount)
        ctx.signal_entity(EntityId("account", "forwarded"), "add", amount, signal_time=timedelta(milliseconds=300))
        started = ctx.schedule_new_orchestration(transfer, "forwarded", "savings", 1, instance_id=f"from-ledger-{amount}")
        self.entries.append(started)
        if amount < 0:
            raise ValueError("nothing of this is kept")
        return started

    def forget(self, ctx: EntityContext) -> None:
        ctx.delete_state()

    def fill(self, size: int) -> None:
        self.entries.append("x" * size)

    def answer(self, size: int) -> str:
        return "x" * size


@engine.entity(name="diary")
class WithItsOwnDelete:
    pages: int = 3

    def delete(self) -> str:
        self.pages -= 1
        return f"{self.pages} left"


@engine.orchestrator
async def transfer(ctx: OrchestrationContext, source: str, target: str, amount: int) -> bool:
    here, there = ctx.entity(Account, source), ctx.entity(Account, target)
    async with ctx.lock_entities(here, there):
        before = await asyncio.gather(here.call(Account.get), there.call(Account.get))
        await here.call(Account.add, -amount)
        await asyncio.sleep(0.001)
        await there.call(Account.add, amount)
        after = await asyncio.gather(here.call(Account.get), there.call(Account.get))
        return (before[0] - amount, before[1] + amount) == (after[0], after[1])


@engine.orchestrator
async def hold(ctx: OrchestrationContext, how: str) -> str:
    async with ctx.lock_entities(EntityId("account", "held"), EntityId("account", "held too")):
        ctx.set_custom_status("locked")
        if how == "fails":
            raise ValueError("inside")
        if how == "continues":
            ctx.continue_as_new("returns")
            return ""
        if how == "waits":
            await ctx.wait_for_external_event("go on")
    return how


@engine.orchestrator
async def holds_in_the_background(ctx: OrchestrationContext, again: bool) -> None:
    """Ends while a task of its is inside the section."""

    async def section() -> None:
        async with ctx.lock_entities(EntityId("account", "held"), EntityId("account", "held too")):
            await ctx.wait_for_external_event("never")

    task = asyncio.create_task(section())
    await ctx.wait_for_external_event("end")
    assert not task.done()
    if again:
        ctx.continue_as_new(False)


@engine.orchestrator
async def gives_up(ctx: OrchestrationContext) -> str:
    try:
        async with asyncio.timeout(0.2), ctx.lock_entities(EntityId("account", "free"), EntityId("account", "held")):
            return "inside"
    except TimeoutError:
        return "gave up"


@engine.orchestrator
async def thinks_better_of_it(ctx: OrchestrationContext) -> None:
    async def section() -> None:
        async with ctx.lock_entities(EntityId("account", "unwanted")):
            pass

    task = asyncio.create_task(section())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@engine.orchestrator
async def count(ctx: OrchestrationContext, key: str) -> int:
    return await ctx.entity(Account, key).call(Account.add, 1)


async def entity_state(client: DurableClient, key: str) -> EntityState | None:
    return next((state for state in [state async for state in client.query_entities(name="account", key_prefix=key)]), None)


async def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.005)
        return found


async def is_locked(client: DurableClient, key: str = "held too") -> bool:
    state = await entity_state(client, key)
    return state is not None and state.locked_by is not None


# ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_transfers_in_all_directions_at_once_see_no_other_in_between(url, run):
    """Without the lock the balances read before and after would differ by others' transfers."""

    async def main():
        async with engine.open(url):
            keys = ["a", "b", "c"]
            pairs = [(source, target) for source in keys for target in keys if source != target]
            start = engine.client.schedule_new_orchestration
            handles = [await start(transfer, source, target, number) for number, (source, target) in enumerate(pairs * 5, 1)]
            whole = [await handle.result(40 * SECOND) for handle in handles]
            totals = [(await engine.client.get_entity(Account, key)).balance for key in keys]
            for key in keys:
                assert await (await start(count, key)).result(20 * SECOND)
            return whole, sum(totals)

    assert run(main) == ([True] * 30, 0)


def test_a_locked_entity_serves_others_when_it_is_unlocked(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            holder = await client.schedule_new_orchestration(hold, "waits", instance_id="holder")
            await until(lambda: is_locked(client))
            waiting = await client.schedule_new_orchestration(count, "held")
            await client.signal_entity(EntityId("account", "held"), Account.add, 10)
            backlog = await until(lambda: _backlog(client, 2))
            still = (await client.get_entity(Account, "held") or Account()).balance
            await client.raise_event(holder.id, "go on")
            assert await holder.result(20 * SECOND) == "waits"
            assert await waiting.result(20 * SECOND) in (1, 11)
            await until(lambda: _balance(client, "held", 11))
            return backlog.locked_by, still

    assert run(main) == ("holder", 0)


async def _backlog(client: DurableClient, count: int) -> EntityState | None:
    state = await entity_state(client, "held")
    return state if state is not None and state.id.key == "held" and state.backlog == count else None


async def _balance(client: DurableClient, key: str, balance: int) -> bool:
    account = await client.get_entity(Account, key)
    return account is not None and account.balance == balance


async def locks_are_free(client: DurableClient) -> None:
    for key in ("held", "held too"):
        await (await client.schedule_new_orchestration(count, key)).result(20 * SECOND)


@pytest.mark.parametrize("how", ["returns", "fails", "continues"])
def test_the_end_of_a_section_unlocks(url, run, how):
    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(hold, how)
            if how == "fails":
                with pytest.raises(OrchestrationFailedError, match="inside"):
                    await handle.result(20 * SECOND)
            else:
                assert await handle.result(20 * SECOND) == "returns"
            await locks_are_free(engine.client)

    run(main)


def test_giving_up_a_lock_that_another_has_takes_the_request_back(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            holder = await client.schedule_new_orchestration(hold, "waits", instance_id="holder")
            await until(lambda: is_locked(client))
            waiting = await client.schedule_new_orchestration(gives_up)
            assert await waiting.result(20 * SECOND) == "gave up"
            await client.raise_event(holder.id, "go on")
            await holder.result(20 * SECOND)
            for key in ("held", "free"):
                await (await client.schedule_new_orchestration(count, key)).result(5 * SECOND)

    run(main)


def test_a_request_that_is_given_up_in_its_own_turn_reaches_nobody(url, run):
    async def main():
        async with engine.open(url):
            await (await engine.client.schedule_new_orchestration(thinks_better_of_it)).result(20 * SECOND)
            assert await entity_state(engine.client, "unwanted") is None

    run(main)


@pytest.mark.parametrize("again", [False, True])
def test_an_end_while_another_task_is_inside_unlocks(url, run, again):
    async def main():
        async with engine.open(url):
            client = engine.client
            handle = await client.schedule_new_orchestration(holds_in_the_background, again)
            await until(lambda: is_locked(client))
            await client.raise_event(handle.id, "end")
            if again:
                await until(lambda: is_locked(client))
                await client.raise_event(handle.id, "end")
            await handle.result(20 * SECOND)
            await locks_are_free(client)

    run(main)


@pytest.mark.parametrize("how", ["terminate", "purge", "replace", "terminate without the code", "terminate as a child"])
def test_removing_the_holder_unlocks(url, run, how):
    stranger = DurableEngine()

    @engine.orchestrator(name=f"parent of {how} {url}")
    async def parent(ctx: OrchestrationContext) -> str:
        return await ctx.call_sub_orchestrator(hold, "waits", instance_id="holder")

    for each in (Account, count):
        stranger.register(each)

    async def main():
        async with engine.open(url) as opened:
            client = opened.client
            if how == "terminate as a child":
                top = await client.schedule_new_orchestration(parent)
            else:
                await client.schedule_new_orchestration(hold, "waits", instance_id="holder")
            await until(lambda: is_locked(client))
            if how == "terminate":
                await client.terminate("holder")
            elif how == "purge":
                await client.purge("holder", force=True)
            elif how == "replace":
                await client.schedule_new_orchestration(count, "other", instance_id="holder", reuse_policy="terminate_and_replace")
            elif how == "terminate as a child":
                await client.terminate(top.id)
            if how != "terminate without the code":
                await locks_are_free(client)
                return
        async with stranger.open(url) as opened:
            await opened.client.terminate("holder")
            await locks_are_free(opened.client)

    if how == "terminate without the code" and url.startswith("memory"):
        pytest.skip("a memory store ends with its engine")
    run(main)


def test_a_purged_child_in_a_section_still_tells_its_parent(url, run):
    """Its obituaries are replaced when it locks: the one for the parent has to stay among them."""

    @engine.orchestrator(name=f"mother {url}")
    async def parent(ctx: OrchestrationContext) -> str:
        try:
            return await ctx.call_sub_orchestrator(hold, "waits", instance_id="held child")
        except TaskFailedError as error:
            return error.details.type

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(parent)
            await until(lambda: is_locked(engine.client))
            await engine.client.purge("held child", force=True)
            return await handle.result(20 * SECOND)

    assert run(main).endswith("InstanceNotFoundError")


def test_a_section_survives_the_loss_of_its_worker(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def main():
        async with engine.open(url):
            await engine.client.schedule_new_orchestration(hold, "waits", instance_id="holder")
            waiting = await engine.client.schedule_new_orchestration(count, "held", instance_id="waiting")
            await until(lambda: is_locked(engine.client))
            await engine.backend.apply([AbandonWorker(engine._session.worker.id)])
        async with engine.open(url):
            assert await is_locked(engine.client)
            await engine.client.raise_event("holder", "go on")
            assert await engine.client.get_handle(hold, "holder").result(20 * SECOND) == "waits"
            assert await engine.client.get_handle(count, waiting.id).result(20 * SECOND) == 1

    run(main)


def test_breaking_the_rules_fails_and_unlocks(url, run):
    @engine.orchestrator(name=f"breaks {url}")
    async def breaks(ctx: OrchestrationContext) -> None:
        async with ctx.lock_entities(ctx.entity(Account, "held"), ctx.entity(Account, "held too")):
            await ctx.call_sub_orchestrator(count, "x")

    async def main():
        async with engine.open(url):
            with pytest.raises(OrchestrationFailedError) as caught:
                await (await engine.client.schedule_new_orchestration(breaks)).result(20 * SECOND)
            assert caught.value.details is not None
            assert caught.value.details.is_caused_by(LockingRulesViolationError)
            await locks_are_free(engine.client)

    run(main)


# ── what operations send ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_signals_and_starts_and_takes_it_all_back_if_it_fails(url, run):
    @engine.orchestrator(name=f"forwards {url}")
    async def forwards(ctx: OrchestrationContext) -> list[str]:
        ledger = ctx.entity(Ledger, "main")
        found = [await ledger.call(Ledger.forward, 5)]
        try:
            await ledger.call(Ledger.forward, -7)
        except TaskFailedError as error:
            found.append(error.details.message)
        await ledger.call(Ledger.note, "done")
        return found

    async def main():
        async with engine.open(url):
            client = engine.client
            found = await (await client.schedule_new_orchestration(forwards, instance_id="f")).result(20 * SECOND)
            assert await client.get_handle(transfer, "from-ledger-5").result(20 * SECOND)
            await until(lambda: _balance(client, "forwarded", 9))
            assert await client.get_instance("from-ledger--7") is None
            return found, (await client.get_entity(Ledger, "main")).entries

    assert run(main) == (["from-ledger-5", "nothing of this is kept"], ["from-ledger-5", "done from f"])


def test_signals_are_delivered_when_they_are_due(url, run):
    wait = timedelta(milliseconds=400)

    @engine.orchestrator(name=f"signals later {url}")
    async def signals_later(ctx: OrchestrationContext) -> None:
        ctx.entity(Account, "later").signal_at(ctx.current_utc_datetime + wait, Account.add, 1)
        ctx.signal_entity(EntityId("account", "later"), "add", 10, signal_time=wait)

    async def main():
        async with engine.open(url):
            start = time.monotonic()
            await engine.client.signal_entity(EntityId("account", "later"), Account.add, 100, signal_time=wait)
            await engine.client.signal_entity(EntityId("account", "later"), "add", 1000, signal_time=datetime.now(UTC) + wait)
            await (await engine.client.schedule_new_orchestration(signals_later)).result(20 * SECOND)
            if time.monotonic() - start < 0.3:  # a slow machine may have come too late to look
                assert (await engine.client.get_entity(Account, "later") or Account()).balance == 0
            await until(lambda: _balance(engine.client, "later", 1111))
            return time.monotonic() - start

    assert run(main) >= 0.39


@pytest.mark.parametrize("when", [datetime(2030, 1, 1), "tomorrow", timedelta(days=365 * 8_000)])  # noqa: DTZ001
def test_a_signal_time_that_means_nothing_is_refused(run, when):
    async def main():
        async with engine.open("memory://"):
            with pytest.raises((TypeError, ValueError, OverflowError), match="a signal"):
                await engine.client.signal_entity(EntityId("account", "k"), "add", 1, signal_time=when)
            assert [state async for state in engine.client.query_entities()] == []

    run(main)


def test_an_operation_that_is_not_there_is_refused_where_the_entity_is_known(run):
    async def main():
        async with engine.open("memory://"):
            with pytest.raises(NotRegisteredError, match="it has: add, delete, get"):
                await engine.client.signal_entity(EntityId("account", "k"), "substract", 1)

    run(main)


# ── deletion, queries, cleaning ───────────────────────────────────────────────────────────────────────────────────


def test_delete_is_there_without_being_written(url, run):
    @engine.orchestrator(name=f"deletes {url}")
    async def deletes(ctx: OrchestrationContext) -> list[Any]:
        account, diary = ctx.entity(Account, "doomed"), ctx.entity(WithItsOwnDelete, "k")
        await account.call(Account.add, 5)
        await account.delete()
        found: list[Any] = [await account.call(Account.get)]
        await account.delete()
        await ctx.entity(Ledger, "k").call(Ledger.note, "x")
        await ctx.entity(Ledger, "k").call(Ledger.forget)
        return [*found, await diary.call(WithItsOwnDelete.delete)]

    async def main():
        async with engine.open(url):
            client = engine.client
            found = await (await client.schedule_new_orchestration(deletes)).result(20 * SECOND)
            assert await client.get_entity(Account, "doomed") is None
            assert await client.get_entity(Ledger, "k") is None
            assert (await client.get_entity(WithItsOwnDelete, "k")).pages == 2
            states = {str(state.id): state.has_state async for state in client.query_entities()}
            assert states == {"@account@doomed": False, "@ledger@k": False, "@diary@k": True}
            await client.signal_entity(EntityId("account", "doomed"), Account.add, 1, signal_time=timedelta(days=1))
            removed = (await client.clean_entity_storage()).empty_entities_removed
            left = [str(state.id) async for state in client.query_entities()]
            return found, removed, left

    # The account has a message that is due tomorrow.
    assert run(main) == ([0, "2 left"], 1, ["@account@doomed", "@diary@k"])


def test_entities_are_found_by_name_key_and_time(url, run):
    async def main():
        async with engine.open(url):
            client = engine.client
            for key in ("a1", "a2", "b1"):
                await client.signal_entity(EntityId("Account", key), Account.add, len(key))
            await client.signal_entity(EntityId("Ledger", "a1"), Ledger.note, "x")
            await until(lambda: _all_served(client, 4))

            async def keys(**filters: Any) -> list[str]:
                return [state.id.key async for state in client.query_entities(page_size=2, **filters)]

            assert await keys(name="ACCOUNT") == ["a1", "a2", "b1"]
            assert await keys(name="account", key_prefix="a") == ["a1", "a2"]
            assert len(await keys()) == 4
            assert await keys(updated_to=datetime(2020, 1, 1, tzinfo=UTC)) == []
            assert len(await keys(updated_from=datetime(2020, 1, 1, tzinfo=UTC))) == 4
            with pytest.raises(ValueError, match="needs the entity's name"):
                await keys(key_prefix="a")
            [state] = [state async for state in client.query_entities(name="account", key_prefix="b")]
            assert state.state_as(Account).balance == 2
            assert [state async for state in client.query_instances()] == []

    run(main)


async def _all_served(client: DurableClient, count: int) -> bool:
    return [state.has_state async for state in client.query_entities()] == [True] * count


def test_a_state_or_result_over_the_limit_fails_the_operation_and_is_rolled_back(run):
    """Nothing is sent to the store that it would refuse for ever."""

    @engine.orchestrator(name="fills")
    async def fills(ctx: OrchestrationContext) -> list[str]:
        found, ledger = [], ctx.entity(Ledger, "full")
        await ledger.call(Ledger.note, "kept")
        for operation in (Ledger.fill, Ledger.answer):
            try:
                await ledger.call(operation, 2_000)
            except TaskFailedError as error:
                found.append(f"{error.details.type}: {error.details.message[:60]}")
        return found

    backend = MemoryBackend(capabilities=replace(MemoryBackend().capabilities, max_payload_bytes=4_000))

    async def main():
        async with engine.open(backend=backend):
            found = await (await engine.client.schedule_new_orchestration(fills, instance_id="f")).result(20 * SECOND)
            return found, (await engine.client.get_entity(Ledger, "full")).entries

    found, entries = run(main)
    assert [text.partition(" has ")[0] for text in found] == [
        "durable_core.errors.PayloadTooLargeError: the state of entity '@ledger@full'",
        "durable_core.errors.PayloadTooLargeError: the result of operation ledger.answer",
    ]
    assert entries == ["kept from f"]
