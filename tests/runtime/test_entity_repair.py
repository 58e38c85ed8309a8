"""What an entity cannot understand is set aside, and a person can repair an entity."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from durable_core import (
    CleanedEntities,
    DurableClient,
    DurableEngine,
    EntityContext,
    EntityId,
    InvalidInstanceIdError,
    OrchestrationContext,
    TaskFailedError,
    entity,
    orchestrator,
)
from durable_core import events as ev
from durable_core.backend import AbandonWorker, CommitTurn, Message, Selectors, SendMessage
from durable_core.codec import encode_event
from durable_core.mailbox import EntitySnapshot, Waiting, encode_snapshot
from tests.runtime.support import PATIENCE, engine_with, until

K = EntityId("counter", "k")


@entity
class Counter:
    value: int = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    async def fall(self, ctx: EntityContext) -> None:
        raise KeyboardInterrupt


@orchestrator
async def add(ctx: OrchestrationContext) -> int:
    return await ctx.entity(Counter, "k").call(Counter.add)


@orchestrator
async def ask(ctx: OrchestrationContext) -> str:
    try:
        return str(await ctx.entity(Counter, "k").call(Counter.add))
    except TaskFailedError as error:
        return str(error.details)


@orchestrator
async def hold(ctx: OrchestrationContext) -> str:
    async with ctx.lock_entities(K):
        await ctx.wait_for_external_event("go on")
    return "held"


@orchestrator
async def send(ctx: OrchestrationContext) -> str:
    try:
        ctx.send_event("@counter@k", "x")
    except InvalidInstanceIdError as error:
        return str(error)
    return "sent"


@entity(name="counter")
class Another:
    """Its ``value`` is no number any more."""

    value: list[int]


def new_engine(*more: Any) -> DurableEngine:
    return engine_with(*more, add, ask, hold, send) if more else engine_with(Counter, add, ask, hold, send)


async def call(client: DurableClient, fn: Any = add) -> Any:
    return await (await client.schedule_new_orchestration(fn)).result(PATIENCE)


async def post(engine: DurableEngine, payload: bytes, *, control: bool = False, id: str = "strange") -> None:
    await engine.backend.apply([SendMessage(Message(id, "@counter@k", payload, None, "a stranger", control=control))])


async def problem(client: DurableClient) -> str | None:
    state = await client.get_entity_state(K)
    return state.problem if state is not None else None


# ── calls on ids of entities ──────────────────────────────────────────────────────────────────────────────────

CALLS: dict[str, tuple[Callable[[DurableClient, str], Awaitable[Any]], str]] = {
    "raise_event": (lambda client, id: client.raise_event(id, "x"), "signal_entity"),
    "terminate": (lambda client, id: client.terminate(id), "purge_entity"),
    "suspend": (lambda client, id: client.suspend(id), "cannot be suspended"),
    "resume": (lambda client, id: client.resume(id), "reset_entity"),
    "restart": (lambda client, id: client.restart(id), "reset_entity"),
    "purge": (lambda client, id: client.purge(id), "purge_entity"),
    "forced purge": (lambda client, id: client.purge(id, force=True), "purge_entity"),
    "get_instance": (lambda client, id: client.get_instance(id), "get_entity"),
    "get_history": (lambda client, id: client.get_history(id), "get_entity"),
    "wait_for_start": (lambda client, id: client.wait_for_start(id), "get_entity"),
    "wait_for_completion": (lambda client, id: client.wait_for_completion(id), "get_entity"),
    "get_handle": (lambda client, id: client.get_handle("add", id).result(), "get_entity"),
    "schedule": (lambda client, id: client.schedule_new_orchestration(add, instance_id=id), "entity"),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_calls_on_the_id_of_an_entity_are_refused_and_say_what_to_use(run, name):
    send_it, advice = CALLS[name]
    engine = new_engine()

    async def main() -> Any:
        async with engine.open("memory://"):
            await call(engine.client)
            with pytest.raises(InvalidInstanceIdError, match=advice):
                await send_it(engine.client, "@counter@k")
            return await call(engine.client)

    assert run(main) == 2


def test_an_orchestration_cannot_send_events_to_an_entity(run):
    engine = new_engine()

    async def main() -> Any:
        async with engine.open("memory://"):
            return await call(engine.client, send)

    assert "signal_entity" in run(main)


# ── what an entity cannot understand ──────────────────────────────────────────────────────────────────────────

STRANGE: dict[str, tuple[bytes, bool, str]] = {
    "terminate": (encode_event(ev.ExecutionTerminated()), True, "ExecutionTerminated"),
    "suspend": (encode_event(ev.ExecutionSuspended()), True, "ExecutionSuspended"),
    "resume": (encode_event(ev.ExecutionResumed()), True, "ExecutionResumed"),
    "event": (encode_event(ev.EventRaised("x", None)), False, "EventRaised"),
    "a reply": (encode_event(ev.TaskCompleted(1, None)), False, "TaskCompleted"),
    "damaged": (b"\xff{", False, "damaged"),
    "no object": (b"5", False, "damaged"),
    "another field": (b'{"type":"OperationRequested","operation":5}', False, "damaged"),
}


@pytest.mark.parametrize("what", list(STRANGE))
@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
def test_what_an_entity_cannot_understand_is_set_aside(url, run, what, locked, caplog):
    """It goes on serving, and a person can see what there was."""
    payload, control, named = STRANGE[what]
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url) as opened:
            client = opened.client
            assert await call(client) == 1
            handle = await client.schedule_new_orchestration(hold) if locked else None
            if locked:
                await until(lambda: is_locked(client))
            await post(engine, payload, control=control)
            told = await until(lambda: problem(client))
            if handle is not None:
                await client.raise_event(handle.id, "go on")
                assert await handle.result(PATIENCE) == "held"
            assert await call(client) == 2
            state = await client.get_entity_state(K)
            assert state is not None
            assert (state.problem, state.parked, len(state.set_aside)) == (told, False, 1)
            await client.reset_entity(K, keep_state=True)
            await until(lambda: no_problem(client))
            return told, await call(client)

    with caplog.at_level(logging.ERROR, "durable_core.engine"):
        told, value = run(main)
    assert named in told
    assert "sets aside a message of 'a stranger'" in caplog.text
    assert value == 3


async def is_locked(client: DurableClient) -> bool:
    state = await client.get_entity_state(K)
    return state is not None and state.locked_by is not None


async def no_problem(client: DurableClient) -> bool:
    return await problem(client) is None


@pytest.mark.parametrize("what", ["terminate", "event", "damaged"])
def test_what_waited_in_the_store_is_set_aside_once(tmp_path, run, what):
    """Also over restarts, and by a worker that does not know the entity, if it is a control message."""
    payload, control, _ = STRANGE[what]
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine, stranger = new_engine(), engine_with(add)

    async def main() -> Any:
        async with engine.open(url):
            await call(engine.client)
        async with engine.open(url, worker=False):
            await post(engine, payload, control=control)
        if control:
            async with stranger.open(url):
                await until(lambda: problem(stranger.client))
        commits = []
        for _ in range(3):
            async with engine.open(url):
                await until(lambda: problem(engine.client))
                await call(engine.client)
                [record] = await engine.backend.get_instances(["@counter@k"])
                commits.append(record.version)
        return commits

    first, second, third = run(main)
    assert third - second == second - first == 1


@pytest.mark.parametrize("control", [False, True])
def test_what_a_newer_version_sent_waits_for_it_and_a_person_may_do_without(url, run, control):
    """The entity is left alone meanwhile, as an orchestration is: a worker of that version keeps the order."""
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            client = engine.client
            await call(client)
            await post(engine, b'{"type":"OperationOfTomorrow","operation":"add"}', control=control)
            told = await until(lambda: problem(client))
            await client.reset_entity(K, keep_state=True)
            await until(lambda: no_problem(client))
            return told, await call(client)

    told, value = run(main)
    assert "Upgrade this program" in told
    assert value == 2


async def overwrite(engine: DurableEngine, snapshot: bytes) -> None:
    """As if another version had written it."""
    [record] = await engine.backend.get_instances(["@counter@k"])
    await engine.backend.heartbeat("w", ttl_us=10_000_000)
    await engine.backend.apply([SendMessage(Message("wake", "@counter@k", b"", None, "t", control=True))])
    claim = await engine.backend.claim("w", claim_id="c", turns=1, tasks=0, selectors=Selectors())
    [turn] = claim.turns
    commit = CommitTurn(record.instance, turn.execution, turn.epoch, turn.version, "w", "x", consumes=("wake",), snapshot=snapshot)
    await engine.backend.apply([commit, AbandonWorker("w")])


def test_what_was_left_waiting_for_the_lock_does_not_lose_the_entity(tmp_path, run):
    """An earlier version has put it there."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = new_engine()
    stored: Any = EntitySnapshot({"value": "5"}, None, [Waiting("x", ev.ExecutionTerminated())])  # type: ignore[arg-type]

    async def main() -> Any:
        async with engine.open(url):
            await call(engine.client)
        async with engine.open(url, worker=False):
            await overwrite(engine, encode_snapshot(stored))
        async with engine.open(url):
            return await call(engine.client), await problem(engine.client)

    value, told = run(main)
    assert value == 6
    assert "it waited for the lock" in told


