"""What one engine knows, by name, bound to that engine's data converter.

A definition is converter-free and may be shared by several engines; *binding* it compiles its encoders and decoders once, at first use, so
that forward references to later classes work.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine
from functools import cached_property
from types import ModuleType
from typing import Any

from durable_core.converter import DataConverter, compiled
from durable_core.definitions.activity import Activity, make_activity
from durable_core.definitions.entity import EntityDefinition, definition_of, make_entity
from durable_core.definitions.orchestrator import Orchestrator, make_orchestrator
from durable_core.errors import NotRegisteredError, PayloadError, PayloadTooLargeError, RegistrationError
from durable_core.parameters import Parameters, decode_untyped, encode_untyped

__all__ = ["BoundActivity", "BoundEntity", "BoundOperation", "BoundOrchestrator", "Registry"]


class _Bound:
    """A callee with its converter: arguments and result to and from text."""

    known = True

    def __init__(self, name: str, what: str, fn: Callable[..., Any], skip: int, converter: DataConverter) -> None:
        self.name = name
        self.fn = fn
        self._what = what
        self._skip = skip
        self._converter = converter

    @cached_property
    def parameters(self) -> Parameters:
        return Parameters(self.fn, skip=self._skip, name=self._what, converter=self._converter)

    @cached_property
    def encode(self) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[str | None, int]]:
        return self.parameters.encode

    @cached_property
    def decode(self) -> Callable[[str | None, int], tuple[Any, ...]]:
        return self.parameters.decode

    @cached_property
    def encode_result(self) -> Callable[[Any], str]:
        return compiled(self._converter, self.parameters.return_hint, f"the result of {self._what}").encode

    @cached_property
    def decode_result(self) -> Callable[[str | None], Any]:
        return _decoder(self._converter, self.parameters.return_hint, f"the result of {self._what}")


class BoundActivity(_Bound):
    def __init__(self, activity: Activity[..., Any], converter: DataConverter) -> None:
        super().__init__(activity.name, f"activity {activity.name!r}", activity.fn, int(activity.takes_context), converter)
        self.activity = activity
        self.retry = activity.retry
        self.timeout = activity.timeout
        self.tags = activity.tags

    def with_options_of(self, activity: Activity[..., Any]) -> BoundActivity:
        """The same compiled callee under the options of a ``with_options`` copy."""
        copy = BoundActivity(activity, self._converter)
        copy.__dict__.update(
            parameters=self.parameters,
            encode=self.encode,
            decode=self.decode,
            encode_result=self.encode_result,
            decode_result=self.decode_result,
        )
        return copy


class UnknownActivity:
    """An activity called by a name that this engine does not know; another worker may."""

    known = False
    retry = None
    timeout = None
    tags = None

    def __init__(self, name: str, converter: DataConverter) -> None:
        self.name = name
        self._converter = converter
        self.decode_result = _decoder(converter, Any, f"the result of activity {name!r}")

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, int]:
        return encode_untyped(_no_keywords(self.name, args, kwargs), self._converter, f"activity {self.name!r}")


class BoundOrchestrator(_Bound):
    def __init__(self, orchestrator: Orchestrator[..., Any], converter: DataConverter) -> None:
        super().__init__(orchestrator.name, f"orchestrator {orchestrator.name!r}", orchestrator.fn, 1, converter)
        self.instance_id = orchestrator.instance_id

    async def start(self, ctx: Any, text: str | None, arity: int) -> Any:
        """The orchestrator's coroutine; arguments that cannot be decoded fail it."""
        return await self.fn(ctx, *self.decode(text, arity))

    def with_options_of(self, orchestrator: Orchestrator[..., Any]) -> BoundOrchestrator:
        copy = BoundOrchestrator(orchestrator, self._converter)
        copy.__dict__.update(
            parameters=self.parameters,
            encode=self.encode,
            decode=self.decode,
            encode_result=self.encode_result,
            decode_result=self.decode_result,
        )
        return copy


class UnknownOrchestrator:
    """An orchestrator called by a name that this engine does not know."""

    instance_id = None

    def __init__(self, name: str, converter: DataConverter) -> None:
        self.name = name
        self._converter = converter
        self.decode_result = _decoder(converter, Any, f"the result of orchestrator {name!r}")

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, int]:
        return encode_untyped(_no_keywords(self.name, args, kwargs), self._converter, f"orchestrator {self.name!r}")


