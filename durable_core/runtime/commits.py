"""From a turn's events to the storage command that makes them durable.

This is the only place that knows both languages: what a machine asks for (``events.py``) and what a store does (``backend.py``). It draws fresh execution ids for children and generations;
everything else is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from attrs import define, field

from durable_core.actions import Turn
from durable_core.backend import CommitTurn, CreateInstance, InstanceStatus, Message, NewTask, NextExecution, ParentRef, RecordUpdate
from durable_core.codec import encode_event, join_events
from durable_core.errors import FailureDetails
from durable_core.events import (
    CommandCancelled,
    EntityCalled,
    EntitySignaled,
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
    OperationRequested,
    Parent,
    SubOrchestrationCompleted,
    SubOrchestrationFailed,
    SubOrchestrationStarted,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from durable_core.ids import child_result_id, task_key, timer_key

__all__ = ["Fence", "build_commit", "encode_failure", "purged_child", "termination"]


@define
class Fence:
    """Where an instance stands in the store, as this worker knows it."""

    instance: str
    execution: str
    epoch: int
    version: int


@define
class _Parts:
    """A commit in the making."""

    fence: Fence
    name: str
    parent: Parent | None
    claims_task: Callable[[str], bool]
    dropped: set[tuple[str, int]]
    started: ExecutionStarted | None
    rows: list[bytes] = field(factory=list)
    tasks: list[NewTask] = field(factory=list)
    cancel_tasks: list[str] = field(factory=list)
    timers: list[Message] = field(factory=list)
    cancel_timers: list[str] = field(factory=list)
    messages: list[Message] = field(factory=list)
    creates: list[CreateInstance] = field(factory=list)
    status: InstanceStatus | None = None
    output: bytes | None = None
    failure: bytes | None = None
    next_execution: NextExecution | None = None


def build_commit(
    turn: Turn,
    fence: Fence,
    *,
    worker: str,
    name: str,
    started: ExecutionStarted | None,
    first: bool,
    consumes: Iterable[str],
    settles: Iterable[str],
    claims_task: Callable[[str], bool],
    problem: str | None,
    hold_us: int,
) -> CommitTurn:
    """``claims_task(name)`` says whether this worker has room to run one more activity of that name now. ``first``: the instance has been PENDING until now."""
    parts = _Parts(fence, name, started.parent if started is not None else None, claims_task, _cancelled_at_once(turn.events), started)
    if first:
        parts.status = InstanceStatus.RUNNING
    for event in turn.events:
        translate = _TRANSLATIONS.get(type(event))
        encoded = encode_event(event)
        parts.rows.append(encoded)
        if translate is not None:
            translate(parts, event, encoded)
    custom_status = turn.custom_status.encode() if turn.custom_status is not None else None
    record = None
    if parts.status is not None or custom_status is not None:
        record = RecordUpdate(parts.status, custom_status, parts.output, parts.failure)
    return CommitTurn(
        instance=fence.instance,
        execution=fence.execution,
        epoch=fence.epoch,
        version=fence.version,
        worker=worker,
        commit_id=f"{worker}/{fence.epoch}.{fence.version}",
        append=join_events(parts.rows),
        append_count=len(parts.rows),
        consumes=tuple(consumes),
        settles=tuple(settles),
        tasks=tuple(parts.tasks),
        cancel_tasks=tuple(parts.cancel_tasks),
        messages=tuple(parts.messages),
        creates=tuple(parts.creates),
        timers=tuple(parts.timers),
        cancel_timers=tuple(parts.cancel_timers),
        record=record,
        next_execution=parts.next_execution,
        keep_tasks=not isinstance(turn.ending, ExecutionTerminated),
        problem=problem,
        hold_us=hold_us,
    )


def _cancelled_at_once(events: Iterable[Event]) -> set[tuple[str, int]]:
    """Commands that were issued and cancelled in this very turn: both stay in the history, neither reaches the store."""
    cancelled: set[tuple[str, int]] = {(event.kind, event.id) for event in events if type(event) is CommandCancelled}
    if not cancelled:
        return cancelled
    issued: set[tuple[str, int]] = {(_KIND[type(event)], event.id) for event in events if isinstance(event, _ISSUED)}
    return cancelled & issued


_ISSUED = (TaskScheduled, TimerCreated, SubOrchestrationStarted, EntityCalled)
_KIND: dict[type[Event], str] = {TaskScheduled: "task", TimerCreated: "timer", SubOrchestrationStarted: "child", EntityCalled: "entity"}


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────


def _task(parts: _Parts, event: TaskScheduled, encoded: bytes) -> None:
    if ("task", event.id) not in parts.dropped:
        parts.tasks.append(NewTask(task_key(parts.fence.execution, event.id), event.name, encoded, parts.claims_task(event.name)))


def _timer(parts: _Parts, event: TimerCreated, _encoded: bytes) -> None:
    if ("timer", event.id) not in parts.dropped:
        fence = parts.fence
        fired = encode_event(TimerFired(event.id, event.due_us))
        parts.timers.append(Message(timer_key(fence.execution, event.id), fence.instance, fired, fence.execution, fence.instance, event.due_us))


def _child(parts: _Parts, event: SubOrchestrationStarted, _encoded: bytes) -> None:
    if ("child", event.id) in parts.dropped:
        return
    fence = parts.fence
    execution = uuid4().hex
    parent = Parent(fence.instance, fence.execution, event.id, parts.name)
    start = ExecutionStarted(event.name, event.input, event.arity, parent=parent, tags=event.tags or {})
    taken = FailureDetails(
        "durable_core.errors.InstanceAlreadyExistsError",
        f"the instance id {event.instance_id!r} of the sub-orchestration is taken by an instance that is not an ended child of this parent; choose another instance_id",
        non_retriable=True,
    )
    parts.creates.append(
        CreateInstance(
            event.instance_id,
            execution,
            event.name,
            encode_event(start),
            parent=ParentRef(fence.instance, fence.execution),
            bounce=_to_parent(parent, event.instance_id, f"{execution}>bounce", SubOrchestrationFailed(event.id, taken)),
            obituaries=(purged_child(parent, event.instance_id, execution),),
        )
    )


def purged_child(parent: Parent, instance_id: str, execution: str) -> Message:
    """What a parent is told if somebody removes its child."""
    gone = FailureDetails("durable_core.errors.InstanceNotFoundError", f"the sub-orchestration {instance_id!r} was purged or replaced before it ended", non_retriable=True)
    return _to_parent(parent, instance_id, child_result_id(execution), SubOrchestrationFailed(parent.task_id, gone))


def _to_parent(parent: Parent, child: str, id: str, event: SubOrchestrationCompleted | SubOrchestrationFailed) -> Message:
    return Message(id, parent.instance_id, encode_event(event), parent.execution_id, child)


def _call(parts: _Parts, event: EntityCalled, _encoded: bytes) -> None:
    fence = parts.fence
    request = OperationRequested(event.operation, event.input, event.arity, Parent(fence.instance, fence.execution, event.id, parts.name))
    _to_entity(parts, event, request, 0)


def _signal(parts: _Parts, event: EntitySignaled, _encoded: bytes) -> None:
    _to_entity(parts, event, OperationRequested(event.operation, event.input, event.arity), event.due_us)


def _to_entity(parts: _Parts, event: EntityCalled | EntitySignaled, request: OperationRequested, due_us: int) -> None:
    fence = parts.fence
    parts.messages.append(Message(f"{fence.execution}@{event.id}", event.entity, encode_event(request), None, fence.instance, due_us, creates=event.entity.split("@", 2)[1]))


def _event_sent(parts: _Parts, event: EventSent, _encoded: bytes) -> None:
    fence = parts.fence
    parts.messages.append(Message(f"{fence.execution}@{event.id}", event.instance_id, encode_event(EventRaised(event.name, event.input)), None, fence.instance))


def _cancel(parts: _Parts, event: CommandCancelled, _encoded: bytes) -> None:
    if (event.kind, event.id) in parts.dropped:
        return
    execution = parts.fence.execution
    if event.kind == "task":
        parts.cancel_tasks.append(task_key(execution, event.id))
    elif event.kind == "timer":
        parts.cancel_timers.append(timer_key(execution, event.id))
    elif event.kind == "child":
        parts.messages.append(termination(event.target, f"{execution}>terminate{event.id}", parts.fence.instance))


def termination(target: str, id: str, sender: str, output: str | None = None, recursive: bool = True) -> Message:
    """A control message that ends the target as TERMINATED."""
    return Message(id, target, encode_event(ExecutionTerminated(output, recursive)), None, sender, control=True)


# ── endings and status ────────────────────────────────────────────────────────────────────────────────────────


def _completed(parts: _Parts, event: ExecutionCompleted, _encoded: bytes) -> None:
    parts.status = InstanceStatus.COMPLETED
    parts.output = event.result.encode() if event.result is not None else None
    if parts.parent is not None:
        _tell_parent(parts, parts.parent, SubOrchestrationCompleted(parts.parent.task_id, event.result))


def _failed(parts: _Parts, event: ExecutionFailed, _encoded: bytes) -> None:
    parts.status = InstanceStatus.FAILED
    parts.failure = encode_failure(event.failure)
    if parts.parent is not None:
        _tell_parent(parts, parts.parent, SubOrchestrationFailed(parts.parent.task_id, event.failure))


def _terminated(parts: _Parts, event: ExecutionTerminated, _encoded: bytes) -> None:
    parts.status = InstanceStatus.TERMINATED
    parts.output = event.output.encode() if event.output is not None else None
    if parts.parent is not None:
        details = FailureDetails("Terminated", f"the sub-orchestration {parts.fence.instance!r} was terminated", non_retriable=True)
        _tell_parent(parts, parts.parent, SubOrchestrationFailed(parts.parent.task_id, details))


def _tell_parent(parts: _Parts, parent: Parent, event: SubOrchestrationCompleted | SubOrchestrationFailed) -> None:
    parts.messages.append(_to_parent(parent, parts.fence.instance, child_result_id(parts.fence.execution), event))


def _continued(parts: _Parts, event: ExecutionContinuedAsNew, _encoded: bytes) -> None:
    tags = parts.started.tags if parts.started is not None else {}
    start = ExecutionStarted(parts.name, event.input, event.arity, parent=parts.parent, tags=tags, carried=event.carried)
    parts.next_execution = NextExecution(uuid4().hex, encode_event(start))


def _suspended(parts: _Parts, _event: ExecutionSuspended, _encoded: bytes) -> None:
    parts.status = InstanceStatus.SUSPENDED


def _resumed(parts: _Parts, _event: ExecutionResumed, _encoded: bytes) -> None:
    parts.status = InstanceStatus.RUNNING


_TRANSLATIONS: dict[type[Event], Callable[[_Parts, Any, bytes], None]] = {
    TaskScheduled: _task,
    TimerCreated: _timer,
    SubOrchestrationStarted: _child,
    EntityCalled: _call,
    EntitySignaled: _signal,
    EventSent: _event_sent,
    CommandCancelled: _cancel,
    ExecutionCompleted: _completed,
    ExecutionFailed: _failed,
    ExecutionTerminated: _terminated,
    ExecutionContinuedAsNew: _continued,
    ExecutionSuspended: _suspended,
    ExecutionResumed: _resumed,
}


def encode_failure(details: FailureDetails) -> bytes:
    return encode_event(ExecutionFailed(details))
