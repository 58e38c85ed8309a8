"""Drives the pure machine: by hand for the tables and the traps, or inside a simulated world for whole programs.

* ``Driven`` is one execution driven by hand: messages in, turns out.
* ``run`` lets a ``Program`` run in a ``World``: activities are answered by calling them, children by a table, entities by keeping
  them, timers by virtual time; latencies, the order of messages, their batching and the races of cancellations come
  from a seed. Nothing else decides anything, so a failing seed is a bug report.
* ``replay_prefixes`` takes the history that came of it, replays every prefix that ends before a message, goes on live from
  there with the same messages in other batches, and wants the same bytes.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from attrs import Factory, define, field, frozen
from msgspec.structs import replace

from durable_core.actions import Ending, Turn
from durable_core.codec import decode_events, encode_event, join_events
from durable_core.converter import JsonConverter
from durable_core.definitions.activity import ActivityContext
from durable_core.definitions.orchestrator import Orchestrator, orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import FailureDetails
from durable_core.events import (
    COMMAND_EVENTS,
    CommandCancelled,
    CommandEvent,
    EntityCalled,
    EntityLockRequested,
    EntityOperationCompleted,
    EntityOperationFailed,
    EntitySignaled,
    EntityUnlocked,
    Event,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionContinuedAsNew,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    MessageEvent,
    SubOrchestrationCompleted,
    SubOrchestrationFailed,
    SubOrchestrationStarted,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from durable_core.failures import describe
from durable_core.replay.machine import Execution, Limits

EXAMPLES = int(os.environ.get("DURABLE_EXAMPLES", "60"))
"""How many random programs, and twice as many as there are seeds of a written program: more for a soak."""

START_US = 1_700_000_000_000_000
SECOND = 1_000_000


# ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────────────


def registry_of(*definitions: Any) -> Registry:
    registry = Registry(JsonConverter())
    for definition in definitions:
        registry.add(definition)
    return registry


class Driven:
    """One execution of ``fn``, started, driven by hand. ``known`` are the activities, entities and orchestrators that it calls."""

    def __init__(
        self,
        fn: Callable[..., Coroutine[Any, Any, Any]] | Orchestrator[..., Any],
        *args: Any,
        known: Sequence[Any] = (),
        start: bool = True,
        instance_id: str = "order-7",
        execution_id: str = "x1",
        python: str = "",
        limits: Limits | None = None,
        history: Sequence[Event] = (),
        max_payload_bytes: int | None = None,
        **started: Any,
    ) -> None:
        definition = fn if isinstance(fn, Orchestrator) else orchestrator(fn)
        registry = registry_of(definition, *known)
        if max_payload_bytes is not None:
            registry.max_payload_bytes = max_payload_bytes
        self.bound = registry.orchestrators[definition.name]
        self.execution = Execution(self.bound, registry, instance_id, execution_id, python=python, limits=limits or Limits())
        self.history: list[Event] = list(history)
        self.turn = Turn(())
        for _ in self.execution.replay(self.history):
            pass
        if start and not history:
            text, arity = self.bound.encode(args, {})
            self.apply(ExecutionStarted(self.bound.name, text, arity, at_us=START_US, python=python, **started))

    def apply(self, *messages: MessageEvent) -> Turn:
        """One turn of these messages."""
        for message in messages:
            self.execution.apply(message)
        self.turn = self.execution.take_turn()
        self.history += self.turn.events
        return self.turn

    @property
    def asked(self) -> list[CommandEvent]:
        """The commands of the last turn, but for the ending."""
        return [event for event in self.turn.events if isinstance(event, COMMAND_EVENTS) and event is not self.turn.ending]

    @property
    def ending(self) -> Ending | None:
        return self.execution.ending

    @property
    def result(self) -> Any:
        assert isinstance(self.ending, ExecutionCompleted), self.ending
        return None if self.ending.result is None else json.loads(self.ending.result)

    @property
    def failure(self) -> FailureDetails:
        assert isinstance(self.ending, ExecutionFailed), self.ending
        return self.ending.failure

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        self.execution.close()


def completed(id: int, value: Any = None, at_s: float = 0) -> TaskCompleted:
    return TaskCompleted(id, json.dumps(value), at_us=START_US + round(at_s * SECOND))


def failed(id: int, type: str = "ValueError", message: str = "no", at_s: float = 0, *, non_retriable: bool = False) -> TaskFailed:
    return TaskFailed(id, FailureDetails(type, message, non_retriable=non_retriable), at_us=START_US + round(at_s * SECOND))


def fired(id: int, due_s: float, at_s: float | None = None) -> TimerFired:
    return TimerFired(id, START_US + round(due_s * SECOND), at_us=START_US + round((due_s if at_s is None else at_s) * SECOND))


def raised(name: str, value: Any = None, at_s: float = 0) -> EventRaised:
    return EventRaised(name, json.dumps(value), at_us=START_US + round(at_s * SECOND))


# ── in a world ────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Program:
    """An orchestrator and what surrounds it. ``events`` are (seconds after the start, name, value); ``children`` answers by name."""

    definition: Orchestrator[..., Any]
    registry: Registry
    args: tuple[Any, ...] = ()
    events: tuple[tuple[float, str, Any], ...] = ()
    children: dict[str, Callable[..., Any]] = field(factory=dict)

    @property
    def name(self) -> str:
        return self.definition.name

    def execution(self, generation: int = 1) -> Execution:
        return Execution(self.registry.orchestrators[self.name], self.registry, f"{self.name}-1", f"{self.name}-x{generation}")


@frozen
class Run:
    """What became of a program: the history of one generation, and the custom statuses it showed."""

    program: Program
    generation: int
    history: tuple[Event, ...]
    ending: Ending | None
    statuses: tuple[str, ...]


@define
class World:
    """``races``: how often something that was cancelled answers nevertheless, as it may if the answer was on its way."""

    program: Program
    random: random.Random
    races: float = 0.3
    now_us: int = START_US
    _pending: list[tuple[int, int, MessageEvent]] = Factory(list)
    _entities: dict[str, Any] = Factory(dict)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        for at_s, name, value in self.program.events:
            self._later(round(at_s * SECOND), EventRaised(name, json.dumps(value)))

    def obey(self, turn: Turn) -> None:
        """Take note of what a turn asked for."""
        for event in turn.events:
            match event:
                case TaskScheduled():
                    self._reply(event.id, partial(self._activity, event), TaskCompleted, TaskFailed)
                case SubOrchestrationStarted():
                    self._reply(event.id, partial(self._child, event), SubOrchestrationCompleted, SubOrchestrationFailed)
                case EntityCalled():
                    self._reply(event.id, partial(self._operation, event), EntityOperationCompleted, EntityOperationFailed)
                case EntityLockRequested():
                    self._reply(event.id, lambda: None, EntityOperationCompleted, EntityOperationFailed)
                case EntitySignaled():
                    self._operation(event)
                case TimerCreated():
                    self._later(event.due_us - self.now_us, TimerFired(event.id, event.due_us))
                case CommandCancelled():
                    self._cancel(event)
                case _:
                    pass

    def next_batch(self) -> list[MessageEvent]:
        """Some of what is due next, stamped with the time at which the last of it is there."""
        size = 1
        while size < len(self._pending) and self.random.random() < 0.5:
            size += 1
        batch: list[MessageEvent] = []
        for _ in range(min(size, len(self._pending))):
            due_us, _, message = heapq.heappop(self._pending)
            self.now_us = max(self.now_us, due_us)
            batch.append(message)
        if batch and self.random.random() < 0.05:
            batch[:0] = [ExecutionSuspended("lunch"), ExecutionResumed()]
        return [replace(message, at_us=self.now_us) for message in batch]

    def give_back(self, messages: Sequence[MessageEvent]) -> None:
        """What came in the same batch as the end, but after it: the next generation's, if there is one."""
        for message in messages:
            self._later(0, message)

    def _later(self, delay_us: int, message: MessageEvent) -> None:
        self._count += 1
        heapq.heappush(self._pending, (self.now_us + max(0, delay_us), self._count, message))

    def _reply(self, id: int, compute: Callable[[], str | None], success: Callable[..., Any], failure: Callable[..., Any]) -> None:
        try:
            message = success(id, compute())
        except Exception as error:
            message = failure(id, replace(describe(error), stack=""))  # line numbers would make histories differ from version to version
        self._later(self.random.randrange(3 * SECOND), message)
        if self.random.random() < 0.03:
            self._later(self.random.randrange(3 * SECOND), message)

    def _activity(self, event: TaskScheduled) -> str:
        bound = self.program.registry.activities[event.name]
        args = bound.decode(event.input, event.arity)
        if bound.definition.takes_context:
            args = (ActivityContext("", event.name, "", "", event.attempt, 1, None), *args)  # type: ignore[arg-type]
        result = bound.fn(*args)
        return bound.encode_result(_finished(result) if bound.definition.is_async else result)

    def _child(self, event: SubOrchestrationStarted) -> str:
        whole = json.loads(event.input or "[]")
        return json.dumps(self.program.children[event.name](*([whole] if event.arity == 1 else whole)))

    def _operation(self, event: EntityCalled | EntitySignaled) -> str | None:
        entity = self.program.registry.entities[event.entity.split("@")[1]]
        operation = entity.operation(event.operation)
        state = self._entities.setdefault(event.entity, entity.definition.cls())
        return operation.encode_result(operation.fn(state, *operation.decode(event.input, event.arity)))

    def _cancel(self, command: CommandCancelled) -> None:
        if self.random.random() < self.races:
            return
        answers = _ANSWERS[command.kind]
        self._pending = [entry for entry in self._pending if not (isinstance(entry[2], answers) and entry[2].id == command.id)]
        heapq.heapify(self._pending)


