"""Values with named fields: attrs classes, dataclasses, NamedTuples, TypedDicts. All are JSON objects.

So that code of two versions can work on one hub, unknown keys are ignored when reading and missing ones take their
default. Nothing is dropped when writing: an instance of a subclass that has fields of its own is refused, and so is a
key that a TypedDict does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, get_origin

import attrs

from durable_core.forms.form import Fault, Form, checked
from durable_core.forms.hints import field_hints, hint_name, is_required

__all__ = ["Field", "fields_of", "is_record", "record_form"]

Function = Callable[[Any], Any]
Step = tuple[str, bool, Function]
"""A field, whether it must be there, and what is done with it."""

_MISSING = object()


@attrs.frozen
class Field:
    """``parameter`` is its name in the constructor; None: it is set afterwards (``init=False``)."""

    name: str
    parameter: str | None
    required: bool


def fields_of(cls: Any, hints: dict[str, Any]) -> Iterator[Field]:
    if attrs.has(cls):
        for field in attrs.fields(cls):
            yield Field(field.name, field.alias if field.init else None, field.init and field.default is attrs.NOTHING)
    elif dataclasses.is_dataclass(cls):
        for item in dataclasses.fields(cls):
            bare = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            yield Field(item.name, item.name if item.init else None, item.init and bare)
    elif _is_typed_dict(cls):
        for key, hint in hints.items():
            yield Field(key, key, is_required(hint, key in cls.__required_keys__))
    else:
        for name in cls._fields:
            yield Field(name, name, name not in cls._field_defaults)


def is_record(cls: Any) -> bool:
    if not isinstance(cls, type):
        return False
    return attrs.has(cls) or dataclasses.is_dataclass(cls) or _is_typed_dict(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))


def _is_typed_dict(cls: Any) -> bool:
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def record_form(hint: Any, lookup: Callable[[Any], Form], announce: Callable[[Form], None]) -> Form:
    """``announce`` is given the form before its fields are compiled: a field may be of the same type."""
    cls: Any = get_origin(hint) or hint
    name, hints, typed_dict = hint_name(hint), field_hints(hint), _is_typed_dict(cls)
    fields = list(fields_of(cls, hints))
    renamed = [field for field in fields if field.parameter != field.name]
    encoders: list[Step] = []
    decoders: list[Step] = []

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            present = value if typed_dict else [field.name for field in fields_of(type(value), {})]
            _refuse_loss(name, value, set(present).difference(field.name for field in fields))
        return _each(encoders, dict.get if typed_dict else getattr, value)

    def decode(native: Any) -> Any:
        values = _each(decoders, dict.get, native)
        return values if typed_dict else _construct(name, cls, renamed, values)

    form = checked(name, dict if typed_dict else cls, dict, encode, decode, record=None if typed_dict else hint)
    announce(form)
    _refuse_init_vars(cls, hints)
    for field in fields:
        compiled = _compile(field.name, hints.get(field.name, Any), lookup)
        encoders.append((field.name, field.required or not typed_dict, compiled.encode))
        decoders.append((field.name, field.required, compiled.decode))
    return form


def _each(steps: list[Step], get: Callable[[Any, str, Any], Any], source: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    name = ""
    try:
        for name, required, function in steps:
            found = get(source, name, _MISSING)
            if found is not _MISSING:
                made[name] = function(found)
            elif required:
                raise Fault("it is required, and missing")
    except Fault as fault:
        fault.at(f".{name}")
        raise
    return made


def _construct(name: str, cls: Any, renamed: list[Field], values: dict[str, Any]) -> Any:
    moved = [(field, values.pop(field.name)) for field in renamed if field.name in values]
    values.update((field.parameter, value) for field, value in moved if field.parameter is not None)
    try:
        made = cls(**values)
    except Exception as error:
        raise Fault(f"{name} refuses its fields: {type(error).__name__}: {error}") from error
    for field, value in moved:
        if field.parameter is None:
            object.__setattr__(made, field.name, value)
    return made


def _compile(name: str, hint: Any, lookup: Callable[[Any], Form]) -> Form:
    try:
        return lookup(hint)
    except Fault as fault:
        fault.at(f".{name}")
        raise


def _refuse_init_vars(cls: Any, hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar) and cls.__dataclass_fields__[name].default is dataclasses.MISSING:
            raise Fault(f"its InitVar {name!r} is not kept in the value, so the value cannot be made again: give it a default")


def _refuse_loss(name: str, value: Any, lost: set[str]) -> None:
    if lost:
        kind = hint_name(type(value))
        raise Fault(f"expected {name}, got {kind}, of which {', '.join(sorted(map(str, lost)))} would be lost")
