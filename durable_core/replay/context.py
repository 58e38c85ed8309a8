"""``OrchestrationContext``: what an orchestrator may ask for.

Each method encodes its arguments first (a call that raises leaves no trace), then takes an id, then issues one command. Nothing here does
I/O; everything goes through the ``Execution``.
"""

from __future__ import annotations

import logging
import random
from asyncio import events
from collections.abc import Callable, Coroutine, MutableMapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, TypedDict, TypeVarTuple, Unpack, overload
from uuid import NAMESPACE_OID, UUID, uuid5

from durable_core import events as ev
from durable_core.definitions.activity import Activity, checked_options
from durable_core.definitions.definition import P, R
from durable_core.definitions.entity import E, EntityContext, EntityId, checked_entity_id
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.definitions.registry import BoundEntity
from durable_core.errors import OutsideOrchestratorError
from durable_core.ids import check_instance_id, check_is_orchestration, check_text, child_id
from durable_core.moments import Duration, due_time_us, to_datetime
from durable_core.replay.calls import RetryingCall, Schedule, Waiter, limit_duration
from durable_core.replay.futures import Decoder, DurableTask
from durable_core.replay.locks import CriticalSection
from durable_core.retry import RetryPolicy

if TYPE_CHECKING:
    from durable_core.replay.machine import Execution

Ts = TypeVarTuple("Ts")

Plain = Callable[Concatenate[E, P], R]
"""An operation of an entity of class ``E``; or one that takes an ``EntityContext``, which is not the caller's to give."""
WithContext = Callable[Concatenate[E, EntityContext, P], R]


class CallOptions(TypedDict, total=False):
    """Of ``call_activity``."""

    retry: RetryPolicy | None
    tags: dict[str, str] | None
    timeout: Duration | None


class ChildOptions(CallOptions, total=False):
    """Of ``call_sub_orchestrator``."""

    instance_id: str | None
    terminate_with_parent: bool


