"""One run: several worker processes, one store, clients, and what befalls them, all of it decided by one seed."""

from __future__ import annotations

import asyncio
import copy
import logging
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any

from attrs import define, field, frozen

from durable_core.backend import ENDED, Backend, Capabilities
from durable_core.codec import decode_events
from durable_core.definitions.registry import Registry
from durable_core.errors import DurableError, UsageError
from durable_core.events import ExecutionStarted
from durable_core.mailbox import EntitySnapshot, decode_snapshot
from durable_core.runtime.client.client import DurableClient
from durable_core.runtime.engine import DurableEngine
from durable_core.runtime.worker.worker import Worker
from durable_core.testing.fakes import with_fakes
from durable_core.testing.histories import replay
from durable_core.testing.memory import forget_store
from durable_core.testing.simulation.faults import Fault, Faults, Plan
from durable_core.testing.simulation.hosts import START_US, Host
from durable_core.testing.simulation.impatient import ImpatientClient
from durable_core.testing.simulation.loop import PROCESS, NothingIsDueError, SimulatedLoop, new_loop
from durable_core.testing.simulation.oracle import Oracle
from durable_core.testing.simulation.store import Hub
from durable_core.testing.simulation.stranger import Stranger

Load = Callable[[DurableClient, Random], Awaitable[None]]

_REST_S = 300.0
_numbers = count(1)
_outside: ContextVar[dict[str, Any]] = ContextVar("outside")


def outside() -> dict[str, Any]:
    """The world outside, as it is to all of this run's activities and loads: a dict, empty when the run begins. What an activity does to the
    world it may write here; it outlives every process."""
    return _outside.get()


@frozen(kw_only=True)
class Scenario:
    """What is simulated. See ``simulate``."""

    engine: DurableEngine
    loads: tuple[Load, ...]
    faults: Faults
    workers: int
    backend: Callable[..., Backend]
    activities: dict[Any, Any]
    limit_s: float


@frozen
class Run:
    """What one seed led to. ``findings`` is empty if nothing was wrong. ``loads``: the numbers of those that ran. ``trace`` is a digest of all that
    was said between the processes and the store: the same seed gives the same."""

    seed: int
    findings: tuple[str, ...]
    faults: tuple[Fault, ...]
    loads: tuple[int, ...]
    steps: int
    commits: int
    seconds: float
    trace: str
    counts: Counter[str]


