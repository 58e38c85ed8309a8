"""What one engine knows, by name, bound to that engine's data converter.

A definition is converter-free and may be shared by several engines; *binding* it compiles its encoders and decoders once, at first use, so
that forward references to later classes work.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, TypeVar

from durable_core.converter import DataConverter, compiled
from durable_core.definitions.activity import Activity
from durable_core.definitions.definition import Definition
from durable_core.definitions.entity import EntityDefinition, Operation, definition_of
from durable_core.definitions.entity_state import EntityStateForm
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.errors import NotRegisteredError, PayloadError, PayloadTooLargeError, RegistrationError
from durable_core.ids import check_text, is_storable
from durable_core.parameters import Parameters, encode_untyped

T = TypeVar("T")
D = TypeVar("D", bound=Definition)


class Callee(Generic[D]):
    """A definition with its converter: arguments and result to and from text.

    What is called by a name that this engine does not know (another worker may) is a callee too, of the stand-in ``unknown``.
    """

    def __init__(self, definition: D, converter: DataConverter) -> None:
        self.definition = definition
        self.name = definition.name
        self.fn = definition.fn
        self.known = definition.fn is not unknown
        self._converter = converter

    @cached_property
    def parameters(self) -> Parameters:
        return Parameters(self.fn, skip=self.definition.skip, name=self.definition.what, converter=self._converter)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, int]:
        if self.known:
            return self.parameters.encode(args, kwargs)
        if kwargs:
            what = f"{self.name!r} is called by name: its signature is unknown here"
            raise PayloadError(f"{what}, so keyword arguments ({', '.join(kwargs)}) cannot be bound; pass them by position")
        return encode_untyped(args, self._converter, self.definition.what)

    def decode(self, text: str | None, arity: int) -> tuple[Any, ...]:
        return self.parameters.decode(text, arity)

    @cached_property
    def encode_result(self) -> Callable[[Any], str]:
        return compiled(self._converter, self.parameters.return_hint, f"the result of {self.definition.what}").encode

    @cached_property
    def decode_result(self) -> Callable[[str | None], Any]:
        hint = self.parameters.return_hint if self.known else Any
        return compiled(self._converter, hint, f"the result of {self.definition.what}").decode


def unknown() -> None:
    """Stands for what this engine knows by name only; it is never called."""


class BoundEntity:
    """Operations by name, and what the state consists of."""

    def __init__(self, definition: EntityDefinition, converter: DataConverter) -> None:
        self.definition = definition
        self.name = definition.name
        self.fn = definition.cls
        self.state = EntityStateForm(definition.cls, definition.name, converter)
        self._operations = {name: Callee(operation, converter) for name, operation in definition.operations.items()}

    def operation(self, operation: Any) -> Callee[Operation]:
        """By name, or by the class's function."""
        name = operation if isinstance(operation, str) else getattr(operation, "__name__", "")
        bound = self._operations.get(name)
        if bound is None or (callable(operation) and bound.fn is not operation):
            has = ", ".join(sorted(self._operations)) or "none"
            raise NotRegisteredError(f"entity {self.name!r} has no operation {name or operation!r}; it has: {has}")
        return bound

    def is_async(self, operation: str) -> bool:
        bound = self._operations.get(operation)
        return bound is not None and bound.definition.is_async


