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

To add an event: a class here, of ``MessageEvent`` or ``CommandEvent``, and its handling in ``replay/machine.py``; the codec follows the
classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeVar

from msgspec import Struct

from durable_core.errors import FailureDetails

CommandKind = Literal["task", "child", "timer", "entity"]


class _Event(Struct, frozen=True, tag_field="type", tag=True, omit_defaults=True, gc=False):
    """Structs rather than attrs classes: a hundred times cheaper to define, five times to create, and read by type
    (docs/decisions/0009)."""


class Parent(Struct, frozen=True, gc=False):
    """The orchestration that started this one, and under which of its child numbers."""

    instance_id: str
    execution_id: str
    task_id: int
    name: str = ""


# ── message events ────────────────────────────────────────────────────────────────────────────────────────────


class MessageEvent(_Event, frozen=True, kw_only=True):
    at_us: int = 0


class ExecutionStarted(MessageEvent, frozen=True):
    """The first event of every history.

    ``carried`` are events that the previous generation had buffered when it continued as new. ``python`` (``"3.12"``)
    and ``logic`` (the engine's logic version) name what first ran this history: another one may replay it, and a mismatch
    then names the difference as a likely cause.
    """

    name: str
    input: str | None
    arity: int
    parent: Parent | None = None
    tags: dict[str, str] = {}
    carried: tuple[EventRaised, ...] = ()
    python: str = ""
    logic: int = 1


class Completion(MessageEvent, frozen=True):
    """The command of this ``kind`` and ``id`` has its result."""

    kind: ClassVar[CommandKind]
    id: int
    result: str | None


class TaskCompleted(Completion, frozen=True):
    kind = "task"


class SubOrchestrationCompleted(Completion, frozen=True):
    kind = "child"


class EntityOperationCompleted(Completion, frozen=True):
    kind = "entity"


class Failure(MessageEvent, frozen=True):
    """The command of this ``kind`` and ``id`` has failed."""

    kind: ClassVar[CommandKind]
    id: int
    failure: FailureDetails


class TaskFailed(Failure, frozen=True):
    kind = "task"


class SubOrchestrationFailed(Failure, frozen=True):
    kind = "child"


class EntityOperationFailed(Failure, frozen=True):
    kind = "entity"


class TimerFired(MessageEvent, frozen=True):
    id: int
    due_us: int


class EventRaised(MessageEvent, frozen=True):
    """An external event. ``name`` is as the sender wrote it; names are compared case-insensitively."""

    name: str
    input: str | None


class ExecutionSuspended(MessageEvent, frozen=True):
    reason: str = ""


class ExecutionResumed(MessageEvent, frozen=True):
    reason: str = ""


class ExecutionTerminated(MessageEvent, frozen=True):
    """A person or a parent ended the orchestration; ``output`` becomes its output. Always the last message event."""

    output: str | None = None
    recursive: bool = True


# ── command events ────────────────────────────────────────────────────────────────────────────────────────────


class CommandEvent(_Event, frozen=True):
    """It happened at the time of the message event above it."""


class TaskScheduled(CommandEvent, frozen=True):
    """One attempt of a call. ``first`` is the id of the call's first attempt (0: this one is the first): it names the call."""

    id: int
    name: str
    input: str | None
    arity: int
    attempt: int = 1
    tags: dict[str, str] | None = None
    first: int = 0


class SubOrchestrationStarted(CommandEvent, frozen=True):
    id: int
    name: str
    instance_id: str
    input: str | None
    arity: int
    tags: dict[str, str] | None = None


class TimerCreated(CommandEvent, frozen=True):
    id: int
    due_us: int


class _OperationSent(CommandEvent, frozen=True):
    id: int
    entity: str
    operation: str
    input: str | None
    arity: int


class EntityCalled(_OperationSent, frozen=True):
    """``entity`` is the entity's instance id (``@name@key``)."""


class EntitySignaled(_OperationSent, frozen=True):
    due_us: int = 0


class EntityLockRequested(CommandEvent, frozen=True):
    """Answered, as a call is, when the entity is locked for this execution."""

    id: int
    entity: str


class EntityUnlocked(CommandEvent, frozen=True):
    """``id`` is that of the request: the lock is given back, or the request taken back."""

    id: int
    entity: str


class EventSent(CommandEvent, frozen=True):
    id: int
    instance_id: str
    name: str
    input: str | None


class CommandCancelled(CommandEvent, frozen=True):
    """The code gave up a command of its own (cancelled a task, left a timeout in time, …). ``target`` is the instance id of a child."""

    kind: CommandKind
    id: int
    target: str = ""


class ExecutionCompleted(CommandEvent, frozen=True):
    """``unawaited`` are failures of tasks of the orchestrator that nobody had awaited when it ended (at most 100)."""

    result: str | None
    unawaited: tuple[FailureDetails, ...] = ()


class ExecutionFailed(CommandEvent, frozen=True):
    failure: FailureDetails
    unawaited: tuple[FailureDetails, ...] = ()


class ExecutionContinuedAsNew(CommandEvent, frozen=True):
    """The last event of a generation; the next one starts with ``input`` and the events of ``carried``."""

    input: str | None
    arity: int
    carried: tuple[EventRaised, ...] = ()


# ── messages to entities (an entity keeps state, not a history) ─────────────────────────────────────────────────


class OperationRequested(_Event, frozen=True):
    """One operation for an entity. ``caller`` is who waits for the reply under its ``task_id``; a signal has none."""

    operation: str
    input: str | None
    arity: int
    caller: Parent | None = None


class LockRequested(_Event, frozen=True):
    """The reply to ``caller`` says that the entity is locked for its execution."""

    caller: Parent


class LockReleased(_Event, frozen=True):
    """Whatever this execution has of the entity's lock, it gives up."""

    execution_id: str


class EntityReset(_Event, frozen=True):
    """A person makes the entity new: its lock is free, what waits for it fails, what was set aside is forgotten, and so, without
    ``keep_state``, is its state. A control message: any worker takes it, also where the entity's code cannot run."""

    keep_state: bool = False


EntityRequest = OperationRequested | LockRequested | LockReleased
Event = MessageEvent | CommandEvent
E = TypeVar("E")


def _leaves(kind: type[E]) -> tuple[type[E], ...]:
    return tuple(leaf for part in kind.__subclasses__() for leaf in _leaves(part)) or (kind,)


MESSAGE_EVENTS = _leaves(MessageEvent)
COMMAND_EVENTS = _leaves(CommandEvent)