# ── repair ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("repair", ["reset", "purge", "delete"])
def test_a_state_that_cannot_be_read_is_repaired_by_a_person(tmp_path, run, repair):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = new_engine()
    damaged = b'{"state":{"value":"no number"}}' if repair == "delete" else b'{"state":5}'

    async def main() -> Any:
        async with engine.open(url):
            assert await call(engine.client) == 1
        async with engine.open(url, worker=False):
            await overwrite(engine, damaged)
        async with engine.open(url):
            client = engine.client
            if repair == "delete":
                assert "value" in await call(client, ask)
                await client.signal_entity(K, "delete")
                return await call(client)
            waiting = await client.schedule_new_orchestration(ask)
            assert "cannot be read" in str(await until(lambda: problem(client)))
            assert [state.id async for state in client.query_entities()] == [K]
            assert await client.clean_entity_storage() == CleanedEntities(0, 0)
            if repair == "reset":
                await client.reset_entity(K)
                assert "was reset" in await waiting.result(PATIENCE)
            else:
                assert await client.purge_entity(K)
                assert not await client.purge_entity(K)
            return await call(client)

    assert run(main) == 1


@pytest.mark.parametrize("keep_state", [False, True])
def test_a_reset_frees_a_locked_entity_and_tells_who_waits(url, run, keep_state):
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            client = engine.client
            await call(client)
            holder = await client.schedule_new_orchestration(hold)
            await until(lambda: is_locked(client))
            waiting = await client.schedule_new_orchestration(ask)
            await until(lambda: has_backlog(client))
            await client.reset_entity(K, keep_state=keep_state)
            told = await waiting.result(PATIENCE)
            value = await call(client)
            await client.raise_event(holder.id, "go on")
            await holder.result(PATIENCE)
            return told, value, await call(client)

    told, value, after = run(main)
    assert "was reset before it answered" in told
    assert (value, after) == ((2, 3) if keep_state else (1, 2))