class BoundOperation(_Bound):
    def __init__(self, entity: str, name: str, fn: Callable[..., Any], converter: DataConverter) -> None:
        takes_context = _takes_entity_context(fn)
        super().__init__(name, f"operation {entity}.{name}", fn, 1 + takes_context, converter)
        self.takes_context = takes_context
        self.is_async = inspect.iscoroutinefunction(fn)


def _takes_entity_context(fn: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(fn).parameters.values())[1:2]
    annotation = parameters[0].annotation if parameters else None
    return (
        getattr(annotation, "__name__", annotation) == "EntityContext"
        if not isinstance(annotation, str)
        else annotation.rpartition(".")[2] == "EntityContext"
    )


class BoundEntity:
    """Operations by name, and the state to and from text."""

    def __init__(self, definition: EntityDefinition, converter: DataConverter) -> None:
        self.definition = definition
        self.name = definition.name
        self._converter = converter
        self._operations = {name: BoundOperation(self.name, name, fn, converter) for name, fn in definition.operations.items()}

    def operation(self, operation: Any) -> BoundOperation:
        """By name, or by the class's function."""
        name = operation if isinstance(operation, str) else getattr(operation, "__name__", "")
        bound = self._operations.get(name)
        if bound is None or (callable(operation) and bound.fn is not operation):
            raise NotRegisteredError(
                f"entity {self.name!r} has no operation {name or operation!r}; it has: {', '.join(sorted(self._operations)) or 'none'}"
            )
        return bound

    def is_async(self, operation: str) -> bool:
        bound = self._operations.get(operation)
        return bound is not None and bound.is_async

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return {
            name: compiled(self._converter, hint, f"attribute {name!r} of entity {self.name!r}")
            for name, hint in self.definition.state_hints().items()
        }

    def encode_state(self, entity: Any) -> dict[str, str]:
        """Attribute name → text."""
        return {name: field.encode(getattr(entity, name)) for name, field in self._fields.items() if hasattr(entity, name)}

    def load_state(self, state: dict[str, str] | None) -> Any:
        """A fresh object with this state. Attributes that the class no longer has are ignored; new ones keep their defaults."""
        entity = self.definition.cls()
        for name, text in (state or {}).items():
            if name in self._fields:
                setattr(entity, name, self._fields[name].decode(text))
        return entity