@define(eq=False, slots=False)
class World:
    """``only_faults`` and ``only_loads`` restrict the run (None: all)."""

    scenario: Scenario
    seed: int
    only_faults: frozenset[str] | None = None
    only_loads: tuple[int, ...] | None = None
    loop: SimulatedLoop = field(init=False)
    plan: Plan = field(init=False)
    hub: Hub = field(init=False)
    registry: Registry = field(init=False)
    context: Context = field(init=False)

    def __attrs_post_init__(self) -> None:
        scenario = self.scenario
        self.loop = new_loop(Random(f"{self.seed} order"))
        self.plan = Plan(self.seed, scenario.faults, self.loop.time, self.only_faults)
        self.deaf = self.plan.hit("deaf", "everybody") is not None
        self.proves_death = self.plan.hit("proved_deaths", "everybody") is not None
        dice = self.plan.dice("limits")
        limits = Capabilities(
            "none",
            multi_process=False,
            proves_death=False,  # not by itself: it is told
            max_batch=dice.choice([2, 5, 1_000]),
            messages_per_claim=dice.choice([1, 3, 1_000]),
        )
        self._store_name = f"simulation {next(_numbers)}"
        self.hub = Hub(lambda: scenario.backend(self._store_name, clock_us=self.now_us, capabilities=limits), Oracle(limits), self.now_us)
        self.registry = _registry(scenario, limits)
        self.options = scenario.engine._options
        self._hosts: list[Host] = []

    def now_us(self) -> int:
        return START_US + round(self.loop.time() * 1e6)

    def run(self) -> Run:
        findings = list[str]()
        with _quiet(findings):
            try:
                self.loop.run(self._main(findings))
            except NothingIsDueError:
                findings.append("everybody waits for somebody else")
            except UsageError:
                raise
            except Exception as error:
                findings.append(f"the run broke off: {error!r} ({traceback.extract_tb(error.__traceback__)[-1]})")
            finally:
                self._close_orchestrations()
                forget_store(self._store_name)
        findings += self.hub.oracle.findings + [f"an error that nobody caught: {error}" for error in self.loop.errors]
        counts = Counter(fault.kind for fault in self.plan.injected) + self.hub.counts
        return Run(
            self.seed,
            tuple(findings),
            tuple(self.plan.injected),
            self._loads,
            self.loop.steps,
            self.hub.oracle.commits,
            self.loop.time(),
            self.hub.trace.hexdigest(),
            counts,
        )

    # ── the course of it ──────────────────────────────────────────────────────────────────────────────────────

    async def _main(self, findings: list[str]) -> None:
        PROCESS.set(self.loop.world)
        _outside.set({})
        self.context = copy_context()
        self.hub.backend = await self.hub.open()
        self.in_world(self.hub.listen())
        self._host_everybody()
        client_host = self._hosts[0]
        session = await client_host.up
        client = ImpatientClient(lambda: session)
        client.plan = self.plan
        client._name = "the client"
        numbers = range(len(self.scenario.loads)) if self.only_loads is None else self.only_loads
        loads = [client_host.run(self._load(number, client), f"load {number}") for number in numbers]
        client_host.run(self._disturb(client), "suspensions")
        stranger = Stranger(self.hub, self.plan.dice("stranger"))
        visit = self.loop.create_task(stranger.live(lambda: self.plan.over), name="the stranger", context=self.context)
        await self._wait_for([*loads, visit], findings)
        self.plan.calm = True
        if not (findings or self.hub.oracle.findings):
            findings += await self._come_to_rest()
            findings += self._replay_all()
            if not self.hub.hints:
                findings.append("no wake-up ever came, on a handle that nothing happened to (DEAF)")
            await self.hub.oracle.check_everything(self.hub.backend)

    @property
    def _loads(self) -> tuple[int, ...]:
        return tuple(range(len(self.scenario.loads))) if self.only_loads is None else self.only_loads

    def _host_everybody(self) -> None:
        embedded = self.plan.dice("client").random() < 0.5
        self._hosts = [Host(self, "client", mortal=False, works=embedded)]
        self._hosts += [Host(self, f"w{number}", mortal=True) for number in range(1, self.scenario.workers + 1)]
        for host in self._hosts:
            self.in_world(host.keep_up())

    def in_world(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """As a task of no process."""
        self.loop.create_task(coroutine, context=self.context)

    async def _load(self, number: int, client: DurableClient) -> None:
        await self.scenario.loads[number](client, self.plan.dice(f"load {number}"))

    async def _wait_for(self, loads: Sequence[asyncio.Task[Any]], findings: list[str]) -> None:
        pending = set(loads)
        while pending and not (findings or self.hub.oracle.findings or self.loop.errors):
            _, pending = await asyncio.wait(pending, timeout=1.0)
            findings += [_failed(task) for task in loads if task.done() and task.exception() is not None]
            findings += self._broken_workers()
            if self.loop.time() > self.scenario.limit_s and pending:
                who = ", ".join(task.get_name() for task in loads if task in pending)
                findings.append(f"after {self.loop.time():,.0f} s {who} did not come to an end. {self._unended()}")

    async def _disturb(self, client: DurableClient) -> None:
        """Suspends what runs, and always resumes it."""
        dice = self.plan.dice("suspensions")
        while not self.plan.over:
            await asyncio.sleep(dice.expovariate(0.7))
            rows = self.hub.oracle.hub.instances.values()
            running = [row.instance for row in rows if row.name in self.registry.orchestrators and row.status not in ENDED]
            if running and (chosen := self.plan.hit("suspend", "clients")):
                await self._suspend_for(client, chosen.choice(running), chosen.random() * 5)

    async def _suspend_for(self, client: DurableClient, id: str, seconds: float) -> None:
        try:
            await client.suspend(id)
            await asyncio.sleep(seconds)
            await client.resume(id)
        except DurableError:
            pass  # gone meanwhile

    # ── what is checked at the end ────────────────────────────────────────────────────────────────────────────

    async def _come_to_rest(self) -> list[str]:
        until, left = self.loop.time() + _REST_S, list[str]()
        while self.loop.time() < until:
            left = [*self._left_in_hub(), *self._left_in_workers()]
            if not left or self.hub.oracle.findings:
                return []
            await asyncio.sleep(1.0)
        return [f"{_REST_S:.0f} s after the loads ended there is still: {'; '.join(left)}"]

    def _left_in_hub(self) -> Iterator[str]:
        hub = self.hub.oracle.hub
        yield from (f"task {id}" for id in hub.tasks)
        for id, row in hub.instances.items():
            if row.status not in ENDED and not row.is_entity:
                continue
            if row.claimed:
                yield f"the lease on {id} of {row.holder}"
            if inbox := hub.inbox.get(id):
                yield f"in the inbox of {id}: {', '.join(inbox)}"
            if row.is_entity:
                yield from self._left_in_entity(id, decode_snapshot(hub.details.get((id, "snapshot"))))

    def _left_in_entity(self, id: str, snapshot: EntitySnapshot) -> Iterator[str]:
        holder = self.hub.oracle.hub.instances.get(snapshot.holder.instance_id) if snapshot.holder is not None else None
        if snapshot.holder is not None and (holder is None or holder.status in ENDED or holder.execution != snapshot.holder.execution_id):
            yield f"the lock of {id}, held by {snapshot.holder.instance_id}, which is over"

    def _living(self) -> Iterator[Worker]:
        return (host.workers[-1] for host in self._hosts if host.session is not None and host.workers)

    def _left_in_workers(self) -> Iterator[str]:
        for worker in self._living():
            activities = worker.turns.activities
            yield from (f"activity {id} in {worker.id}" for id in activities._leases)
            fresh = type(activities)(worker._session, lambda _lease, _event: None, lambda _lease: None)
            for lane, unused in zip(activities._used, fresh._used, strict=True):
                if lane.free != unused.free:
                    yield f"{unused.free - lane.free} places taken by no activity in {worker.id}"
            for runner in (worker.turns, worker.entities):
                if runner.suspect is not None:
                    yield f"the suspect {runner.suspect.instance} in {worker.id}"
                yield from (f"{live.instance}, active in {worker.id}" for live in runner._active)

    def _broken_workers(self) -> Iterator[str]:
        for worker in self._living():
            for task in (worker._claiming, worker._beating, worker._session.committer._task, *worker._session._tasks):
                if task.done() and not task.cancelled():
                    yield f"{task.get_name()} of {worker.id} has ended: {task.exception()!r}"

    def _replay_all(self) -> Iterator[str]:
        hub = self.hub.oracle.hub
        for id, rows in hub.history.items():
            events = [event for row in rows for event in decode_events(row.payload)]
            if not events or not isinstance(events[0], ExecutionStarted):
                continue  # it was terminated before its first turn
            try:
                replay(self.scenario.engine, id, hub.instances[id].execution, events).close()
            except DurableError as error:
                yield f"the history of {id} does not replay: {error}"

    def _unended(self) -> str:
        rows = [row for row in self.hub.oracle.hub.instances.values() if not row.is_entity and row.status not in ENDED]
        return "; ".join(
            f"{row.instance} ({row.name}) is {row.status.name}, attempt {row.attempt}, {'claimed' if row.claimed else 'held'} by {row.holder}"
            f"{', problem: ' + row.problem if row.problem else ''}"
            for row in rows[:10]
        )

    def _close_orchestrations(self) -> None:
        for host in self._hosts:
            for worker in host.workers:
                for live in list(worker.turns._live.values()) if worker.id and hasattr(worker, "turns") else ():
                    worker.turns.let_go(live)


def _registry(scenario: Scenario, limits: Capabilities) -> Registry:
    registry = copy.copy(with_fakes(scenario.engine._registry, scenario.activities))
    registry.max_payload_bytes = limits.max_payload_bytes // 4
    for name, bound in registry.activities.items():
        if not bound.definition.is_async and bound.definition.executor == "process":
            raise UsageError(
                f"activity {name!r} runs in a process of its own, which cannot be simulated: pass a fake for it in activities="
            )
    return registry


def _failed(task: asyncio.Task[Any]) -> str:
    error = task.exception()
    where = traceback.extract_tb(error.__traceback__)[-1] if error is not None and error.__traceback__ is not None else None
    return f"{task.get_name()}: {type(error).__name__}: {error}{f' ({where.name}: {where.line})' if where else ''}"


class _Listener(logging.Handler):
    """Internal errors of the engine are logged and survived in production. Here they are findings."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("internal error"):
            self._findings.append(f"{record.getMessage()}: {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


@contextmanager
def _quiet(findings: list[str]) -> Iterator[None]:
    logger, listener = logging.getLogger("durable_core"), _Listener(findings)
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = before
