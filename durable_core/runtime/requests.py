"""What clients and entities alike ask of others: to start an orchestration, to carry out an operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable_core import events as ev
from durable_core.backend import CreateInstance, Message
from durable_core.codec import encode_event
from durable_core.definitions.entity import EntityId, checked_entity_id
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.definitions.registry import Callee, Registry
from durable_core.errors import FailureDetails, PayloadError
from durable_core.ids import check_instance_id, check_tags, check_text
from durable_core.runtime.fresh import fresh_id


def start_request(
    registry: Registry,
    callee: Callee[Orchestrator[..., Any]],
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    instance_id: str | None = None,
    tags: dict[str, str] | None = None,
    **more: Any,
) -> CreateInstance:
    """``fn`` is what the caller gave, an orchestrator or its name, and ``callee`` what the registry knows it as; without ``instance_id`` a
    fresh one is made. ``more`` is what else a ``CreateInstance`` says."""
    text, arity = callee.encode(args, kwargs)
    registry.check_size(text, f"the input of orchestrator {callee.name!r}")
    if instance_id is None:
        instance_id = (fn if isinstance(fn, Orchestrator) else callee.definition).instance_id
    instance_id = fresh_id() if instance_id is None else check_instance_id(instance_id)
    start, execution = encode_event(ev.ExecutionStarted(callee.name, text, arity, tags=check_tags(tags) or {})), fresh_id()
    return CreateInstance(instance_id, execution, callee.name, start, execution, **more)


def reply(entity: str, caller: ev.Parent, result: str | FailureDetails | None) -> Message:
    """What an entity answers to who called it, or asked for its lock."""
    number = caller.task_id
    event = ev.EntityOperationFailed(number, result) if isinstance(result, FailureDetails) else ev.EntityOperationCompleted(number, result)
    return Message(f"{caller.execution_id}@{number}>reply", caller.instance_id, encode_event(event), caller.execution_id, entity)


def refusal(entity: str, caller: ev.Parent, what: str) -> Message:
    """The answer to who waits for an entity that a person has repaired."""
    return reply(entity, caller, FailureDetails("EntityReset", f"entity {entity!r} was {what} before it answered", non_retriable=True))


def operation_request(
    registry: Registry, id: EntityId, operation: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ev.OperationRequested:
    """A signal. An operation given as the class's function, or of an entity that is known here, is checked against its signature."""
    if isinstance(operation, str) and checked_entity_id(id).name not in registry.entities:
        check_text(operation, "the name of an operation")
        if kwargs:
            what = f"operation {operation!r} is called by name: its signature is unknown here"
            raise PayloadError(f"{what}, so keyword arguments ({', '.join(kwargs)}) cannot be bound; pass them by position")
        name, (text, arity) = operation, registry.encode_arguments(args)
    else:
        bound = registry.entity(checked_entity_id(id).name).operation(operation)
        name, (text, arity) = bound.name, bound.encode(args, kwargs)
    registry.check_size(text, f"the input of {id.name}.{name}")
    return ev.OperationRequested(name, text, arity)
