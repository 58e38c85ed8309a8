"""From a turn's events to the storage command that makes them durable.

This is the only place that knows both languages: what a machine asks for (``events.py``) and what a store does (``backend.py``). It draws
fresh execution ids for children and generations; everything else is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from msgspec import Struct, field

from durable_core import events as ev
from durable_core.actions import Turn
from durable_core.backend import CommitTurn, CreateInstance, InstanceStatus, Message, NewTask, NextExecution, ParentRef, RecordUpdate
from durable_core.codec import encode_event, join_events
from durable_core.errors import FailureDetails
from durable_core.ids import child_result_id, entity_name, task_key, timer_key
from durable_core.runtime.live import Fence, LiveInstance

ClaimsTask = Callable[[str], bool]
"""Whether this worker has room to run one more activity of that name now; the place is then taken."""


def build_commit(
    turn: Turn, live: LiveInstance, started: ev.ExecutionStarted | None, *, worker: str, claims_task: ClaimsTask, hold_us: int
) -> CommitTurn:
    """``started`` is the first event of the execution, if it is known; what ``live`` has in flight is consumed and settled."""
    fence = live.fence
    parts = _Parts(fence, live.name, started, claims_task, _cancelled_at_once(turn.events))
    if live.pending:
        parts.status = InstanceStatus.RUNNING
    for event in turn.events:
        encoded = encode_event(event)
        parts.rows.append(encoded)
        translate = _TRANSLATIONS.get(type(event))
        if translate is not None:
            translate(parts, event, encoded)
    custom_status = _bytes(turn.custom_status)
    changed = parts.status is not None or custom_status is not None
    return CommitTurn(
        fence.instance,
        fence.execution,
        fence.epoch,
        fence.version,
        worker,
        f"{worker}/{fence.epoch}.{fence.version}",
        append=join_events(parts.rows) if parts.rows else None,
        append_count=len(parts.rows),
        consumes=tuple(arrival.message.id for arrival in live.in_flight if arrival.message is not None),
        settles=tuple(arrival.lease.id for arrival in live.in_flight if arrival.lease is not None),
        tasks=tuple(parts.tasks),
        cancel_tasks=tuple(parts.cancel_tasks),
        messages=tuple(parts.messages),
        creates=tuple(parts.creates),
        timers=tuple(parts.timers),
        cancel_timers=tuple(parts.cancel_timers),
        record=RecordUpdate(parts.status, custom_status, parts.output, parts.failure) if changed else None,
        next_execution=parts.next_execution,
        keep_tasks=not isinstance(turn.ending, ev.ExecutionTerminated),
        problem=_unknown_problem(turn.unknown_activities),
        hold_us=hold_us,
    )


class _Parts(Struct):
    """A commit in the making. ``dropped``: commands that were issued and cancelled in this very turn; both stay in the history, neither
    reaches the store."""

    fence: Fence
    name: str
    started: ev.ExecutionStarted | None
    claims_task: ClaimsTask
    dropped: set[tuple[str, int]]
    rows: list[bytes] = field(default_factory=list)
    tasks: list[NewTask] = field(default_factory=list)
    cancel_tasks: list[str] = field(default_factory=list)
    timers: list[Message] = field(default_factory=list)
    cancel_timers: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    creates: list[CreateInstance] = field(default_factory=list)
    status: InstanceStatus | None = None
    output: bytes | None = None
    failure: bytes | None = None
    next_execution: NextExecution | None = None

    @property
    def parent(self) -> ev.Parent | None:
        return self.started.parent if self.started is not None else None

    def send(self, id: str, target: str, event: Any, execution: str | None = None, due_us: int = 0, creates: str | None = None) -> None:
        self.messages.append(Message(id, target, encode_event(event), execution, self.fence.instance, due_us, creates=creates))


_KINDS: dict[Any, str] = {
    ev.TaskScheduled: "task",
    ev.TimerCreated: "timer",
    ev.SubOrchestrationStarted: "child",
    ev.EntityCalled: "entity",
}


def _cancelled_at_once(events: Iterable[Any]) -> set[tuple[str, int]]:
    cancelled: set[tuple[str, int]] = {(event.kind, event.id) for event in events if type(event) is ev.CommandCancelled}
    return cancelled and cancelled & {(_KINDS[type(event)], event.id) for event in events if type(event) in _KINDS}


def _unknown_problem(names: tuple[str, ...]) -> str | None:
    if not names:
        return None
    return f"waits for activity {', '.join(map(repr, names))}, which the worker that runs this orchestration does not know; it stays queued until a worker that registers it takes part"


def _bytes(text: str | None) -> bytes | None:
    return text.encode() if text is not None else None


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────


def _task(parts: _Parts, event: ev.TaskScheduled, encoded: bytes) -> None:
    if ("task", event.id) not in parts.dropped:
        parts.tasks.append(NewTask(task_key(parts.fence.execution, event.id), event.name, encoded, parts.claims_task(event.name)))


def _timer(parts: _Parts, event: ev.TimerCreated, _encoded: bytes) -> None:
    if ("timer", event.id) not in parts.dropped:
        execution, instance = parts.fence.execution, parts.fence.instance
        fired = encode_event(ev.TimerFired(event.id, event.due_us))
        parts.timers.append(Message(timer_key(execution, event.id), instance, fired, execution, instance, event.due_us))


def _child(parts: _Parts, event: ev.SubOrchestrationStarted, _encoded: bytes) -> None:
    if ("child", event.id) in parts.dropped:
        return
    execution, fence, instance = uuid4().hex, parts.fence, event.instance_id
    parent = ev.Parent(fence.instance, fence.execution, event.id, parts.name)

    def failure(message_id: str, type: str, text: str) -> Message:
        failed = ev.SubOrchestrationFailed(event.id, FailureDetails(f"durable_core.errors.{type}", text, non_retriable=True))
        return Message(message_id, fence.instance, encode_event(failed), fence.execution, instance)

    taken = f"the instance id {instance!r} of the sub-orchestration is taken by an instance that is not an ended child of this parent; choose another instance_id"
    removed = f"the sub-orchestration {instance!r} was purged or replaced before it ended"
    parts.creates.append(
        CreateInstance(
            instance,
            execution,
            event.name,
            encode_event(ev.ExecutionStarted(event.name, event.input, event.arity, parent=parent, tags=event.tags or {})),
            parent=ParentRef(fence.instance, fence.execution),
            bounce=failure(f"{execution}>bounce", "InstanceAlreadyExistsError", taken),
            obituaries=(failure(child_result_id(execution), "InstanceNotFoundError", removed),),
        )
    )


def _call(parts: _Parts, event: ev.EntityCalled, _encoded: bytes) -> None:
    fence = parts.fence
    request = ev.OperationRequested(
        event.operation, event.input, event.arity, ev.Parent(fence.instance, fence.execution, event.id, parts.name)
    )
    parts.send(f"{fence.execution}@{event.id}", event.entity, request, creates=entity_name(event.entity))


def _signal(parts: _Parts, event: ev.EntitySignaled, _encoded: bytes) -> None:
    request = ev.OperationRequested(event.operation, event.input, event.arity)
    parts.send(f"{parts.fence.execution}@{event.id}", event.entity, request, due_us=event.due_us, creates=entity_name(event.entity))


def _event_sent(parts: _Parts, event: ev.EventSent, _encoded: bytes) -> None:
    parts.send(f"{parts.fence.execution}@{event.id}", event.instance_id, ev.EventRaised(event.name, event.input))


def _cancel(parts: _Parts, event: ev.CommandCancelled, _encoded: bytes) -> None:
    execution = parts.fence.execution
    if (event.kind, event.id) in parts.dropped:
        return
    if event.kind == "task":
        parts.cancel_tasks.append(task_key(execution, event.id))
    elif event.kind == "timer":
        parts.cancel_timers.append(timer_key(execution, event.id))
    elif event.kind == "child":
        parts.messages.append(termination(event.target, f"{execution}>terminate{event.id}", parts.fence.instance))


def termination(target: str, id: str, sender: str, output: str | None = None, recursive: bool = True) -> Message:
    """A control message that ends the target as TERMINATED."""
    return Message(id, target, encode_event(ev.ExecutionTerminated(output, recursive)), None, sender, control=True)


# ── endings and status ────────────────────────────────────────────────────────────────────────────────────────


def _completed(parts: _Parts, event: ev.ExecutionCompleted, _encoded: bytes) -> None:
    parts.status, parts.output = InstanceStatus.COMPLETED, _bytes(event.result)
    if parts.parent is not None:
        _tell_parent(parts, parts.parent, ev.SubOrchestrationCompleted(parts.parent.task_id, event.result))


def _failed(parts: _Parts, event: ev.ExecutionFailed, encoded: bytes) -> None:
    parts.status, parts.failure = InstanceStatus.FAILED, encoded
    if parts.parent is not None:
        _tell_parent(parts, parts.parent, ev.SubOrchestrationFailed(parts.parent.task_id, event.failure))


def _terminated(parts: _Parts, event: ev.ExecutionTerminated, _encoded: bytes) -> None:
    parts.status, parts.output = InstanceStatus.TERMINATED, _bytes(event.output)
    if parts.parent is not None:
        details = FailureDetails("Terminated", f"the sub-orchestration {parts.fence.instance!r} was terminated", non_retriable=True)
        _tell_parent(parts, parts.parent, ev.SubOrchestrationFailed(parts.parent.task_id, details))


def _tell_parent(parts: _Parts, parent: ev.Parent, event: Any) -> None:
    parts.send(child_result_id(parts.fence.execution), parent.instance_id, event, parent.execution_id)


def _continued(parts: _Parts, event: ev.ExecutionContinuedAsNew, _encoded: bytes) -> None:
    tags = parts.started.tags if parts.started is not None else {}
    start = ev.ExecutionStarted(parts.name, event.input, event.arity, parent=parts.parent, tags=tags, carried=event.carried)
    parts.next_execution = NextExecution(uuid4().hex, encode_event(start))


def _suspended(parts: _Parts, _event: ev.ExecutionSuspended, _encoded: bytes) -> None:
    parts.status = InstanceStatus.SUSPENDED


def _resumed(parts: _Parts, _event: ev.ExecutionResumed, _encoded: bytes) -> None:
    parts.status = InstanceStatus.RUNNING


_TRANSLATIONS: dict[type[ev.Event], Callable[[_Parts, Any, bytes], None]] = {
    ev.TaskScheduled: _task,
    ev.TimerCreated: _timer,
    ev.SubOrchestrationStarted: _child,
    ev.EntityCalled: _call,
    ev.EntitySignaled: _signal,
    ev.EventSent: _event_sent,
    ev.CommandCancelled: _cancel,
    ev.ExecutionCompleted: _completed,
    ev.ExecutionFailed: _failed,
    ev.ExecutionTerminated: _terminated,
    ev.ExecutionContinuedAsNew: _continued,
    ev.ExecutionSuspended: _suspended,
    ev.ExecutionResumed: _resumed,
}
