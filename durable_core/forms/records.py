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

from durable_core.forms.form import Fault, Form, expected
from durable_core.forms.hints import field_hints, hint_name, is_required

__all__ = ["fields_of", "is_record", "is_typed_dict", "record_form", "typed_dict_form"]

Function = Callable[[Any], Any]
Lookup = Callable[[Any], Form]
Announce = Callable[[Form], None]
Step = tuple[str, bool, Function]
"""A field, whether it must be there, and what is done with it."""

_MISSING = object()


@attrs.frozen
class _Field:
    """``parameter`` is its name in the constructor; None: it is set afterwards (``init=False``)."""

    name: str
    parameter: str | None
    required: bool


def fields_of(cls: Any) -> Iterator[_Field]:
    if attrs.has(cls):
        for field in attrs.fields(cls):
            yield _Field(field.name, field.alias if field.init else None, field.init and field.default is attrs.NOTHING)
    elif dataclasses.is_dataclass(cls):
        for item in dataclasses.fields(cls):
            bare = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            yield _Field(item.name, item.name if item.init else None, item.init and bare)
    else:
        for name in cls._fields:
            yield _Field(name, name, name not in cls._field_defaults)


def is_record(cls: Any) -> bool:
    named_tuple = isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
    return isinstance(cls, type) and (named_tuple or attrs.has(cls) or dataclasses.is_dataclass(cls))


def is_typed_dict(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def record_form(hint: Any, lookup: Lookup, announce: Announce) -> Form:
    """``announce`` is given the form before its fields are compiled: a field may be of the same type."""
    cls: Any = get_origin(hint) or hint
    name = hint_name(hint)
    fields = list(fields_of(cls))
    renamed = [field for field in fields if field.parameter != field.name]
    encoders: list[Step] = []
    decoders: list[Step] = []

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            _check_subclass(name, cls, value)
        return _each(encoders, getattr, value)

    def decode(native: Any) -> Any:
        if type(native) is not dict:
            raise expected(name, native)
        return _construct(name, cls, renamed, _each(decoders, dict.get, native))

    form = Form(name, encode, decode, frozenset({"dict"}), (cls,), record=hint)
    announce(form)
    hints = field_hints(hint)
    _refuse_init_vars(cls, hints)
    for field in fields:
        compiled = _compile(field.name, hints.get(field.name, Any), lookup)
        encoders.append((field.name, True, compiled.encode))
        decoders.append((field.name, field.required, compiled.decode))
    return form


def typed_dict_form(hint: Any, lookup: Lookup, announce: Announce) -> Form:
    cls: Any = get_origin(hint) or hint
    name = hint_name(hint)
    encoders: list[Step] = []
    decoders: list[Step] = []

    def encode(value: Any) -> Any:
        if not isinstance(value, dict):
            raise expected(name, value)
        for key in value:
            if key not in hints:
                raise Fault(f"{name} has no key {key!r}")
        return _each(encoders, dict.get, value)

    def decode(native: Any) -> Any:
        if type(native) is not dict:
            raise expected(name, native)
        return _each(decoders, dict.get, native)

    form = Form(name, encode, decode, frozenset({"dict"}), (dict,))
    announce(form)
    hints = field_hints(hint)
    for key, field in hints.items():
        compiled, required = _compile(key, field, lookup), is_required(field, key in cls.__required_keys__)
        encoders.append((key, required, compiled.encode))
        decoders.append((key, required, compiled.decode))
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


def _construct(name: str, cls: Any, renamed: list[_Field], values: dict[str, Any]) -> Any:
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


def _compile(name: str, hint: Any, lookup: Lookup) -> Form:
    try:
        return lookup(hint)
    except Fault as fault:
        fault.at(f".{name}")
        raise


def _refuse_init_vars(cls: Any, hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar) and cls.__dataclass_fields__[name].default is dataclasses.MISSING:
            raise Fault(f"its InitVar {name!r} is not kept in the value, so the value cannot be made again: give it a default")


def _check_subclass(name: str, cls: type, value: Any) -> None:
    if not isinstance(value, cls):
        raise expected(name, value)
    lost = {field.name for field in fields_of(type(value))} - {field.name for field in fields_of(cls)}
    if lost:
        kind = hint_name(type(value))
        raise Fault(f"expected {name}, got its subclass {kind}, which would lose {', '.join(sorted(lost))}: name both in a union")