_ANSWERS: dict[str, tuple[type[Any], ...]] = {
    "task": (TaskCompleted, TaskFailed),
    "child": (SubOrchestrationCompleted, SubOrchestrationFailed),
    "entity": (EntityOperationCompleted, EntityOperationFailed),
    "timer": (TimerFired,),
}


def _finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the activities of these tests await nothing")


def run(program: Program, seed: object, *, terminate: bool = False) -> list[Run]:
    """All generations of a program; with ``terminate`` the first is terminated at a random message."""
    source = random.Random(f"{program.name}/{seed}")  # a text is not seeded by its salted hash
    world = World(program, source)
    text, arity = program.registry.orchestrators[program.name].encode(program.args, {})
    batch: list[MessageEvent] = [ExecutionStarted(program.name, text, arity, at_us=world.now_us)]
    runs: list[Run] = []
    while batch:
        runs.append(_generation(program, world, len(runs) + 1, batch, source.randrange(12) if terminate else -1))
        ending = runs[-1].ending
        batch = []
        if isinstance(ending, ExecutionContinuedAsNew):
            batch = [ExecutionStarted(program.name, ending.input, ending.arity, at_us=world.now_us, carried=ending.carried)]
            world._pending = [entry for entry in world._pending if isinstance(entry[2], EventRaised)]
    return runs