class Registry:
    """Names are unique per kind. Raises ``RegistrationError`` for a second definition of a name."""

    def __init__(self, converter: DataConverter) -> None:
        self.converter = converter
        self.max_payload_bytes = sys.maxsize
        """The limit of the store that is open."""
        self.activities: dict[str, BoundActivity] = {}
        self.orchestrators: dict[str, BoundOrchestrator] = {}
        self.entities: dict[str, BoundEntity] = {}
        self._variants: dict[Activity[..., Any], BoundActivity] = {}
        self._decoders: dict[Any, Callable[[str | None], Any]] = {}

    # ── registering ───────────────────────────────────────────────────────────────────────────────────────────

    def add(self, definition: Any) -> None:
        """An activity, orchestrator or entity class; or a module, all of whose definitions are added. A plain ``async def`` or ``def`` is
        refused: decorate it."""
        if isinstance(definition, ModuleType):
            found = [
                value
                for value in vars(definition).values()
                if isinstance(value, Activity | Orchestrator) or (inspect.isclass(value) and definition_of(value))
            ]
            if not found:
                raise RegistrationError(f"module {definition.__name__!r} defines no activity, orchestrator or entity")
            for value in found:
                self.add(value)
        elif isinstance(definition, Activity):
            self._add(self.activities, definition.name, BoundActivity(definition, self.converter), definition.fn)
        elif isinstance(definition, Orchestrator):
            self._add(self.orchestrators, definition.name, BoundOrchestrator(definition, self.converter), definition.fn)
        elif inspect.isclass(definition) and (entity := definition_of(definition)):
            self._add(self.entities, entity.name, BoundEntity(entity, self.converter), definition)
        else:
            raise RegistrationError(f"cannot register {definition!r}: decorate it with @activity, @orchestrator or @entity first")

    def add_activity(self, fn: Callable[..., Any], **options: Any) -> Activity[..., Any]:
        activity = make_activity(fn, **options)
        self.add(activity)
        return activity

    def add_orchestrator(self, fn: Callable[..., Coroutine[Any, Any, Any]], *, name: str | None = None) -> Orchestrator[..., Any]:
        orchestrator = make_orchestrator(fn, name=name)
        self.add(orchestrator)
        return orchestrator

    def add_entity(self, cls: type, *, name: str | None = None) -> EntityDefinition:
        definition = make_entity(cls, name=name)
        self._add(self.entities, definition.name, BoundEntity(definition, self.converter), cls)
        return definition

    def _add(self, table: dict[str, Any], name: str, bound: Any, definition: Any) -> None:
        taken = table.get(name)
        if taken is None:
            if isinstance(bound, _Bound):
                _ = bound.parameters  # refuses signatures that cannot travel, now rather than at the first call
            table[name] = bound
            return
        other = taken.definition.cls if isinstance(taken, BoundEntity) else taken.fn
        if other is not definition:
            raise RegistrationError(
                f"the name {name!r} is taken by {other.__module__}.{other.__qualname__}; names must be unique, since they are what a history remembers: pass name=... to one of them"
            )

    # ── looking up ────────────────────────────────────────────────────────────────────────────────────────────

    def activity(self, fn: Any) -> BoundActivity | UnknownActivity:
        """What ``ctx.call_activity`` was given: the decorated activity, the function it decorates, or a name."""
        if isinstance(fn, str):
            return self.activities.get(fn) or UnknownActivity(fn, self.converter)
        if isinstance(fn, Activity):
            bound = self.activities.get(fn.name)
            if bound is not None and bound.activity is fn:
                return bound
            if bound is not None and bound.activity is fn.base:
                if fn not in self._variants:
                    self._variants[fn] = bound.with_options_of(fn)
                return self._variants[fn]
        else:
            bound = self.activities.get(getattr(fn, "__name__", ""))
            if bound is not None and bound.fn == fn:
                return bound
        raise NotRegisteredError(
            f"{fn!r} is not an activity of this engine; decorate it with @engine.activity, or engine.register(...) what a library defines"
        )

    def orchestrator(self, fn: Any) -> BoundOrchestrator | UnknownOrchestrator:
        """What a client or ``ctx.call_sub_orchestrator`` was given: the decorated orchestrator, the function it decorates, or a name."""
        if isinstance(fn, str):
            return self.orchestrators.get(fn) or UnknownOrchestrator(fn, self.converter)
        bound = self.orchestrators.get(str(getattr(fn, "name", getattr(fn, "__name__", ""))))
        if bound is not None and bound.fn in (fn, getattr(fn, "fn", None)):
            return bound if getattr(fn, "instance_id", None) is None else bound.with_options_of(fn)
        raise NotRegisteredError(
            f"{fn!r} is not an orchestrator of this engine; decorate it with @engine.orchestrator, or engine.register(...) what a library defines"
        )

    def entity(self, cls: Any) -> BoundEntity:
        for bound in self.entities.values():
            if bound.definition.cls is cls or bound.name == cls:
                return bound
        raise NotRegisteredError(
            f"{cls!r} is not an entity of this engine; decorate it with @engine.entity, or engine.register(...) what a library defines"
        )

    # ── payloads ──────────────────────────────────────────────────────────────────────────────────────────────

    def check_size(self, text: str | None, what: str) -> str | None:
        """Raises ``PayloadTooLargeError`` for a text over the store's limit, before anything is written."""
        if text is not None and 4 * len(text) > self.max_payload_bytes and len(text.encode()) > self.max_payload_bytes:
            raise PayloadTooLargeError(
                f"{what} has {len(text.encode()):,} bytes and this store takes {self.max_payload_bytes:,}; put the data elsewhere and pass a reference to it"
            )
        return text

    # ── values without a signature ────────────────────────────────────────────────────────────────────────────

    def decoder(self, hint: Any) -> Callable[[str | None], Any]:
        try:
            return self._decoders[hint]
        except KeyError:
            decode = self._decoders[hint] = _decoder(self.converter, hint, "a value")
            return decode
        except TypeError:  # an unhashable hint
            return _decoder(self.converter, hint, "a value")

    def encode_any(self, value: Any) -> str:
        return compiled(self.converter, Any, "a value").encode(value)

    def encode_arguments(self, args: tuple[Any, ...]) -> tuple[str | None, int]:
        return encode_untyped(args, self.converter, "a call by name")

    def decode_arguments(self, text: str | None, arity: int) -> tuple[Any, ...]:
        return decode_untyped(text, arity, self.converter)


def _decoder(converter: DataConverter, hint: Any, where: str) -> Callable[[str | None], Any]:
    """A missing text is None."""
    decode = compiled(converter, hint, where).decode

    def decode_or_none(text: str | None) -> Any:
        return None if text is None else decode(text)

    return decode_or_none


def _no_keywords(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    if kwargs:
        raise PayloadError(
            f"{name!r} is called by name: its signature is unknown here, so keyword arguments ({', '.join(kwargs)}) cannot be bound; pass them by position"
        )
    return args
