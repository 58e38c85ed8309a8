"""Control messages to instances that cannot get on, whatever is the matter: each is handled once, back-off and parking hold, and terminate ends
them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from durable_core import DurableEngine, InstanceStatus, OrchestrationContext, activity, orchestrator
from durable_core import events as ev
from durable_core.actions import Turn
from durable_core.backend import Command, CommitTurn, Outcome, Release
from durable_core.runtime.worker.commits import TurnTranslator
from durable_core.testing.memory import MemoryBackend, forget_store
from tests.runtime.support import SECOND, engine_with, until, until_status

SUSPENDED, RUNNING, PENDING, TERMINATED = (
    InstanceStatus.SUSPENDED,
    InstanceStatus.RUNNING,
    InstanceStatus.PENDING,
    InstanceStatus.TERMINATED,
)
NEVER = {"first_backoff_s": 3600.0, "last_backoff_s": 3600.0}


class Counting(MemoryBackend):
    """Counts what workers write."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.written: list[Command] = []

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        self.written += [command for command in commands if isinstance(command, CommitTurn | Release)]
        return await super().apply(commands)

    @property
    def state(self) -> Any:
        assert self._opened is not None
        return self._opened.state


# ── kinds of trouble ──────────────────────────────────────────────────────────────────────────────────────────


@activity
async def double(x: int) -> int:
    return 2 * x


@orchestrator(name="flow")
async def healthy(ctx: OrchestrationContext) -> int:
    doubled: int = await ctx.call_activity(double, 4)
    await ctx.wait_for_external_event("go")
    return doubled


@orchestrator(name="flow")
async def changed(ctx: OrchestrationContext) -> int:
    await ctx.create_timer(timedelta(seconds=1))
    return 1