def _generation(program: Program, world: World, generation: int, batch: list[MessageEvent], terminate_in: int) -> Run:
    execution = program.execution(generation)
    history: list[Event] = []
    statuses: list[str] = []
    while batch and execution.ending is None:
        if terminate_in == 0:
            batch.append(ExecutionTerminated('"enough"', at_us=world.now_us))
        terminate_in -= 1
        while batch and execution.ending is None:
            execution.apply(batch.pop(0))
        world.give_back(batch)
        turn = execution.take_turn()
        history += turn.events
        statuses += [turn.custom_status] if turn.custom_status is not None else []
        world.obey(turn)
        batch = world.next_batch() if turn.ending is None else []
    execution.close()
    return Run(program, generation, tuple(history), execution.ending, tuple(statuses))


# ── histories ─────────────────────────────────────────────────────────────────────────────────────────────────────


def boundaries(history: Sequence[Event]) -> Iterator[int]:
    """The positions before each message, and the end."""
    for position, event in enumerate(history):
        if not isinstance(event, COMMAND_EVENTS):
            yield position
    yield len(history)


def encode_row(events: Iterable[Event]) -> bytes:
    return join_events(map(encode_event, events))


def stored(run: Run) -> list[Event]:
    """The history as its codec gives it back."""
    return decode_events(encode_row(run.history))