class ReplaySafeLogger(logging.LoggerAdapter[logging.Logger]):
    """Records carry ``instance_id`` and ``orchestrator``. A line is logged again if the process dies between the line and the commit of its
    turn."""

    def __init__(self, execution: Execution) -> None:
        logger = logging.getLogger(f"durable_core.orchestrator.{execution.name}")
        super().__init__(logger, {"instance_id": execution.instance_id, "orchestrator": execution.name})
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return not (self._execution.replaying or self._execution.closing) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class EntityRef(Generic[E]):
    """An entity as an orchestrator sees it. Operations are named by the class's functions: ``ref.call(Counter.add, 5)``."""

    def __init__(self, ctx: OrchestrationContext, bound: BoundEntity, key: str) -> None:
        self._ctx = ctx
        self._bound = bound
        self.id = EntityId(bound.name, key)

    @overload
    def call(self, operation: WithContext[E, P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call(self, operation: WithContext[E, P, R], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call(self, operation: Plain[E, P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call(self, operation: Plain[E, P, R], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one operation and wait for what it returns or raises (``TaskFailedError``)."""
        callee = self._bound.operation(operation)
        return self._ctx._call_entity(self.id, callee.name, callee.encode(args, kwargs), callee.decode_result)

    @overload
    def signal(self, operation: WithContext[E, P, object], *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def signal(self, operation: Plain[E, P, object], *args: P.args, **kwargs: P.kwargs) -> None: ...
    def signal(self, operation: Any, *args: Any, **kwargs: Any) -> None:
        """Send one operation and go on: no reply, no error."""
        callee = self._bound.operation(operation)
        self._ctx._signal_entity(self.id, callee.name, callee.encode(args, kwargs), None)

    @overload
    def signal_at(self, when: datetime | Duration, operation: WithContext[E, P, object], *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def signal_at(self, when: datetime | Duration, operation: Plain[E, P, object], *args: P.args, **kwargs: P.kwargs) -> None: ...
    def signal_at(self, when: datetime | Duration, operation: Any, *args: Any, **kwargs: Any) -> None:
        """As ``signal``, to be delivered at a time (aware) or after a while."""
        callee = self._bound.operation(operation)
        self._ctx._signal_entity(self.id, callee.name, callee.encode(args, kwargs), when)

    def delete(self) -> DurableTask[None]:
        """Have the entity forget its state (or call its own operation of this name), and wait for that."""
        return self._ctx.call_entity(self.id, "delete", return_type=None)


class OrchestrationContext:
    """The first parameter of every orchestrator. Valid only inside turns of its own orchestration."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._uuids = 0
        self.name: Final = execution.name
        self.instance_id: Final = execution.instance_id
        self.execution_id: Final = execution.execution_id
        """Differs for each generation of the same instance."""

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def parent(self) -> ev.Parent | None:
        """Who started this as a sub-orchestration."""
        started = self._execution.started
        return started.parent if started is not None else None

    @property
    def is_replaying(self) -> bool:
        """Whether the code is being run again over recorded events. Deciding by it breaks determinism; it is for logs and metrics."""
        return self._execution.replaying

    @property
    def current_utc_datetime(self) -> datetime:
        """The recorded time of what is being handled, aware, in UTC. Never the wall clock."""
        return to_datetime(self._execution.loop.now_us)

    @property
    def history_length(self) -> int:
        """How many events the history has so far."""
        return self._execution.history_length

    @property
    def continue_as_new_suggested(self) -> bool:
        """Whether the history has grown so long that going on as a new generation is cheaper."""
        return self._execution.history_length >= self._execution.limits.suggest_continue_as_new

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A stdlib logger that is silent while replaying."""
        return ReplaySafeLogger(self._execution)

    @cached_property
    def random(self) -> random.Random:
        """Seeded by the execution id: the same numbers on every replay."""
        return random.Random(self.execution_id)

    def new_uuid(self) -> UUID:
        """A fresh UUID (version 5), the same on every replay."""
        self._active()
        self._uuids += 1
        return uuid5(NAMESPACE_OID, f"{self.instance_id}\x1f{self.execution_id}\x1f{self._uuids}")

    # ── activities ────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def call_activity(self, fn: Activity[P, R], /, *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call_activity(self, fn: Callable[[*Ts], Coroutine[Any, Any, R]], /, *args: *Ts, **opts: Unpack[CallOptions]) -> DurableTask[R]: ...
    @overload
    def call_activity(self, fn: Callable[[*Ts], R], /, *args: *Ts, **opts: Unpack[CallOptions]) -> DurableTask[R]: ...
    @overload
    def call_activity(self, fn: str, /, *args: Any, return_type: type[R], **opts: Unpack[CallOptions]) -> DurableTask[R]: ...
    @overload
    def call_activity(self, fn: str, /, *args: Any, **opts: Unpack[CallOptions]) -> DurableTask[Any]: ...
    def call_activity(self, fn: Any, /, *args: Any, return_type: Any = None, **kwargs: Any) -> Any:  # type: ignore[misc]  # pyright: ignore[reportInconsistentOverload]
        """Run an activity, at least once, and await its result.

        ``fn`` is the activity, or its name (then give ``return_type`` to have the result typed and checked). ``timeout`` covers the whole
        call, queueing and retries included (``TaskTimeoutError``). A failure raises ``TaskFailedError``. Raises at once:
        ``NotRegisteredError``, ``ArgumentsError``, ``PayloadError``.
        """
        execution = self._active()
        callee = execution.registry.activity(fn)
        defaults = fn if isinstance(fn, Activity) else callee.definition
        retry, timeout, tags = _take_options(kwargs)
        text, arity = callee.encode(args, kwargs)
        execution.registry.check_size(text, f"the input of {callee.name!r}")
        decode = callee.decode_result if return_type is None else execution.registry.decoder(return_type)
        tags = tags or defaults.tags
        note = "" if callee.known else callee.name
        first = 0

        def schedule(attempt: int, waiter: Waiter) -> int:
            nonlocal first
            number = execution.next_number("task")
            command = ev.TaskScheduled(number, callee.name, text, arity, attempt, tags, first)
            first = first or number
            return execution.call("task", command, waiter, note)

        return self._call("task", callee.name, decode, schedule, retry or defaults.retry, timeout or defaults.timeout)

    def _call(
        self, kind: ev.CommandKind, name: str, decode: Decoder, schedule: Schedule, retry: RetryPolicy | None, timeout: timedelta | None
    ) -> DurableTask[Any]:
        """One command, or with a policy one an attempt. ``schedule(attempt, waiter)`` issues it and gives its id."""
        execution = self._execution
        task: DurableTask[Any] = DurableTask(execution.loop, name, kind, decode)
        if retry is None:
            task.task_id = schedule(1, task)
        else:
            task.on_cancel = RetryingCall(execution, kind, retry, task, schedule).cancel
        if timeout is not None:
            limit_duration(execution, task, timeout, repr(name))
        return task

    # ── sub-orchestrations ────────────────────────────────────────────────────────────────────────────────────

    @overload
    def call_sub_orchestrator(self, fn: Orchestrator[P, R], /, *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call_sub_orchestrator(
        self, fn: Callable[[OrchestrationContext, *Ts], Coroutine[Any, Any, R]], /, *args: *Ts, **opts: Unpack[ChildOptions]
    ) -> DurableTask[R]: ...
    @overload
    def call_sub_orchestrator(self, fn: str, /, *args: Any, return_type: type[R], **opts: Unpack[ChildOptions]) -> DurableTask[R]: ...
    @overload
    def call_sub_orchestrator(self, fn: str, /, *args: Any, **opts: Unpack[ChildOptions]) -> DurableTask[Any]: ...
    def call_sub_orchestrator(self, fn: Any, /, *args: Any, instance_id: Any = None, return_type: Any = None, **kwargs: Any) -> Any:  # type: ignore[misc]  # pyright: ignore[reportInconsistentOverload]
        """Start another orchestration as a child and await its result.

        Without ``instance_id`` the child's id is derived from this execution's. An id that is taken by anybody but an ended child of this
        parent fails the call. Cancelling the call terminates the child. A parent that ends (or continues as new) leaves it running, unless
        ``terminate_with_parent``. Errors as for ``call_activity``.
        """
        execution = self._active()
        execution.forbid_in_section("call_sub_orchestrator")
        callee = execution.registry.orchestrator(fn)
        retry, timeout, tags = _take_options(kwargs)
        bound = bool(kwargs.pop("terminate_with_parent", False))
        chosen = (fn if isinstance(fn, Orchestrator) else callee.definition).instance_id if instance_id is None else instance_id
        if chosen is not None:
            check_instance_id(chosen)
        text, arity = callee.encode(args, kwargs)
        execution.registry.check_size(text, f"the input of {callee.name!r}")
        decode = callee.decode_result if return_type is None else execution.registry.decoder(return_type)

        def schedule(_attempt: int, waiter: Waiter) -> int:
            number = execution.next_number("child")
            child = chosen or child_id(execution.execution_id, number)
            if bound:
                execution.bound_children.add(number)
            return execution.call("child", ev.SubOrchestrationStarted(number, callee.name, child, text, arity, tags), waiter, child)

        return self._call("child", callee.name, decode, schedule, retry, timeout)

    # ── timers, events ────────────────────────────────────────────────────────────────────────────────────────

    def create_timer(self, fire_at: datetime | Duration) -> DurableTask[None]:
        """A durable timer: at a time (aware), or after a while (a timedelta or a number of seconds). ``asyncio.sleep`` is the same for
        short. A time in the past fires at once."""
        execution = self._active()
        due_us = due_time_us(fire_at, execution.loop.now_us, "create_timer")
        task: DurableTask[None] = DurableTask(execution.loop, "timer", "timer")
        task.task_id = execution.start_timer(max(due_us, execution.loop.now_us), task)
        return task

    @overload
    def wait_for_external_event(self, name: str, *, return_type: type[R], timeout: Duration | None = ...) -> DurableTask[R]: ...
    @overload
    def wait_for_external_event(self, name: str, *, timeout: Duration | None = ...) -> DurableTask[Any]: ...
    def wait_for_external_event(self, name: str, *, return_type: Any = None, timeout: Duration | None = None) -> Any:
        """Wait for the next event of this name (case-insensitive) that nobody else waits for; events that came earlier are buffered.
        ``timeout`` raises ``TaskTimeoutError``."""
        execution = self._active()
        check_text(name, "an event name")
        limit = _take_options({"timeout": timeout})[1]
        decode = execution.registry.decoder(Any if return_type is None else return_type)
        task: DurableTask[Any] = DurableTask(execution.loop, name, decode=decode, on_cancel=execution.external_events.give_up)
        execution.external_events.wait(task)
        limit_duration(execution, task, limit, f"event {name!r}")
        return task

    def send_event(self, instance_id: str, name: str, data: Any = None) -> None:
        """Raise an external event at another orchestration. Dropped if there is no such instance or it has ended."""
        execution = self._active()
        check_is_orchestration(instance_id, "send it a signal (ctx.signal_entity)")
        check_instance_id(instance_id)
        check_text(name, "an event name")
        text = execution.registry.check_size(execution.registry.encode_any(data), f"the data of event {name!r}")
        execution.command(ev.EventSent(execution.next_number("entity"), instance_id, name, text))

    # ── entities ──────────────────────────────────────────────────────────────────────────────────────────────

    def entity(self, cls: type[E], key: str) -> EntityRef[E]:
        """The entity of this class and key; it exists as soon as it is used."""
        return EntityRef(self, self._execution.registry.entity(cls), key)

    @overload
    def call_entity(self, id: EntityId, operation: str, *args: Any, return_type: type[R]) -> DurableTask[R]: ...
    @overload
    def call_entity(self, id: EntityId, operation: str, *args: Any, return_type: Any = ...) -> DurableTask[Any]: ...
    def call_entity(self, id: EntityId, operation: str, *args: Any, return_type: Any = Any) -> DurableTask[Any]:
        """Call an operation by name; ``ctx.entity(cls, key).call(...)`` is the typed form."""
        registry = self._execution.registry
        return self._call_entity(id, operation, registry.encode_arguments(args), registry.decoder(return_type))

    def signal_entity(self, id: EntityId, operation: str, *args: Any, signal_time: datetime | Duration | None = None) -> None:
        """Signal an operation by name, at once or to be delivered at ``signal_time``; ``ctx.entity(cls, key).signal(...)`` is the typed
        form."""
        self._signal_entity(id, operation, self._execution.registry.encode_arguments(args), signal_time)

    def lock_entities(self, *entities: EntityId | EntityRef[Any]) -> CriticalSection:
        """``async with ctx.lock_entities(a, b): ...``: a critical section, in which these entities serve nobody but this orchestration.

        They are locked in the order of their ids, each as soon as it has served what came before; and unlocked however the section is left,
        also if the orchestration fails, is terminated or continues as new. Inside, ``LockingRulesViolationError`` refuses what could
        deadlock: a second section, a sub-orchestration, a call to an entity that is not locked (signals are fine).
        """
        return CriticalSection(self._active(), [each.id if isinstance(each, EntityRef) else checked_entity_id(each) for each in entities])

    def _call_entity(self, id: EntityId, operation: str, input: tuple[str | None, int], decode: Decoder) -> DurableTask[Any]:
        execution, name = self._active(), f"{checked_entity_id(id).name}.{check_text(operation, 'the name of an operation')}"
        if execution.section is not None:
            execution.section.check_call(id.instance_id)
        execution.registry.check_size(input[0], f"the input of {name}")

        def schedule(_attempt: int, waiter: Waiter) -> int:
            return execution.call("entity", ev.EntityCalled(execution.next_number("entity"), id.instance_id, operation, *input), waiter)

        return self._call("entity", name, decode, schedule, None, None)

    def _signal_entity(self, id: EntityId, operation: str, input: tuple[str | None, int], when: datetime | Duration | None) -> None:
        execution, name = self._active(), f"{checked_entity_id(id).name}.{check_text(operation, 'the name of an operation')}"
        execution.registry.check_size(input[0], f"the input of {name}")
        due_us = 0 if when is None else due_time_us(when, execution.loop.now_us, "a signal")
        execution.command(ev.EntitySignaled(execution.next_number("entity"), id.instance_id, operation, *input, due_us=due_us))

    # ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────

    def set_custom_status(self, status: Any) -> None:
        """A value that clients see on the instance while it runs; written with this turn's commit."""
        execution = self._active()
        execution.set_custom_status(execution.registry.check_size(execution.registry.encode_any(status), "the custom status"))

    def continue_as_new(self, *args: Any, **kwargs: Any) -> None:
        """When this function returns, start again from the top with these arguments and an empty history. Events that nobody waited for are
        carried over, in order."""
        execution = self._active()
        text, arity = execution.orchestrator.encode(args, kwargs)
        execution.registry.check_size(text, f"the input of {execution.name!r}")
        execution.continue_as_new(text, arity)

    def _active(self) -> Execution:
        execution = self._execution
        if events._get_running_loop() is not execution.loop:
            what = f"a context of orchestrator {execution.name!r} ({execution.instance_id!r}) was used outside of its own turns"
            raise OutsideOrchestratorError(f"{what}; ctx works only in that orchestrator and the coroutines it awaits")
        return execution


def _take_options(given: dict[str, Any]) -> tuple[RetryPolicy | None, timedelta | None, dict[str, str] | None]:
    """Out of a call's keyword arguments; those that are left are the callee's."""
    return checked_options(given.pop("retry", None), given.pop("timeout", None), given.pop("tags", None)) if given else (None, None, None)