@orchestrator(name="flow")
async def stuck(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(double, 4)
    await ctx.wait_for_external_event("go")
    await asyncio.Event().wait()


@orchestrator(name="flow")
async def exits(ctx: OrchestrationContext) -> None:
    await ctx.call_activity(double, 4)
    await ctx.wait_for_external_event("go")
    raise SystemExit(3)


@orchestrator(name="flow")
async def exits_at_once(ctx: OrchestrationContext) -> None:
    raise SystemExit(3)


def _fail_in_translation(patch: pytest.MonkeyPatch) -> None:
    """What is wrong with the engine itself."""
    translate = TurnTranslator.translate

    def broken(self: TurnTranslator, turn: Turn) -> dict[str, Any]:
        if isinstance(turn.ending, ev.ExecutionTerminated):
            return translate(self, turn)
        raise RuntimeError("a mistake of the engine")

    patch.setattr(TurnTranslator, "translate", broken)


def _nothing(backend: Counting) -> None:
    pass


def _damage_history(backend: Counting) -> None:
    rows = backend.state.history["f"]
    rows[-1] = replace(rows[-1], payload=b"no event")


def _damage_start(backend: Counting) -> None:
    backend.state.details["f", "start"] = b"no event"


Trouble = tuple[DurableEngine, Callable[[Counting], None], bool]


def _engine(*definitions: Any, **options: Any) -> DurableEngine:
    return engine_with(double, *definitions, **{**NEVER, **options})


TROUBLES: dict[str, Callable[[], Trouble]] = {
    # the engine, what is damaged, and whether the instance has begun
    "mismatch": lambda: (_engine(changed), _nothing, True),
    "stuck": lambda: (_engine(stuck), _nothing, True),
    "unknown name": lambda: (_engine(), _nothing, True),
    "sys.exit": lambda: (_engine(exits), _nothing, True),
    "sys.exit in the first turn": lambda: (_engine(exits_at_once), _nothing, False),
    "fails in translation": lambda: (_engine(healthy), _nothing, True),
    "damaged history": lambda: (_engine(healthy), _damage_history, True),
    "damaged start": lambda: (_engine(healthy), _damage_start, False),
    "parked": lambda: (_engine(exits, max_attempts=1, first_backoff_s=0.01), _nothing, True),
    "parked in the first turn": lambda: (_engine(exits_at_once, max_attempts=1, first_backoff_s=0.01), _nothing, False),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_control_messages_are_handled_once_whatever_is_the_matter(kind, run, caplog, monkeypatch):
    caplog.set_level(logging.CRITICAL, "durable_core.engine")
    engine, damage, begun = TROUBLES[kind]()
    going_on = RUNNING if begun else PENDING
    backend = Counting("trouble")

    async def begin() -> None:
        """Without a worker that would take it in hand at once; the instance has scheduled its activity, if it has begun."""
        before = engine_with(healthy, double)
        async with before.open(backend=Counting("trouble"), worker=begun):
            await before.client.schedule_new_orchestration("flow", instance_id="f")
            if begun:

                async def waits():
                    return (await before.client.get_instance("f")).history_length == 3

                await until(waits)

    async def settled() -> bool:
        """Nothing is written any more."""
        written = len(backend.written)
        await asyncio.sleep(0.2)
        return len(backend.written) == written

    async def main() -> None:
        await begin()
        await backend.open()
        damage(backend)
        if kind == "fails in translation":
            _fail_in_translation(monkeypatch)
        async with engine.open(backend=backend):
            client = engine.client
            await client.raise_event("f", "go")
            if kind != "unknown name":
                problem = await until(lambda: _problem(client, parked=kind.startswith("parked")))
            await until(settled)
            before, messages = len(backend.written), 0
            for _ in range(3):
                for act, status in ((client.suspend, SUSPENDED), (client.resume, going_on)):
                    assert await act("f")
                    messages += 1
                    state = await until_status(client, "f", status)
                    assert state.parked == kind.startswith("parked")
            if not kind.startswith("parked"):
                assert await client.resume("f")  # of what is not suspended
                messages += 1
            await asyncio.sleep(0.3)
            await client.raise_event("f", "more")
            # The first may have found it being tried; each is one commit, and a release that finds it free.
            assert len(backend.written) - before <= 2 * messages + 2
            if kind != "unknown name":
                assert await _problem(client, parked=kind.startswith("parked")) == problem
            assert await client.terminate("f", output="enough")
            await until_status(client, "f", TERMINATED)

    try:
        run(main)
    finally:
        forget_store("trouble")


async def _problem(client: Any, *, parked: bool = False) -> str | None:
    state = await client.get_instance("f")
    return state.problem if state.parked == parked else None


# ── what may not run does not ─────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_start_that_is_suspended_begins_when_it_is_resumed_and_its_time_has_come(url, run):
    begun: list[float] = []

    @activity
    async def note() -> None:
        begun.append(asyncio.get_running_loop().time())

    @orchestrator
    async def later(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(note)

    engine = engine_with(later, note)

    async def main() -> None:
        async with engine.open(url):
            client = engine.client
            start_at = datetime.now(UTC) + timedelta(seconds=4)
            for id in "ab":
                await client.schedule_new_orchestration(later, instance_id=id, start_at=start_at)
                await client.suspend(id)
                state = await until_status(client, id, SUSPENDED)
                assert (state.history_length, begun) == (0, [])
            await client.resume("a")
            assert (await until_status(client, "a", PENDING)).history_length == 0
            assert begun == []
            assert (await client.wait_for_completion("a", 20 * SECOND)).last_updated_at >= start_at
            assert len(begun) == 1
            assert (await client.get_instance("b")).runtime_status is SUSPENDED
            await client.resume("b")
            await client.wait_for_completion("b", 20 * SECOND)
            assert len(begun) == 2

    run(main)


def test_a_parked_killer_runs_again_only_when_a_person_resumes_it(url, run, caplog):
    """Suspending it and resuming that changes nothing. To resume it as it is has it tried again."""
    caplog.set_level(logging.CRITICAL, "durable_core.engine")
    started: list[int] = []
    mended: list[bool] = []

    @orchestrator
    async def killer(ctx: OrchestrationContext) -> str:
        started.append(1)
        if not mended:
            raise SystemExit(3)
        return "alive"

    engine = engine_with(killer, max_attempts=3)

    async def main() -> None:
        async with engine.open(url):
            client = engine.client
            await client.schedule_new_orchestration(killer, instance_id="k")

            async def parked():
                return (await client.get_instance("k")).parked

            await until(parked)
            assert len(started) == 3
            for _ in range(3):
                await client.suspend("k")
                await until_status(client, "k", SUSPENDED)
                await client.resume("k")
                await until_status(client, "k", PENDING)
            assert await parked()
            assert len(started) == 3
            mended.append(True)
            await client.resume("k")
            assert await client.get_handle(killer, "k").result(20 * SECOND) == "alive"

    run(main)


@pytest.mark.parametrize("damage", ["history", "start"])
def test_terminating_what_cannot_be_read_reaches_its_children(damage, run, caplog):
    caplog.set_level(logging.CRITICAL, "durable_core.engine")
    backend = Counting("family")

    @orchestrator
    async def waits(ctx: OrchestrationContext) -> None:
        await ctx.wait_for_external_event("never")

    @orchestrator
    async def parent(ctx: OrchestrationContext) -> None:
        await ctx.call_sub_orchestrator(waits, instance_id="child")

    engine = engine_with(waits, parent, **NEVER)

    async def main() -> None:
        async with engine.open(backend=backend):
            await engine.client.schedule_new_orchestration(parent, instance_id="f")
            await until_status_of_child(engine.client)
        await backend.open()
        (_damage_history if damage == "history" else _damage_start)(backend)
        async with engine.open(backend=backend):
            await engine.client.raise_event("f", "go")
            if damage == "history":
                await until(lambda: _problem(engine.client))
            await engine.client.terminate("f")
            await until_status(engine.client, "f", TERMINATED)
            await until_status(engine.client, "child", TERMINATED)

    try:
        run(main)
    finally:
        forget_store("family")


async def until_status_of_child(client: Any) -> None:
    async def runs() -> bool:
        state = await client.get_instance("child")
        return state is not None and state.runtime_status is RUNNING

    await until(runs)