def cold(run: Run, prefix: Sequence[Event]) -> Execution:
    """An execution that knows only this much of the history."""
    execution = run.program.execution(run.generation)
    for _ in execution.replay(prefix):
        pass
    assert execution.problem is None, f"at {len(prefix)}: {execution.problem}"
    return execution


def go_on(run: Run, prefix: Sequence[Event], source: random.Random) -> Execution:
    """Replay a prefix, then live with the same messages in other batches. Asserts that the same bytes come of it."""
    execution = cold(run, prefix)
    history = list(prefix)
    rest: list[Any] = [event for event in run.history[len(prefix) :] if not isinstance(event, COMMAND_EVENTS)]
    while rest:
        size = source.choice((1, 1, 2, 3, len(rest)))
        for message in rest[:size]:
            execution.apply(message)
        del rest[:size]
        history += execution.take_turn().events
    assert_same(run.history, history)
    assert encode_row([execution.ending] if execution.ending else []) == encode_row([run.ending] if run.ending else [])
    return execution


def replay_prefixes(run: Run, seed: object = 0, *, most: int = sys.maxsize) -> None:
    """Each prefix (at most ``most``), cold, then live with the same messages in other batches: the same bytes. Some are closed there."""
    source = random.Random(f"replay/{seed}")
    history = stored(run)
    positions = list(boundaries(history))
    for position in positions if len(positions) <= most else sorted(source.sample(positions, most)):
        if source.random() < 0.3:
            cold(run, history[:position]).close()
        go_on(run, history[:position], source).close()


def assert_same(expected: Sequence[Event], actual: Sequence[Event]) -> None:
    """Byte for byte; on a difference the first event that differs."""
    if encode_row(expected) != encode_row(actual):
        for position, (one, other) in enumerate(zip(expected, actual, strict=False)):
            assert one == other, f"event {position}"
        raise AssertionError(f"{len(expected)} events against {len(actual)}: {expected[len(actual) :]} {actual[len(expected) :]}")


def check_history(history: Sequence[Event]) -> None:
    """What is true of every history, whatever the program does."""
    counters: Counter[str] = Counter()
    open_commands: set[tuple[str, int]] = set()
    cancelled: set[tuple[str, int]] = set()
    locked: set[int] = set()
    for position, event in enumerate(history):
        assert (position == 0) == isinstance(event, ExecutionStarted)
        assert position == len(history) - 1 or not isinstance(event, _ENDINGS), f"{event} is not the last event"
        match event:
            case EntityUnlocked(id=id):
                assert id in locked, f"{event}: it was unlocked before, or never locked"
                locked.discard(id)
            case (
                TaskScheduled()
                | SubOrchestrationStarted()
                | TimerCreated()
                | EntityCalled()
                | EntitySignaled()
                | EventSent()
                | EntityLockRequested()
            ):
                if isinstance(event, EntityLockRequested):
                    locked.add(event.id)
                kind = _KINDS[type(event)]
                counters[kind] += 1
                assert event.id == counters[kind], f"{event}: ids count from 1 without gaps"
                if not isinstance(event, EntitySignaled | EventSent):
                    open_commands.add((kind, event.id))
            case CommandCancelled(kind=kind, id=id):
                assert (kind, id) not in cancelled, f"{event}: cancelled twice"
                assert (kind, id) in open_commands, f"{event}: it was answered before, or never asked for"
                cancelled.add((kind, id))
                open_commands.discard((kind, id))
            case _:
                for kind, answers in _ANSWERS.items():
                    if isinstance(event, answers):
                        open_commands.discard((kind, event.id))


_KINDS: dict[type[Any], str] = {
    TaskScheduled: "task",
    SubOrchestrationStarted: "child",
    TimerCreated: "timer",
    EntityCalled: "entity",
    EntityLockRequested: "entity",
    EntitySignaled: "entity",
    EventSent: "entity",
}
_ENDINGS = (ExecutionCompleted, ExecutionFailed, ExecutionContinuedAsNew, ExecutionTerminated)
