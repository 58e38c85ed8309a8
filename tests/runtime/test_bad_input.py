"""Bad input gets an error that says what to do, at the call that is wrong, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from attrs import define

from durable_core import (
    ArgumentsError,
    DurableEngine,
    EngineStateError,
    EntityId,
    InstanceStatus,
    InvalidInstanceIdError,
    NotRegisteredError,
    OrchestrationContext,
    OrchestrationFailedError,
    PayloadError,
    RegistrationError,
    StoreUrlError,
    activity,
    orchestrator,
)
from durable_core.backend import Capabilities
from durable_core.definitions.wall_clock import DeterminismWarning
from durable_core.testing.memory import MemoryBackend, open_backend


@pytest.mark.parametrize(
    ("url", "says"), [("orders.db", "sqlite:///"), ("", "sqlite:///"), ("oracle://x", "installed schemes: .*sqlite://")]
)
def test_an_unknown_store_names_what_is_installed(run, url, says):
    async def main():
        async with DurableEngine().open(url or None):
            pass

    with pytest.raises(StoreUrlError, match=says):
        run(main)


def test_a_store_without_its_driver_says_what_to_install(run, monkeypatch):
    async def main():
        async with DurableEngine().open("azure://account/container"):
            pass

    monkeypatch.setitem(sys.modules, "durable_azure", None)
    with pytest.raises(StoreUrlError, match=r"pip install 'durable-core\[azure\]'"):
        run(main)


@pytest.mark.parametrize("instance_id", ["", "x" * 600, "@counter@k", "line\nbreak"])
def test_instance_ids_that_may_not_be(run, instance_id):
    engine = DurableEngine("memory://")

    @engine.orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(root, instance_id=instance_id)

    async def main():
        async with engine:
            with pytest.raises(InvalidInstanceIdError, match="instance id"):
                await engine.client.schedule_new_orchestration(root, instance_id=instance_id)
            assert [state async for state in engine.client.query_instances()] == []
            if instance_id:
                with pytest.raises(OrchestrationFailedError, match="InvalidInstanceIdError"):
                    await (await engine.client.schedule_new_orchestration(root)).result()

    run(main)


def test_entity_ids_that_may_not_be():
    for name, key in [("", "k"), ("a@b", "k"), ("a", "")]:
        with pytest.raises(InvalidInstanceIdError):
            EntityId(name, key)


def test_what_cannot_be_an_orchestrator_is_refused_at_registration_with_how_to_write_it():
    engine = DurableEngine()

    def plain(ctx: Any) -> int:
        return 1

    def generator(ctx: Any) -> Any:
        yield 1

    async def async_generator(ctx: Any) -> Any:
        yield 1

    async def no_context() -> None: ...

    async def keyword_only(ctx: OrchestrationContext, *, n: int) -> None: ...

    async def like_an_option(ctx: OrchestrationContext, retry: int) -> None: ...

    for fn, says in [
        (plain, "async def plain"),
        (generator, "generator.*async def"),
        (async_generator, "generator"),
        (no_context, "takes no context"),
        (keyword_only, "keyword only"),
        (like_an_option, "retry"),
        (lambda ctx: None, "name"),
    ]:
        with pytest.raises(RegistrationError, match=says):
            engine.orchestrator(fn)  # type: ignore[call-overload]


def test_two_registrations_of_one_name_are_refused_and_the_same_one_twice_is_not():
    engine = DurableEngine()

    @engine.activity(name="charge")
    async def first() -> None: ...

    async def second() -> None: ...

    with pytest.raises(RegistrationError, match=r"charge.*first"):
        engine.activity(name="charge")(second)

    @activity
    async def shared() -> None: ...

    engine.register(shared)
    engine.register(shared)


def test_what_cannot_be_registered():
    engine = DurableEngine()

    async def undecorated(ctx: OrchestrationContext) -> None: ...

    with pytest.raises(RegistrationError, match="decorate"):
        engine.register(undecorated)
    with pytest.raises(RegistrationError, match="defines no"):
        engine.register(os)

    class Needy:
        def __init__(self, x: int) -> None: ...

    with pytest.raises(RegistrationError, match=r"without arguments.*x"):
        engine.entity(Needy)

    async def local() -> None: ...

    with pytest.raises(RegistrationError, match="module level"):
        engine.activity(executor="process")(local)


def test_arguments_that_do_not_fit_are_refused_at_the_call(run):
    engine = DurableEngine("memory://")

    @engine.activity
    async def two(a: int, b: str = "x") -> None: ...

    @engine.orchestrator
    async def root(ctx: OrchestrationContext, n: int) -> list[str]:
        problems = []
        for call in (lambda: ctx.call_activity(two), lambda: ctx.call_activity(two, 1, "b", 3), lambda: ctx.call_activity(two, 1, c=2)):
            try:
                await call()
            except ArgumentsError as error:
                problems.append(str(error))
        return problems

    async def main():
        async with engine:
            for args in [(), (1, 2)]:
                with pytest.raises(ArgumentsError, match="root"):
                    await engine.client.schedule_new_orchestration(root, *args)
            with pytest.raises(PayloadError, match="root"):
                await engine.client.schedule_new_orchestration(root, "one")
            return await (await engine.client.schedule_new_orchestration(root, 1)).result()

    problems = run(main)
    assert len(problems) == 3
    assert all("two" in problem for problem in problems)


def test_calls_of_what_the_engine_does_not_know(run):
    engine = DurableEngine("memory://")

    @activity
    async def stranger() -> None: ...

    @orchestrator
    async def foreign(ctx: OrchestrationContext) -> None: ...

    class Nobody:
        def op(self) -> None: ...

    @engine.orchestrator
    async def root(ctx: OrchestrationContext, which: int) -> None:
        if which == 0:
            await ctx.call_activity(stranger)
        elif which == 1:
            await ctx.call_sub_orchestrator(foreign)
        else:
            await ctx.entity(Nobody, "k").call(Nobody.op)

    async def main():
        async with engine:
            with pytest.raises(NotRegisteredError, match="foreign"):
                await engine.client.schedule_new_orchestration(foreign)
            for which in range(3):
                with pytest.raises(OrchestrationFailedError, match="NotRegisteredError"):
                    await (await engine.client.schedule_new_orchestration(root, which)).result()

    run(main)


def test_an_activity_that_no_worker_knows_stays_queued_and_the_record_says_so(url, run):
    without, full = DurableEngine(), DurableEngine()

    @orchestrator
    async def root(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity("late", 3, return_type=int)

    @activity
    async def late(x: int) -> int:
        return 2 * x

    without.register(root)
    full.register(root, late)

    async def main():
        backend = open_backend(url) if url.startswith("memory") else None
        async with without.open(url, backend=backend):
            await without.client.schedule_new_orchestration(root, instance_id="r")
            async with asyncio.timeout(10):
                while (await without.client.get_instance("r")).problem is None:
                    await asyncio.sleep(0.01)
            state = await without.client.get_instance("r")
            assert state.runtime_status is InstanceStatus.RUNNING
            assert "late" in state.problem
        async with full.open(url, backend=backend):
            assert await full.client.get_handle(root, "r").result() == 6
            assert (await full.client.get_instance("r")).problem is None

    run(main)


@define
class Unencodable:
    thing: Any


def test_values_that_cannot_be_encoded_or_decoded_name_type_and_place(run):
    engine = DurableEngine("memory://")

    @engine.activity
    async def strict(x: int) -> int:
        return "five"  # type: ignore[return-value]

    @engine.activity
    async def takes_any(x: Any) -> None: ...

    @engine.orchestrator
    async def bad_result(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(strict, 1)

    @engine.orchestrator
    async def bad_argument(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(takes_any, [1, {"k": object()}])

    @engine.orchestrator
    async def bad_return(ctx: OrchestrationContext) -> dict[str, float]:
        return {"pi": float("nan")}

    async def main():
        async with engine:
            for fn, says in [
                (bad_result, "strict.*int.*str"),
                (bad_argument, r"takes_any.*\[1\].*object"),
                (bad_return, "bad_return.*pi.*nan"),
            ]:
                with pytest.raises(OrchestrationFailedError, match=says):
                    await (await engine.client.schedule_new_orchestration(fn)).result()

    run(main)


def test_io_in_an_orchestrator_is_refused_with_the_line_and_what_to_do(run, tmp_path):
    engine = DurableEngine("memory://")
    path = tmp_path / "x"
    path.write_text("content")

    @engine.orchestrator
    async def opening(ctx: OrchestrationContext) -> str:
        return path.read_text()

    @engine.orchestrator
    async def threading(ctx: OrchestrationContext) -> None:
        await asyncio.to_thread(print)

    @engine.orchestrator
    async def connecting(ctx: OrchestrationContext) -> None:
        import socket

        socket.create_connection(("127.0.0.1", 9))

    @engine.orchestrator
    async def importing(ctx: OrchestrationContext) -> str:
        import colorsys

        return colorsys.__name__

    async def main():
        async with engine:
            for fn in (opening, threading, connecting):
                with pytest.raises(OrchestrationFailedError, match=rf"{fn.name}.*test_bad_input.py:\d+.*activity"):
                    await (await engine.client.schedule_new_orchestration(fn)).result()
            assert await (await engine.client.schedule_new_orchestration(importing)).result() == "colorsys"

    run(main)
    assert path.read_text() == "content"


def test_clocks_and_randomness_are_warned_of_at_registration():
    engine = DurableEngine()

    async def clock(ctx: OrchestrationContext) -> str:
        return str(datetime.now())  # noqa: DTZ005

    async def dice(ctx: OrchestrationContext) -> float:
        return random.random()

    async def ids(ctx: OrchestrationContext) -> str:
        return str(uuid4())

    async def innocent(ctx: OrchestrationContext) -> float:
        return ctx.random.random() + ctx.current_utc_datetime.timestamp()

    for fn, instead in [(clock, "current_utc_datetime"), (dice, r"ctx\.random"), (ids, "new_uuid")]:
        with pytest.warns(DeterminismWarning, match=f"{fn.__name__}.*{instead}"):
            engine.orchestrator(fn)
    engine.orchestrator(innocent)


def test_a_result_that_is_too_large_fails_clearly_and_writes_nothing(run):
    class Small(MemoryBackend):
        capabilities = Capabilities(durability="none", multi_process=False, proves_death=True, max_payload_bytes=10_000)

    backend = Small()
    engine = DurableEngine()

    @engine.activity
    async def large(n: int) -> str:
        return "x" * n

    @engine.activity
    async def takes(text: str) -> int:
        return len(text)

    @engine.orchestrator
    async def from_activity(ctx: OrchestrationContext) -> int:
        return len(await ctx.call_activity(large, 20_000))

    @engine.orchestrator
    async def to_activity(ctx: OrchestrationContext) -> int:
        return await ctx.call_activity(takes, "x" * 20_000)

    @engine.orchestrator
    async def own(ctx: OrchestrationContext, text: str) -> str:
        return text * 30

    async def main():
        async with engine.open(backend=backend):
            for fn, args in [(from_activity, ()), (to_activity, ()), (own, ("x" * 1_000,))]:
                with pytest.raises(OrchestrationFailedError, match=r"PayloadTooLarge.*20,00\d|PayloadTooLarge.*30,00\d"):
                    await (await engine.client.schedule_new_orchestration(fn, *args)).result()
            with pytest.raises(PayloadError, match=r"own.*20,002 bytes"):
                await engine.client.schedule_new_orchestration(own, "x" * 20_000)

    run(main)


def test_an_engine_that_is_closed_open_already_or_forked_says_so(run):
    engine = DurableEngine("memory://")
    with pytest.raises(EngineStateError, match="async with engine"):
        _ = engine.client

    async def main():
        async with engine:
            client = engine.client
            with pytest.raises(EngineStateError, match="open already"):
                async with engine:
                    pass
            engine._session.process = -1
            with pytest.raises(EngineStateError, match="forked"):
                await client.get_instance("x")
            engine._session.process = os.getpid()
        with pytest.raises(EngineStateError):
            await client.get_instance("x")
        async with engine:
            assert await engine.client.get_instance("x") is None

    run(main)


def test_naive_datetimes_and_bad_options_are_refused(run):
    engine = DurableEngine("memory://")

    @engine.activity
    async def nothing() -> None: ...

    @engine.orchestrator
    async def root(ctx: OrchestrationContext, which: int) -> None:
        if which == 0:
            await ctx.create_timer(datetime(2030, 1, 1))  # noqa: DTZ001
        elif which == 1:
            await ctx.call_activity(nothing, retry=5)  # type: ignore[call-overload]
        elif which == 2:
            await ctx.call_activity(nothing, timeout=timedelta(0))
        else:
            await nothing()

    async def main():
        async with engine:
            with pytest.raises(ValueError, match="aware"):
                await engine.client.schedule_new_orchestration(root, 0, start_at=datetime(2030, 1, 1))  # noqa: DTZ001
            for which, says in [(0, "aware"), (1, "RetryPolicy"), (2, "timeout"), (3, "ctx.call_activity")]:
                with pytest.raises(OrchestrationFailedError, match=says):
                    await (await engine.client.schedule_new_orchestration(root, which)).result()

    run(main)
