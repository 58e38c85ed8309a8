"""From a turn's events to the storage command that makes them durable.

This is the only place that knows both languages: what a machine asks for (``events.py``) and what a store does (``backend.py``). It draws
fresh execution ids for children and generations; everything else is a function of its arguments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from durable_core import backend as store
from durable_core import events as ev
from durable_core.actions import Turn
from durable_core.backend import InstanceStatus, Message
from durable_core.codec import encode_event, join_events
from durable_core.errors import FailureDetails
from durable_core.ids import child_result_id, entity_name, task_key, timer_key
from durable_core.runtime.fresh import fresh_id
from durable_core.runtime.worker.live import LiveInstance


class TurnTranslator:
    """Of one turn of the execution that began with ``started`` (if that is known). ``claims_task`` says whether this worker has room to run
    one more activity of that name now; the place is then taken."""

    def __init__(self, live: LiveInstance, started: ev.ExecutionStarted | None, claims_task: Callable[[str], bool]) -> None:
        self._live = live
        self._parent = started.parent if started is not None else None
        self._tags = started.tags if started is not None else {}
        self._claims_task = claims_task
        self._lists: defaultdict[str, list[Any]] = defaultdict(list)
        self._record: dict[str, Any] = {}
        self._next_execution: store.NextExecution | None = None
        self._locking = False

    @property
    def tasks(self) -> list[store.NewTask]:
        """Those of the turn, as far as it is translated."""
        return self._lists["tasks"]

    def translate(self, turn: Turn) -> dict[str, Any]:
        """The fields of a ``CommitTurn`` that come from the turn: all but its fence and what it consumes and settles."""
        dropped, rows = _cancelled_at_once(turn.events), list[bytes]()
        for event in turn.events:
            rows.append(encode_event(event))
            if not dropped or _command(event) not in dropped:
                self._translate(event, rows[-1])
        obituaries = self._guard_locks(turn)
        for child in turn.bound_children:
            self._lists["messages"].append(termination(child, f"{self._live.execution}>terminate:{child}", self._live.instance))
        if turn.custom_status is not None:
            self._record["custom_status"] = turn.custom_status.encode()
        return {
            **{name: tuple(items) for name, items in self._lists.items()},
            "append": join_events(rows) if rows else None,
            "append_count": len(rows),
            "record": store.RecordUpdate(**self._record) if self._record else None,
            "next_execution": self._next_execution,
            "keep_tasks": True,
            "problem": _unknown_problem(turn.unknown_activities),
            "obituaries": obituaries,
        }

    def _translate(self, event: ev.Event, encoded: bytes) -> None:
        live = self._live
        match event:
            case ev.TaskScheduled(id, name):
                self._lists["tasks"].append(store.NewTask(task_key(live.execution, id), name, encoded, self._claims_task(name)))
            case ev.TimerCreated(id, due_us):
                fired = encode_event(ev.TimerFired(id, due_us))
                timer = Message(timer_key(live.execution, id), live.instance, fired, live.execution, live.instance, due_us)
                self._lists["timers"].append(timer)
            case ev.SubOrchestrationStarted():
                self._start_child(event)
            case ev.EntityCalled() | ev.EntitySignaled() | ev.EntityLockRequested():
                self._ask_entity(event)
            case ev.EntityUnlocked(id, entity):
                self._locking = True
                self._lists["messages"].append(self._release(id, entity))
            case ev.EventSent():
                self._send(f"{live.execution}@{event.id}", event.instance_id, ev.EventRaised(event.name, event.input))
            case ev.CommandCancelled():
                self._cancel(event)
            case ev.ExecutionCompleted():
                self._end(InstanceStatus.COMPLETED, output=event.result)
            case ev.ExecutionFailed():
                self._record["failure"] = encoded
                self._end(InstanceStatus.FAILED, failure=event.failure)
            case ev.ExecutionTerminated():
                text = f"the sub-orchestration {live.instance!r} was terminated"
                self._end(InstanceStatus.TERMINATED, output=event.output, failure=FailureDetails("Terminated", text, non_retriable=True))
            case ev.ExecutionContinuedAsNew():
                start = ev.ExecutionStarted(
                    live.name, event.input, event.arity, parent=self._parent, tags=self._tags, carried=event.carried
                )
                self._next_execution = store.NextExecution(fresh_id(), encode_event(start))
            case ev.ExecutionSuspended() | ev.ExecutionResumed():
                suspended = isinstance(event, ev.ExecutionSuspended)
                self._record["status"] = InstanceStatus.SUSPENDED if suspended else InstanceStatus.RUNNING

    def _guard_locks(self, turn: Turn) -> tuple[Message, ...] | None:
        """An ending gives back all locks. Until then obituaries would: whoever removes the instance has them delivered."""
        if not self._locking and not (turn.ending is not None and turn.locks):
            return None
        releases = [self._release(number, entity) for number, entity in turn.locks]
        if turn.ending is not None:
            self._lists["messages"] += releases
            releases = []
        if self._parent is not None:
            releases.append(removal_notice(self._parent, self._live.instance, self._live.execution))
        return tuple(releases)

    def _release(self, number: int, entity: str) -> Message:
        live = self._live
        released = encode_event(ev.LockReleased(live.execution))
        return Message(f"{live.execution}@{number}>unlock", entity, released, None, live.instance)

    def _as_parent(self, number: int) -> ev.Parent:
        return ev.Parent(self._live.instance, self._live.execution, number, self._live.name)

    def _send(self, id: str, target: str, event: Any, execution: str | None = None, due_us: int = 0, creates: str | None = None) -> None:
        message = Message(id, target, encode_event(event), execution, self._live.instance, due_us, creates=creates)
        self._lists["messages"].append(message)

    def _ask_entity(self, event: ev.EntityCalled | ev.EntitySignaled | ev.EntityLockRequested) -> None:
        due_us = 0
        request: ev.EntityRequest
        match event:
            case ev.EntityLockRequested(id):
                self._locking = True
                request = ev.LockRequested(self._as_parent(id))
            case ev.EntityCalled(id, _, operation, input, arity):
                request = ev.OperationRequested(operation, input, arity, self._as_parent(id))
            case ev.EntitySignaled(_, _, operation, input, arity, due_us):
                request = ev.OperationRequested(operation, input, arity)
        self._send(f"{self._live.execution}@{event.id}", event.entity, request, due_us=due_us, creates=entity_name(event.entity))

    def _cancel(self, event: ev.CommandCancelled) -> None:
        execution = self._live.execution
        if event.kind == "task":
            self._lists["cancel_tasks"].append(task_key(execution, event.id))
        elif event.kind == "timer":
            self._lists["cancel_timers"].append(timer_key(execution, event.id))
        elif event.kind == "child":
            self._lists["messages"].append(termination(event.target, f"{execution}>terminate{event.id}", self._live.instance))

    def _start_child(self, event: ev.SubOrchestrationStarted) -> None:
        live, execution, child = self._live, fresh_id(), event.instance_id
        parent = self._as_parent(event.id)
        start = ev.ExecutionStarted(event.name, event.input, event.arity, parent=parent, tags=event.tags or {})
        taken = f"the instance id {child!r} of the sub-orchestration is taken by an instance that is not an ended child of this parent; choose another instance_id"
        bounce = _failed_child(f"{execution}>bounce", parent, child, "InstanceAlreadyExistsError", taken)
        self._lists["creates"].append(
            store.CreateInstance(
                child,
                execution,
                event.name,
                encode_event(start),
                parent=store.ParentRef(live.instance, live.execution),
                bounce=bounce,
                obituaries=(removal_notice(parent, child, execution),),
            )
        )

    def _end(self, status: InstanceStatus, output: str | None = None, failure: FailureDetails | None = None) -> None:
        """The parent is told, if there is one: ``failure`` is for it."""
        self._record |= {"status": status, "output": output.encode() if output is not None else None}
        if (parent := self._parent) is not None:
            completed = ev.SubOrchestrationCompleted(parent.task_id, output)
            told = completed if failure is None else ev.SubOrchestrationFailed(parent.task_id, failure)
            self._send(child_result_id(self._live.execution), parent.instance_id, told, parent.execution_id)


def removal_notice(parent: ev.Parent, child: str, execution: str) -> Message:
    """What the hub tells the parent of a child that is removed before it ends."""
    removed = f"the sub-orchestration {child!r} was purged or replaced before it ended"
    return _failed_child(child_result_id(execution), parent, child, "InstanceNotFoundError", removed)


def _failed_child(id: str, parent: ev.Parent, child: str, type: str, text: str) -> Message:
    failed = ev.SubOrchestrationFailed(parent.task_id, FailureDetails(f"durable_core.errors.{type}", text, non_retriable=True))
    return Message(id, parent.instance_id, encode_event(failed), parent.execution_id, child)


def termination(target: str, id: str, sender: str) -> Message:
    """A control message that ends the target, and its children, as TERMINATED."""
    return Message(id, target, encode_event(ev.ExecutionTerminated(None, recursive=True)), None, sender, control=True)


_ISSUED: dict[Any, str] = {
    ev.TaskScheduled: "task",
    ev.TimerCreated: "timer",
    ev.SubOrchestrationStarted: "child",
    ev.EntityCalled: "entity",
    ev.EntityLockRequested: "entity",
}
_KINDS = _ISSUED | {ev.EntityUnlocked: "entity"}


def _command(event: Any) -> tuple[str, int] | None:
    """Which command an event issues, takes back or cancels."""
    kind = event.kind if type(event) is ev.CommandCancelled else _KINDS.get(type(event))
    return (kind, event.id) if kind is not None else None


def _cancelled_at_once(events: Iterable[Any]) -> set[tuple[str, int]]:
    """Commands that were issued and cancelled in this very turn; both stay in the history, neither reaches the store."""
    cancelled: set[tuple[str, int]] = {(event.kind, event.id) for event in events if type(event) is ev.CommandCancelled}
    return cancelled and cancelled & {(_ISSUED[type(event)], event.id) for event in events if type(event) in _ISSUED}


def _unknown_problem(names: tuple[str, ...]) -> str | None:
    if not names:
        return None
    return f"waits for activity {', '.join(map(repr, names))}, which the worker that runs this orchestration does not know; it stays queued until a worker that registers it takes part"
