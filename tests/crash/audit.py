"""After the end: is everything there, once, and nothing else?

The store is asked through the client, and through its readable views for what no client sees. Then the effect log, which no
crash of the store can take back, is held against it:

* every orchestration is COMPLETED (or FAILED, where that is right), the result is right, every history is dense, each command in it is
  answered once;
* nothing is left over: tasks, messages, leases, workers;
* every effect belongs to a task that was durable when the effect started; every completed task has had an effect;
* a task has a second effect only if the process of the first was killed, and only after its death;
* a step of an orchestration was one and the same task, however often it was run.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from attrs import define, frozen

from durable_core import InstanceStatus
from durable_core.backend import HistoryRange
from durable_core.codec import decode_events
from durable_core.events import (
    CommandCancelled,
    EntityCalled,
    EntityOperationCompleted,
    EntityOperationFailed,
    Event,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    SubOrchestrationCompleted,
    SubOrchestrationFailed,
    SubOrchestrationStarted,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from tests.crash.children import PATIENCE_S, Child, Death, Place
from tests.crash.program import ROOT, Shape, Tally, expected, new_engine, tally_keys
from tests.crash.stores import Store

CAPACITY = 500 + 2 * 32
"""Activities that one worker may run at once (``WorkerOptions``)."""
CLOCKS_S = 0.1
"""The store's time and the processes' time are the same clock, read at different moments. (A worker reckons the store's time from its last
answer, so what it writes into a history is behind by the time that the answer took.)"""

COMMANDS = {"task": TaskScheduled, "child": SubOrchestrationStarted, "timer": TimerCreated, "entity call": EntityCalled}
ANSWERS = {
    "task": (TaskCompleted, TaskFailed),
    "child": (SubOrchestrationCompleted, SubOrchestrationFailed),
    "timer": (TimerFired,),
    "entity call": (EntityOperationCompleted, EntityOperationFailed),
}

CANCELLED_AS = {"task": "task", "child": "child", "timer": "timer", "entity call": "entity"}
ENDS: dict[InstanceStatus, type[Event]] = {InstanceStatus.COMPLETED: ExecutionCompleted, InstanceStatus.FAILED: ExecutionFailed}


class AuditError(AssertionError):
    """What is wrong, one line each."""


@frozen
class Effect:
    instance: str
    task: str
    label: str
    pid: int
    at: float
    durable: bool | None


@frozen
class Orchestration:
    id: str
    execution: str
    status: InstanceStatus
    output: str | None
    length: int
    rows: list[tuple[int, int, list[Event]]]
    """First number, count, events: one a turn."""

    @property
    def events(self) -> list[Event]:
        return [event for _, _, events in self.rows for event in events]


@define
class Figures:
    """What an audit counted."""

    orchestrations: int = 0
    events: int = 0
    tasks: int = 0
    effects: int = 0
    repeated: int = 0


def read_effects(log: Path) -> list[Effect]:
    return [Effect(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


async def read_orchestrations(url: str) -> tuple[list[Orchestration], dict[str, int] | None]:
    """All orchestrations, and what the tally has counted."""
    engine = new_engine()
    found: list[Orchestration] = []
    async with engine.open(url, worker=False):
        async for state in engine.client.query_instances(page_size=1_000):
            rows: list[tuple[int, int, list[Event]]] = []
            first: int | None = 0
            while first is not None:
                [page] = await engine.backend.read_history([HistoryRange(state.instance_id, state.execution_id, first)])
                rows += [(row.first, row.count, decode_events(row.payload)) for row in page.rows]
                first = page.next
            record = state.instance_id, state.execution_id, state.runtime_status, state.serialized_output, state.history_length
            found.append(Orchestration(*record, rows))
        tally = await engine.client.get_entity(Tally, ROOT)
    return found, tally.added if tally is not None else None


async def audit_round(place: Place, shape: Shape) -> Figures:
    """Everything about a finished root orchestration of this shape. Raises ``AuditError``."""
    orchestrations, tally = await read_orchestrations(place.url)
    problems: list[str] = []
    ids = {o.id for o in orchestrations}
    wanted = {ROOT, f"{ROOT}.generations", f"{ROOT}.retrying"} | {f"{ROOT}.child{n}" for n in range(shape.children)}
    if ids != wanted:
        problems.append(f"orchestrations: {sorted(ids ^ wanted)} are missing or too many")
    if tally != dict.fromkeys(tally_keys(shape), 1):
        problems.append(f"the entity has counted {tally}")
    result = next((o.output for o in orchestrations if o.id == ROOT), None)
    if result is None or json.loads(result) != _as_json(shape):
        problems.append(f"the result is {result}, not {_as_json(shape)}")
    return audit(place, orchestrations, problems)


async def audit_errands(place: Place, count: int, *, paused: bool = False) -> Figures:
    """Everything about this many finished errands. ``paused``: processes were given up as dead that were not, so that a task may have been
    run by two at once. Raises ``AuditError``."""
    orchestrations, _ = await read_orchestrations(place.url)
    return audit(place, orchestrations, wrong_outputs(orchestrations, errand_outputs(count)), paused=paused)


async def audit_load(place: Place, errands: int, fan_outs: int, width: int) -> Figures:
    """Everything about so many finished errands and fan-outs. Raises ``AuditError``."""
    orchestrations, _ = await read_orchestrations(place.url)
    wanted = errand_outputs(errands) | {f"fan-out{n}": str(sum(range(width))) for n in range(fan_outs)}
    return audit(place, orchestrations, wrong_outputs(orchestrations, wanted), lost_max=None)


def errand_outputs(count: int) -> dict[str, str]:
    return {f"errand{n}": str(2 * n) for n in range(count)}


def wrong_outputs(orchestrations: list[Orchestration], wanted: dict[str, str]) -> list[str]:
    """By id: nobody is missing, nobody too many."""
    problems = [f"{o.id} gave {o.output}" for o in orchestrations if o.output != wanted.get(o.id)]
    missing = wanted.keys() - {o.id for o in orchestrations}
    return [*problems, *(f"{id} is missing" for id in sorted(missing))]


def _as_json(shape: Shape) -> object:
    outcome = expected(shape)
    return {name: getattr(outcome, name) for name in ("children", "reduced", "generations", "flaky", "go", "tally")}


def audit(
    place: Place,
    orchestrations: list[Orchestration],
    problems: list[str],
    *,
    paused: bool = False,
    may_fail: bool = False,
    lost_max: int | None = CAPACITY,
) -> Figures:
    """Everything that does not depend on what was run; ``problems`` are those that are known. ``lost_max``: activities that a process may take
    with it when it dies; None where a slow or absent server lets results of more than run at once wait for their commit. Raises
    ``AuditError``."""
    effects = read_effects(place.log)
    bury(place)
    for orchestration in orchestrations:
        problems += (f"{orchestration.id}: {problem}" for problem in audit_history(orchestration, may_fail=may_fail))
    problems += audit_leftovers(place.store)
    problems += audit_effects(orchestrations, effects, None if paused else place.deaths, lost_max)
    problems += audit_errors(place.errors())
    if problems:
        more = f"\n… and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise AuditError("\n".join(problems[:20]) + more + f"\nstderr of the processes:\n{place.errors()[-4_000:]}")
    events = [event for o in orchestrations for event in o.events]
    tasks = sum(isinstance(event, TaskScheduled) for event in events)
    return Figures(len(orchestrations), len(events), tasks, len(effects), len(effects) - len({e.task for e in effects}))


def bury(place: Place) -> None:
    """Who was killed may have been the last one: then nobody was there to notice. The next one is."""
    if place.deaths and place.registered():
        place.make_way()
        worker = place.start_worker()
        assert worker.wait_for("ready"), place.errors()
        deadline = time.monotonic() + PATIENCE_S
        while len(place.registered()) > 1:
            assert time.monotonic() < deadline, f"the dead stay: {place.registered()}"
            time.sleep(0.02)
        place.stop()
        worker.finish()


def audit_promises(store: Store, child: Child) -> bool:
    """A process was killed. What its client had been told is in the store that it left. Returns whether the root has ended."""
    assert store.faults() == []
    if not child.times("commit"):
        return False  # there may be no table yet
    statuses = [status for (status,) in store.rows(f"SELECT status FROM instances WHERE id = '{ROOT}'")]  # noqa: S608  # a constant
    if child.times("scheduled"):
        assert statuses, "the client was told that the root is started, and it is not"
    if child.times("result"):
        assert statuses == ["COMPLETED"], f"the client was told the result, and the root is {statuses}"
    return statuses == ["COMPLETED"]


# ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────


def audit_history(orchestration: Orchestration, *, may_fail: bool = False) -> Iterator[str]:
    """One start, one end, no hole, no duplicate; every command answered once, after it was given, or given up."""
    if orchestration.status not in ENDS or (orchestration.status is not InstanceStatus.COMPLETED and not may_fail):
        yield f"it is {orchestration.status}"
    number = 0
    for first, count, row in orchestration.rows:
        if first != number or count != len(row) or not row:
            yield f"a row says {first}+{count} and holds {len(row)} events where {number} was next"
        number = first + count
    if number != orchestration.length:
        yield f"its record says {orchestration.length} events, its rows hold {number}"
    events = orchestration.events
    end = ENDS.get(orchestration.status, ExecutionCompleted)
    if not events or not isinstance(events[0], ExecutionStarted) or not isinstance(events[-1], end):
        yield "its history does not go from a start to an end"
    elif sum(isinstance(event, ExecutionStarted | ExecutionCompleted | ExecutionFailed) for event in events) != 2:
        yield "it starts or ends in the middle of its history"
    elif isinstance(events[-1], ExecutionCompleted) and events[-1].result != orchestration.output:
        yield f"its history says {events[-1].result}, its record {orchestration.output}"
    times = [event.at_us for event in events if hasattr(event, "at_us")]
    if any(after + CLOCKS_S * 1e6 < before for before, after in pairwise(times)):
        yield "time runs backwards in its history"
    for kind in COMMANDS:
        yield from _audit_commands(events, kind)
    for event in events:
        if isinstance(event, TimerFired) and event.at_us + CLOCKS_S * 1e6 < event.due_us:
            yield f"timer {event.id} fired {event.due_us - event.at_us} µs early"


def _audit_commands(events: list[Event], kind: str) -> Iterator[str]:
    given: list[int] = []
    outstanding: set[int] = set()
    for event in events:
        number = getattr(event, "id", 0)
        if isinstance(event, COMMANDS[kind]):
            given.append(number)
            outstanding.add(number)
        elif isinstance(event, ANSWERS[kind]):
            if number not in outstanding:
                yield f"{kind} {number} was answered without being open"
            outstanding.discard(number)
        elif isinstance(event, CommandCancelled) and event.kind == CANCELLED_AS[kind]:
            outstanding.discard(number)
    if outstanding and not isinstance(events[-1], ExecutionFailed):  # a failure may leave others on their way
        yield f"{kind} {sorted(outstanding)} was never answered"
    # Entity calls share their numbers with signals and events that are sent.
    wanted = sorted(set(given)) if kind == "entity call" else list(range(1, len(given) + 1))
    if given != wanted:
        yield f"{kind}: the numbers are {given}"


def audit_leftovers(store: Store) -> Iterator[str]:
    """Nothing of ended instances remains, and nobody who left in order holds anything."""
    if store.has_workers():
        yield "a worker is left over"
    for view in ("tasks", "messages"):
        rows = store.rows(f"SELECT * FROM {view} LIMIT 3")  # noqa: S608  # one of two words
        if rows:
            yield f"{view} are left over: {rows}"
    held = store.rows("SELECT id, holder, claimed FROM instances WHERE holder IS NOT NULL OR claimed OR parked LIMIT 3")
    if held:
        yield f"still held or parked: {held}"
    yield from store.faults()


def audit_errors(text: str) -> Iterator[str]:
    for sign in ("database is locked", "Traceback", "internal error", "Task was destroyed", "never awaited"):
        if sign in text:
            yield f"{sign!r} in the stderr of a process"


# ── the effects ───────────────────────────────────────────────────────────────────────────────────────────────


def audit_effects(
    orchestrations: list[Orchestration], effects: list[Effect], deaths: list[Death] | None, lost_max: int | None
) -> Iterator[str]:
    """Without ``deaths``, tasks may be run by several processes at once."""
    by_task: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_task[effect.task].append(effect)
        if effect.durable is False and deaths is not None:
            yield f"{effect} started before its task was durable, or after it was over"
    yield from _audit_steps(effects)
    if deaths is not None:
        yield from _audit_repeats(by_task, deaths, lost_max)
    by_execution: dict[str, dict[str, list[Effect]]] = defaultdict(dict)
    for task, own in by_task.items():
        by_execution[task.rpartition("#")[0]][task] = own
    for orchestration in orchestrations:
        own_tasks = by_execution[orchestration.execution]
        yield from _audit_tasks(orchestration, own_tasks, at_once=deaths is None)
        yield from _audit_timers(orchestration, own_tasks)
    known = {o.id for o in orchestrations}
    yield from (f"{effect} of an orchestration that the store does not have" for effect in effects if effect.instance not in known)


def _audit_tasks(orchestration: Orchestration, by_task: dict[str, list[Effect]], *, at_once: bool) -> Iterator[str]:
    """Of the execution whose history is kept: effects have a task, completed tasks an effect, and none after the completion."""
    events, execution = orchestration.events, orchestration.execution
    scheduled = {f"{execution}#{event.id}" for event in events if isinstance(event, TaskScheduled)}
    done = {f"{execution}#{event.id}": event.at_us / 1e6 for event in events if isinstance(event, TaskCompleted | TaskFailed)}
    own = by_task.keys()
    yield from (f"an effect without a TaskScheduled: {by_task[task][0]}" for task in own - scheduled)
    yield from (f"{orchestration.id}: task {task} was completed without an effect" for task in done.keys() - own)
    for task in own & done.keys() if not at_once else ():
        late = [effect for effect in by_task[task] if effect.at > done[task] + CLOCKS_S]
        yield from (f"{effect} started after its completion at {done[task]}" for effect in late)


def _audit_timers(orchestration: Orchestration, by_task: dict[str, list[Effect]]) -> Iterator[str]:
    """Never early, by the clock on the wall: what the code did after a timer was not done before it was due."""
    due_us = 0
    for event in orchestration.events:
        if isinstance(event, TimerFired):
            due_us = max(due_us, event.due_us)
        elif isinstance(event, TaskScheduled):
            for effect in by_task.get(f"{orchestration.execution}#{event.id}", ()):
                if effect.at * 1e6 < due_us - 1:  # a float has no microseconds to spare
                    yield f"{effect} came before the timer that it followed was due, at {due_us / 1e6}"


def _audit_steps(effects: list[Effect]) -> Iterator[str]:
    """Also of generations whose history is gone: had a turn that never became durable let something out, the turn that took its
    place would have given the step another execution or number."""
    steps: dict[tuple[str, str], set[str]] = defaultdict(set)
    for effect in effects:
        steps[effect.instance, effect.label].add(effect.task)
    yield from (f"step {step} was several tasks: {tasks}" for step, tasks in steps.items() if len(tasks) > 1)


def _audit_repeats(by_task: dict[str, list[Effect]], deaths: list[Death], lost_max: int | None) -> Iterator[str]:
    """At most once a process; and again only after that process was dead."""
    died = {death.pid: death.at for death in deaths}
    lost: Counter[int] = Counter()
    for effects in by_task.values():
        for before, after in pairwise(sorted(effects, key=lambda effect: effect.at)):
            lost[before.pid] += 1
            if before.pid == after.pid:
                yield f"{before} was repeated by the same process at {after.at}"
            elif before.pid not in died:
                yield f"{before} was repeated by {after.pid} although process {before.pid} was never killed"
            elif after.at + CLOCKS_S < died[before.pid]:
                yield f"{before} was repeated by {after.pid} at {after.at}, when process {before.pid} was alive ({died[before.pid]})"
    if lost_max is not None:
        yield from (
            f"process {pid} lost {count} tasks when it died, more than it may run" for pid, count in lost.items() if count > lost_max
        )