class Registry:
    """Names are unique per kind. Raises ``RegistrationError`` for a second definition of a name."""

    def __init__(self, converter: DataConverter) -> None:
        self.converter = converter
        self.max_payload_bytes = sys.maxsize
        """The limit of one value in the store that is open."""
        self.activities: dict[str, Callee[Activity[..., Any]]] = {}
        self.orchestrators: dict[str, Callee[Orchestrator[..., Any]]] = {}
        self.entities: dict[str, BoundEntity] = {}

    # ── registering ───────────────────────────────────────────────────────────────────────────────────────────

    def add(self, definition: T) -> T:
        """An activity, orchestrator or entity class; or a module, all of whose definitions are added. A plain ``async def`` or ``def`` is
        refused: decorate it."""
        entity = definition if isinstance(definition, EntityDefinition) else definition_of(definition)
        if isinstance(definition, ModuleType):
            found = [value for value in vars(definition).values() if isinstance(value, Activity | Orchestrator) or definition_of(value)]
            if not found:
                raise RegistrationError(f"module {definition.__name__!r} defines no activity, orchestrator or entity")
            for value in found:
                self.add(value)
        elif isinstance(definition, Activity | Orchestrator):
            self._add(self.activities if isinstance(definition, Activity) else self.orchestrators, Callee(definition, self.converter))
        elif entity is not None:
            self._add(self.entities, BoundEntity(entity, self.converter))
        else:
            raise RegistrationError(f"cannot register {definition!r}: decorate it with @activity, @orchestrator or @entity first")
        return definition

    def _add(self, table: dict[str, Any], bound: Callee[Any] | BoundEntity) -> None:
        taken = table.get(bound.name)
        if taken is None:
            if isinstance(bound, Callee):
                _ = bound.parameters  # refuses signatures that cannot travel, now rather than at the first call
            else:
                bound.state.check()
            table[bound.name] = bound
        elif taken.fn is not bound.fn:
            taken_by = f"the name {bound.name!r} is taken by {taken.fn.__module__}.{taken.fn.__qualname__}"
            raise RegistrationError(
                f"{taken_by}; names must be unique, since they are what a history remembers: pass name=... to one of them"
            )

    # ── looking up ────────────────────────────────────────────────────────────────────────────────────────────

    def activity(self, fn: Any) -> Callee[Activity[..., Any]]:
        """What ``ctx.call_activity`` was given: the decorated activity, the function it decorates, or a name."""
        return self._find(Activity, self.activities, fn)

    def orchestrator(self, fn: Any) -> Callee[Orchestrator[..., Any]]:
        """What a client or ``ctx.call_sub_orchestrator`` was given: the decorated orchestrator, the function it decorates, or a name."""
        return self._find(Orchestrator, self.orchestrators, fn)

    def _find(self, kind: type[D], table: dict[str, Callee[D]], fn: Any) -> Callee[D]:
        if isinstance(fn, str):
            return table.get(fn) or Callee(kind(unknown, check_text(fn, f"the name of an {kind.kind}")), self.converter)
        bound = table.get(str(getattr(fn, "__name__", "")))
        if bound is not None and (bound.definition is fn or bound.fn == (fn.fn if isinstance(fn, kind) else fn)):
            return bound
        raise _not_registered(fn, kind.kind)

    def entity(self, cls: Any) -> BoundEntity:
        for bound in self.entities.values():
            if bound.definition.cls is cls or bound.name == cls:
                return bound
        raise _not_registered(cls, "entity")

    # ── payloads ──────────────────────────────────────────────────────────────────────────────────────────────

    def check_size(self, text: str | None, what: str) -> str | None:
        """Raises, before anything is written, ``PayloadTooLargeError`` for a text over the store's limit, and ``PayloadError`` for one that no
        store can hold (a converter may make such)."""
        if text is not None and not text.isascii() and not is_storable(text):
            raise PayloadError(f"{what} has half a surrogate pair in it (os.fsdecode makes them), which no store can hold: remove it")
        if text is not None and 4 * len(text) > self.max_payload_bytes and len(text.encode()) > self.max_payload_bytes:
            sizes = f"{what} has {len(text.encode()):,} bytes and this store takes {self.max_payload_bytes:,}"
            raise PayloadTooLargeError(f"{sizes}; put the data elsewhere and pass a reference to it")
        return text

    # ── values without a signature ────────────────────────────────────────────────────────────────────────────

    def decoder(self, hint: Any) -> Callable[[str | None], Any]:
        return compiled(self.converter, hint, "a value").decode

    def encode_any(self, value: Any) -> str:
        return compiled(self.converter, Any, "a value").encode(value)

    def encode_arguments(self, args: tuple[Any, ...]) -> tuple[str | None, int]:
        return encode_untyped(args, self.converter, "a call by name")


def _not_registered(what: Any, kind: str) -> NotRegisteredError:
    if isinstance(what, Activity | Orchestrator) and what.kind != kind:
        way = "ctx.call_activity" if isinstance(what, Activity) else "ctx.call_sub_orchestrator, or a client's schedule_new_orchestration"
        advice = f"call it by {way}"
    elif inspect.iscoroutine(what):
        what.close()
        advice = "pass the function and its arguments, not what calling it gives"
    else:
        advice = f"decorate it with @engine.{kind}, or engine.register(...) what a library defines"
    return NotRegisteredError(f"{what!r} is not an {kind} of this engine; {advice}")
