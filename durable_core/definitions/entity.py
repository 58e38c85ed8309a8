"""Entities: keyed, single-writer objects. A class whose public methods are operations and whose attributes are the state."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, overload

from attrs import frozen
from msgspec import Struct

from durable_core.backend import ENTITY_PREFIX
from durable_core.definitions.definition import Definition, refuse_options, takes_context
from durable_core.errors import InvalidInstanceIdError, RegistrationError
from durable_core.ids import is_storable
from durable_core.moments import Duration

E = TypeVar("E")

_MARKER = "__durable_entity__"


@frozen(init=False)
class EntityId:
    """Which entity: ``name`` (case-insensitive) and ``key`` (as it is)."""

    name: str
    key: str

    def __init__(self, name: str, key: str) -> None:
        for part, what in ((name, "name"), (key, "key")):
            if not isinstance(part, str) or not part or not is_storable(part):
                raise InvalidInstanceIdError(f"an entity {what} must be a text, not empty, and such that stores can hold it, got {part!r}")
        if ENTITY_PREFIX in name:
            raise InvalidInstanceIdError(f"an entity name must not contain {ENTITY_PREFIX!r}, got {name!r}")
        self.__attrs_init__(name.lower(), key)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def instance_id(self) -> str:
        """``@name@key``."""
        return f"{ENTITY_PREFIX}{self.name}{ENTITY_PREFIX}{self.key}"

    @classmethod
    def parse(cls, instance_id: str) -> EntityId:
        _, name, key = instance_id.split(ENTITY_PREFIX, 2)
        return cls(name, key)

    def __str__(self) -> str:
        return self.instance_id


def checked_entity_id(given: object) -> EntityId:
    """Raises ``TypeError``."""
    if not isinstance(given, EntityId):
        raise TypeError(f"an entity is named by an EntityId, got {given!r}; write: EntityId(name, key)")
    return given


class Outbox(Protocol):
    """What an operation sends leaves with the commit of its success."""

    def signal(
        self, id: EntityId, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], when: datetime | Duration | None, /
    ) -> None: ...
    def start(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], instance_id: str | None, /) -> str: ...


class EntityContext:
    """Optional first parameter (after ``self``) of an operation, annotated with this class. ``caller`` is the instance id that called, None
    for a signal."""

    def __init__(self, id: EntityId, caller: str | None, now: datetime, outbox: Outbox) -> None:
        self.id: Final = id
        self.caller: Final = caller
        self.now: Final = now
        self.state_deleted = False
        self._outbox = outbox

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Records carry ``instance_id``."""
        return logging.LoggerAdapter(logging.getLogger(f"durable_core.entity.{self.id.name}"), {"instance_id": self.id.instance_id})

    def delete_state(self) -> None:
        """Forget the state when this operation has succeeded: the next one finds the initial state again."""
        self.state_deleted = True

    def signal_entity(
        self,
        id: EntityId,
        operation: str | Callable[..., Any],
        /,
        *args: Any,
        signal_time: datetime | Duration | None = None,
        **kwargs: Any,
    ) -> None:
        """Send an operation to another entity, or to this one, at once or to be delivered at ``signal_time``. Nothing is sent if this
        operation fails."""
        self._outbox.signal(id, operation, args, kwargs, signal_time)

    def schedule_new_orchestration(self, fn: Any, /, *args: Any, instance_id: str | None = None, **kwargs: Any) -> str:
        """Start an orchestration (or, by its name, one that this engine does not know) and give its instance id. Nothing is started if this
        operation fails, or if the id is taken."""
        return self._outbox.start(fn, args, kwargs, instance_id)


def delete(_entity: Any, ctx: EntityContext) -> None:
    """The operation that every entity has, unless its class defines one of this name."""
    ctx.delete_state()


class Operation(Definition):
    """A public method of an entity class."""

    kind = "operation"

    def __init__(self, entity: str, fn: Callable[..., Any], name: str) -> None:
        super().__init__(fn, name)
        self.what = f"operation {entity}.{name}"
        self.takes_context = takes_context(fn, EntityContext, position=1)
        self.skip = 1 + self.takes_context


class EntityDefinition(Struct, frozen=True):
    """``name`` is lower case; ``operations`` are the public methods."""

    cls: type
    name: str
    operations: dict[str, Operation]


@overload
def entity(cls: type[E], /) -> type[E]: ...
@overload
def entity(*, name: str | None = ...) -> Callable[[type[E]], type[E]]: ...
def entity(cls: Any = None, /, *, name: str | None = None, **unknown: Any) -> Any:
    """Define an entity class in a library; an engine learns of it by ``engine.register``. On the engine itself use ``@engine.entity``.

    The class must be constructible without arguments (its initial state). All attributes of its object are state: annotate in the body of the
    class those that are not plain JSON.
    """

    refuse_options("entity", cls, unknown, "name")

    def mark(cls: type[E]) -> type[E]:
        setattr(cls, _MARKER, make_entity(cls, name=name))
        return cls

    return mark if cls is None else mark(cls)


def definition_of(cls: Any) -> EntityDefinition | None:
    """What ``@entity`` made of exactly this class (not of a base class)."""
    return vars(cls).get(_MARKER) if inspect.isclass(cls) else None


def make_entity(cls: Any, *, name: str | None = None) -> EntityDefinition:
    """Raises ``RegistrationError`` for what cannot be an entity."""
    if not inspect.isclass(cls):
        raise RegistrationError(f"an entity must be a class, got {cls!r}")
    name = EntityId(name or cls.__name__, "-").name
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        text = f"entity {name!r}: {cls.__name__}() must work without arguments (it is the initial state): {error}; give it a default"
        raise RegistrationError(text) from None
    methods: dict[str, Callable[..., Any]] = {"delete": delete, **dict(inspect.getmembers(cls, inspect.isfunction))}
    return EntityDefinition(cls, name, {key: Operation(name, fn, key) for key, fn in methods.items() if not key.startswith("_")})