async def has_backlog(client: DurableClient) -> bool:
    state = await client.get_entity_state(K)
    return state is not None and state.backlog > 0


def test_who_waits_for_the_lock_of_a_purged_entity_is_told(url, run):
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(hold)
            await until(lambda: is_locked(client))
            waiting = await client.schedule_new_orchestration(ask)
            await until(lambda: has_backlog(client))
            assert await client.purge_entity(K)
            return await waiting.result(PATIENCE)

    assert "was purged before it answered" in run(main)


def test_a_lock_whose_holder_is_gone_is_released(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = new_engine()
    locked = EntitySnapshot({"value": "1"}, ev.Parent("gone", "execution of gone", 1))

    async def main() -> Any:
        async with engine.open(url):
            await call(engine.client)
        async with engine.open(url, worker=False):
            await overwrite(engine, encode_snapshot(locked))
        async with engine.open(url):
            client = engine.client
            waiting = await client.schedule_new_orchestration(add)
            await until(lambda: has_backlog(client))
            assert await client.clean_entity_storage(release_orphaned_locks=False) == CleanedEntities(0, 0)
            assert await client.clean_entity_storage() == CleanedEntities(0, 1)
            return await waiting.result(PATIENCE)

    assert run(main) == 2


def test_a_lock_whose_holder_lives_stays(url, run):
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            client = engine.client
            holder = await client.schedule_new_orchestration(hold)
            await until(lambda: is_locked(client))
            assert await client.clean_entity_storage() == CleanedEntities(0, 0)
            await client.raise_event(holder.id, "go on")
            await holder.result(PATIENCE)
            return await call(client)

    assert run(main) == 1


def park(url: str) -> None:
    """By an operation that ends its host each time."""

    def start() -> None:
        engine = engine_with(Counter, add, ask, max_attempts=1, first_backoff_s=0.01)

        async def host() -> None:
            async with engine.open(url):
                if await engine.client.get_entity_state(K) is None:
                    await call(engine.client)
                    await engine.client.signal_entity(K, Counter.fall)
                state = await until(lambda: parked(engine.client))
                assert "reset_entity" in str(state.problem)

        asyncio.run(host())

    deaths = 0
    while deaths < 4:  # the worker that held it when it fell counts no attempt
        try:
            start()
            break
        except KeyboardInterrupt:
            deaths += 1
    assert 1 <= deaths <= 2


@pytest.mark.parametrize("what", ["terminate", "resume"])
def test_what_a_parked_entity_cannot_understand_does_not_run_it(tmp_path, run, what):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    park(url)
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            await post(engine, STRANGE[what][0], control=True)

            async def aside() -> Any:
                state = await engine.client.get_entity_state(K)
                return state if state is not None and state.set_aside else None

            state = await until(aside)
            assert state.parked
            await call_others(engine)
            return await parked(engine.client)

    assert run(main)


async def call_others(engine: DurableEngine) -> None:
    for n in range(3):
        key = f"other {n}"
        await engine.client.signal_entity(EntityId("counter", key), Counter.add)
        await until(partial(engine.client.get_entity, Counter, key))


@pytest.mark.parametrize("keep_state", [False, True])
def test_a_parked_entity_is_repaired_by_a_reset(tmp_path, run, keep_state):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    park(url)
    engine = new_engine()

    async def main() -> Any:
        async with engine.open(url):
            waiting = await engine.client.schedule_new_orchestration(ask)
            assert await parked(engine.client)
            await engine.client.reset_entity(K, keep_state=keep_state)
            return await waiting.result(PATIENCE), await call(engine.client)

    told, value = run(main)
    assert value in ((2, 3) if keep_state else (1, 2))
    assert "was reset" in told or told in ("1", "2")


async def parked(client: DurableClient) -> Any:
    state = await client.get_entity_state(K)
    return state if state is not None and state.parked else None
