"""The processes that host a worker each, one after the other: started, slowed down, frozen, killed, shut down, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import evolve

from durable_core.backend import AbandonWorker
from durable_core.errors import StoreError
from durable_core.runtime import fresh
from durable_core.runtime.clock import Clock, Timer
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.session import Session
from durable_core.runtime.threads import DaemonThreads
from durable_core.runtime.worker.worker import Worker
from durable_core.testing.simulation.loop import PROCESS, Process
from durable_core.testing.simulation.store import SimulatedStore

if TYPE_CHECKING:
    from durable_core.testing.simulation.world import World

START_US = 1_800_000_000_000_000
_JUMP_S = 20.0
_PAUSE_S = 40.0
_DOWN_S = 4.0
_PATIENCE_S = 1_000.0
"""Of clients, more than a pause: the loads know nothing of calls whose outcome is unknown."""


class SkewedClock(Clock):
    """A process' own: it runs a little too fast or too slow, and it jumps. What is monotonic jumps forwards only (the machine slept), the wall
    clock as it likes."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self._ahead_s = self._wall_ahead_s = 0.0

    def time(self) -> float:
        return super().time() * self._rate + self._ahead_s

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(seconds / self._rate, callback)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._rate)

    def wall_us(self) -> int:
        return START_US + round((self.time() + self._wall_ahead_s) * 1e6)

    def jump(self, dice: Random) -> None:
        self._ahead_s += dice.random() ** 3 * _JUMP_S
        self._wall_ahead_s += dice.uniform(-86_400, 86_400)


class InlineThreads(DaemonThreads):
    """Synchronous code runs where it is called: threads would come in any order."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)


class Host:
    """One place for a process. ``mortal``: it may be killed and shut down. ``works``: it has a worker."""

    def __init__(self, world: World, name: str, *, mortal: bool, works: bool = True) -> None:
        self._world = world
        self._name = name
        self._mortal = mortal
        self._works = works
        self._number = 0
        self.process = Process(name)
        self.session: Session | None = None
        self.workers: list[Worker] = []
        self.up: asyncio.Future[Session] = world.loop.create_future()

    async def keep_up(self) -> None:
        """Whenever its process has ended, start another."""
        while True:
            self._start()
            await self._ended.wait()
            await asyncio.sleep(self._dice.random() * _DOWN_S)

    def _start(self) -> None:
        self._number += 1
        name, world = f"{self._name}.{self._number}", self._world
        self._dice = dice = world.plan.dice(f"host {name}")
        self.process = Process(name, on_step=self._something_happens)
        self._context = process_context(self.process, world.plan.dice)
        self._schedule_event()
        self._ended, self._stopping = asyncio.Event(), asyncio.Event()
        rate = dice.uniform(0.9, 1.1) if world.plan.hit("skewed_clocks", name) else 1.0
        self._clock = SkewedClock(rate)
        self._store = SimulatedStore(world.hub, name, world.plan, self._die, world.in_world, mortal=self._mortal, deaf=world.deaf)
        self.run(self._live(), name)

    async def _live(self) -> None:
        """What ``DurableEngine.open`` does. Without ``finally``: who is killed does nothing more."""
        await self._store.open()
        session = Session(self._store, self._world.registry, self._options(), self._clock, patience_s=_PATIENCE_S)
        session.new_threads = InlineThreads
        try:
            if self._works:
                self.workers.append(Worker(session))
                await self.workers[-1].start()
        except StoreError:
            pass  # it could not reach the store: the next one will
        else:
            self.session = session
            if not self.up.done():
                self.up.set_result(session)
            await self._stopping.wait()
            self.session = None
        with suppress(StoreError):  # what it could not give back runs out by itself
            await session.close()
        await self._store.close()
        self._ended.set()

    def _options(self) -> WorkerOptions:
        options, name = self._world.options, self.process.name
        dice = self._world.plan.hit("small_caches", name)
        if dice is None:
            return options
        return evolve(
            options,
            max_active_instances=dice.choice([1, 3, 50]),
            max_cached_instances=dice.choice([0, 1, 3]),
            max_async_activities=dice.choice([1, 2, 50]),
            activity_threads=dice.choice([1, 2, 50]),
            max_messages_per_turn=dice.choice([1, 2, 50]),
            hold_s=dice.choice([0.0, 0.5, options.hold_s]),
        )

    # ── what happens to it ────────────────────────────────────────────────────────────────────────────────────

    def run(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """As a task of the process that runs here now."""
        task: asyncio.Task[Any] = self._world.loop.create_task(coroutine, name=name, context=self._context.copy())
        return task

    def _schedule_event(self) -> None:
        self.process.next_event = self.process.steps + self._dice.expovariate(1 / self._world.plan.faults.event_every_steps)

    def _something_happens(self) -> None:
        plan, process = self._world.plan, self.process
        self._schedule_event()
        if self._mortal and plan.hit("crash", process.name):
            self._die()
        elif self._mortal and plan.hit("restart", process.name):
            self._world.loop.call_soon(self._stopping.set)
        elif dice := plan.hit("pause", process.name):
            self._pause(dice.random() ** 2 * _PAUSE_S)
        elif dice := plan.hit("clock_jump", process.name):
            self._clock.jump(dice)

    def _pause(self, seconds: float) -> None:
        loop = self._world.loop
        loop.freeze(self.process)
        loop.call_later(seconds, loop.thaw, self.process)

    def _die(self) -> None:
        if not self._mortal or self.process.dead:
            return
        world = self._world
        world.loop.kill(self.process)
        self.session = None
        world.in_world(self._store.close())
        if world.proves_death:
            # The incarnation it was.
            ids = [worker.id for worker in self.workers[-1:] if worker.id]
            world.in_world(self._proved_dead(ids))
        world.loop.call_soon(self._ended.set, context=world.context)

    async def _proved_dead(self, ids: list[str]) -> None:
        await asyncio.sleep(self._dice.random())
        await self._world.hub.apply([AbandonWorker(id) for id in ids])


def process_context(process: Process, dice: Callable[[str], Random]) -> Context:
    """With a source of ids of its own: unique, in no order, and telling whose they are."""
    random, drawn = dice(f"ids {process.name}"), 0

    def draw() -> str:
        nonlocal drawn
        drawn += 1
        return f"{random.getrandbits(24):06x}.{process.name}.{drawn}"

    context = copy_context()
    context.run(PROCESS.set, process)
    context.run(fresh.ids.set, draw)
    return context
