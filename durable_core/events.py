"""What can happen in an orchestration: the events of its history, as frozen classes and nothing else.

A history is a list of events. Two families alternate in it:

* **message events**: something reached the orchestration (it was started, a task completed, a timer fired, …).
  Each carries ``at_us``, the hub time (microseconds since the epoch, UTC) at which it was applied.
* **command events**: what the code asked for when it saw the message event above them (schedule a task, create a
  timer, …). They happened at the time of that message event.

So a history reads ``message, its commands, message, its commands, …``, whatever batches the messages came in: it is
the same byte for byte however they were batched. ``id`` counts per kind of command (task, child, timer,
entity), from 1, and ties a completion to its command. Payloads (``input``, ``result``) are texts made by the
engine's data converter; ``arity`` is how many positional arguments an input holds (see ``parameters.py``).

To add an event: a class here, a line in ``MESSAGE_EVENTS`` or ``COMMAND_EVENTS`` below, and its handling in
``replay/machine.py``; the codec follows the tables.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from attrs import field, frozen

from durable_core.errors import FailureDetails

__all__ = [
    "COMMAND_EVENTS",
    "MESSAGE_EVENTS",
    "CommandCancelled",
    "CommandEvent",
    "CommandKind",
    "EntityCalled",
    "EntityOperationCompleted",
    "EntityOperationFailed",
    "EntitySignaled",
    "Event",
    "EventRaised",
    "EventSent",
    "ExecutionCompleted",
    "ExecutionContinuedAsNew",
    "ExecutionFailed",
    "ExecutionResumed",
    "ExecutionStarted",
    "ExecutionSuspended",
    "ExecutionTerminated",
    "MessageEvent",
    "OperationRequested",
    "Parent",
    "SubOrchestrationCompleted",
    "SubOrchestrationFailed",
    "SubOrchestrationStarted",
    "TaskCompleted",
    "TaskFailed",
    "TaskScheduled",
    "TimerCreated",
    "TimerFired",
]

CommandKind = Literal["task", "child", "timer", "entity"]


def _tag(name: str) -> Any:
    return field(default=name, init=False, repr=False, eq=False)


@frozen
class Parent:
    """The orchestration that started this one, and under which of its child numbers."""

    instance_id: str
    execution_id: str
    task_id: int
    name: str = ""


# ── message events ────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class ExecutionStarted:
    """The first event of every history.

    ``carried`` are events that the previous generation had buffered when it continued as new. ``python`` (``"3.12"``)
    and ``logic`` (the engine's logic version) name what first ran this history: another one may replay it, and a mismatch
    then names the difference as a likely cause.
    """

    name: str
    input: str | None
    arity: int
    at_us: int = 0
    parent: Parent | None = None
    tags: dict[str, str] = field(factory=dict)
    carried: tuple[EventRaised, ...] = ()
    python: str = ""
    logic: int = 1
    type: str = _tag("ExecutionStarted")


@frozen
class TaskCompleted:
    id: int
    result: str | None
    at_us: int = 0
    type: str = _tag("TaskCompleted")


@frozen
class TaskFailed:
    id: int
    failure: FailureDetails
    at_us: int = 0
    type: str = _tag("TaskFailed")


@frozen
class SubOrchestrationCompleted:
    id: int
    result: str | None
    at_us: int = 0
    type: str = _tag("SubOrchestrationCompleted")


@frozen
class SubOrchestrationFailed:
    id: int
    failure: FailureDetails
    at_us: int = 0
    type: str = _tag("SubOrchestrationFailed")


@frozen
class TimerFired:
    id: int
    due_us: int
    at_us: int = 0
    type: str = _tag("TimerFired")


@frozen
class EventRaised:
    """An external event. ``name`` is as the sender wrote it; names are compared case-insensitively."""

    name: str
    input: str | None
    at_us: int = 0
    type: str = _tag("EventRaised")


@frozen
class EntityOperationCompleted:
    id: int
    result: str | None
    at_us: int = 0
    type: str = _tag("EntityOperationCompleted")


@frozen
class EntityOperationFailed:
    id: int
    failure: FailureDetails
    at_us: int = 0
    type: str = _tag("EntityOperationFailed")


@frozen
class ExecutionSuspended:
    reason: str = ""
    at_us: int = 0
    type: str = _tag("ExecutionSuspended")


@frozen
class ExecutionResumed:
    reason: str = ""
    at_us: int = 0
    type: str = _tag("ExecutionResumed")


@frozen
class ExecutionTerminated:
    """A person or a parent ended the orchestration; ``output`` becomes its output. Always the last message event."""

    output: str | None = None
    recursive: bool = True
    at_us: int = 0
    type: str = _tag("ExecutionTerminated")


# ── command events ────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class TaskScheduled:
    id: int
    name: str
    input: str | None
    arity: int
    attempt: int = 1
    tags: dict[str, str] | None = None
    type: str = _tag("TaskScheduled")


@frozen
class SubOrchestrationStarted:
    id: int
    name: str
    instance_id: str
    input: str | None
    arity: int
    tags: dict[str, str] | None = None
    type: str = _tag("SubOrchestrationStarted")


@frozen
class TimerCreated:
    id: int
    due_us: int
    type: str = _tag("TimerCreated")


@frozen
class EntityCalled:
    """``entity`` is the entity's instance id (``@name@key``)."""

    id: int
    entity: str
    operation: str
    input: str | None
    arity: int
    type: str = _tag("EntityCalled")


@frozen
class EntitySignaled:
    id: int
    entity: str
    operation: str
    input: str | None
    arity: int
    due_us: int = 0
    type: str = _tag("EntitySignaled")


@frozen
class EventSent:
    id: int
    instance_id: str
    name: str
    input: str | None
    type: str = _tag("EventSent")


@frozen
class CommandCancelled:
    """The code gave up a command of its own (cancelled a task, left a timeout in time, …). ``target`` is the instance id of a child."""

    kind: CommandKind
    id: int
    target: str = ""
    type: str = _tag("CommandCancelled")


@frozen
class ExecutionCompleted:
    """``unawaited`` are failures of tasks of the orchestrator that nobody had awaited when it ended (at most 100)."""

    result: str | None
    unawaited: tuple[FailureDetails, ...] = ()
    type: str = _tag("ExecutionCompleted")


@frozen
class ExecutionFailed:
    failure: FailureDetails
    unawaited: tuple[FailureDetails, ...] = ()
    type: str = _tag("ExecutionFailed")


@frozen
class ExecutionContinuedAsNew:
    """The last event of a generation; the next one starts with ``input`` and the events of ``carried``."""

    input: str | None
    arity: int
    carried: tuple[EventRaised, ...] = ()
    type: str = _tag("ExecutionContinuedAsNew")


# ── messages to entities (an entity keeps state, not a history) ─────────────────────────────────────────────────


@frozen
class OperationRequested:
    """One operation for an entity. ``caller`` is who waits for the reply under its ``task_id``; a signal has none."""

    operation: str
    input: str | None
    arity: int
    caller: Parent | None = None
    type: str = _tag("OperationRequested")


MessageEvent = (
    ExecutionStarted
    | TaskCompleted
    | TaskFailed
    | SubOrchestrationCompleted
    | SubOrchestrationFailed
    | TimerFired
    | EventRaised
    | EntityOperationCompleted
    | EntityOperationFailed
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionTerminated
)
CommandEvent = (
    TaskScheduled
    | SubOrchestrationStarted
    | TimerCreated
    | EntityCalled
    | EntitySignaled
    | EventSent
    | CommandCancelled
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionContinuedAsNew
)
Event = MessageEvent | CommandEvent

MESSAGE_EVENTS: tuple[type[MessageEvent], ...] = get_args(MessageEvent)
COMMAND_EVENTS: tuple[type[CommandEvent], ...] = get_args(CommandEvent)

