"""Values with named fields: attrs classes, dataclasses, NamedTuples, TypedDicts. All are JSON objects.

So that code of two versions can work on one hub, unknown keys are ignored when reading and missing ones take their
default. Nothing is dropped when writing: an instance of a subclass that has fields of its own is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, get_origin

import attrs

from durable_core.forms.form import Fault, Form, expected
from durable_core.forms.hints import field_hints, hint_name, is_required

__all__ = ["is_record", "is_typed_dict", "record_form", "typed_dict_form"]

Lookup = Callable[[Any], Form]
Announce = Callable[[Form], None]
Step = tuple[bool, Callable[[Any], Any]]


@attrs.frozen
class _Field:
    """``parameter`` is its name in the constructor; None: it is set afterwards (``init=False``)."""

    name: str
    parameter: str | None
    required: bool


def _fields(cls: Any) -> Iterator[_Field]:
    if attrs.has(cls):
        for field in attrs.fields(cls):
            yield _Field(field.name, field.alias if field.init else None, field.default is attrs.NOTHING and field.init)
    elif dataclasses.is_dataclass(cls):
        for item in dataclasses.fields(cls):
            default = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
            yield _Field(item.name, item.name if item.init else None, item.init and not default)
    else:
        for name in cls._fields:
            yield _Field(name, name, name not in cls._field_defaults)


def is_record(cls: Any) -> bool:
    return isinstance(cls, type) and (_is_class(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields")))


def _is_class(cls: Any) -> bool:
    return attrs.has(cls) or dataclasses.is_dataclass(cls)


def is_typed_dict(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def record_form(hint: Any, lookup: Lookup, announce: Announce) -> Form:
    """``announce`` is given the form before its fields are compiled: a field may be of the same type."""
    cls: Any = get_origin(hint) or hint
    name = hint_name(hint)
    fields = list(_fields(cls))
    encoders: list[tuple[str, Callable[[Any], Any]]] = []
    decoders: list[tuple[str, str | None, bool, Callable[[Any], Any]]] = []

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            _check_subclass(name, cls, value)
        made: dict[str, Any] = {}
        field = ""
        try:
            for field, encode_field in encoders:
                made[field] = encode_field(getattr(value, field))
        except Fault as fault:
            fault.at(f".{field}")
            raise
        except AttributeError as error:
            raise Fault(f"the field {field!r} of {name} has no value") from error
        return made

    def decode(native: Any) -> Any:
        if type(native) is not dict:
            raise expected(name, native)
        arguments: dict[str, Any] = {}
        later: dict[str, Any] = {}
        key = ""
        try:
            for key, parameter, required, decode_field in decoders:
                if key in native:
                    value = decode_field(native[key])
                    if parameter is None:
                        later[key] = value
                    else:
                        arguments[parameter] = value
                elif required:
                    raise Fault("it is required, and missing")
        except Fault as fault:
            fault.at(f".{key}")
            raise
        return _construct(name, cls, arguments, later)

    form = Form(name, encode, decode, frozenset({"dict"}), (cls,), record=hint if _is_class(cls) else None)
    announce(form)
    hints = field_hints(hint)
    _refuse_init_vars(cls, hints)
    forms = _compile(hints, [field.name for field in fields], lookup)
    encoders += [(field.name, forms[field.name].encode) for field in fields]
    decoders += [(field.name, field.parameter, field.required, forms[field.name].decode) for field in fields]
    return form


def _refuse_init_vars(cls: Any, hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar) and cls.__dataclass_fields__[name].default is dataclasses.MISSING:
            raise Fault(f"its InitVar {name!r} is not kept in the value, so the value cannot be made again: give it a default")


def _compile(hints: dict[str, Any], names: list[str], lookup: Lookup) -> dict[str, Form]:
    forms: dict[str, Form] = {}
    for name in names:
        try:
            forms[name] = lookup(hints.get(name, Any))
        except Fault as fault:
            fault.at(f".{name}")
            raise
    return forms


def _check_subclass(name: str, cls: type, value: Any) -> None:
    if not isinstance(value, cls):
        raise expected(name, value)
    lost = {field.name for field in _fields(type(value))} - {field.name for field in _fields(cls)}
    if lost:
        kind = hint_name(type(value))
        raise Fault(f"expected {name}, got its subclass {kind}, which would lose {', '.join(sorted(lost))}: name both in a union")


def _construct(name: str, cls: Any, arguments: dict[str, Any], later: dict[str, Any]) -> Any:
    try:
        made = cls(**arguments)
    except Exception as error:
        raise Fault(f"{name} refuses its fields: {type(error).__name__}: {error}") from error
    for field, value in later.items():
        object.__setattr__(made, field, value)
    return made


def typed_dict_form(hint: Any, lookup: Lookup, announce: Announce) -> Form:
    cls: Any = get_origin(hint) or hint
    name = hint_name(hint)
    encoders: dict[str, Step] = {}
    decoders: dict[str, Step] = {}

    def each(steps: dict[str, Step], source: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        key = ""
        try:
            for key, (required, function) in steps.items():
                if key in source:
                    made[key] = function(source[key])
                elif required:
                    raise Fault("it is required, and missing")
        except Fault as fault:
            fault.at(f"[{key!r}]")
            raise
        return made

    def encode(value: Any) -> Any:
        if not isinstance(value, dict):
            raise expected(name, value)
        unknown = [key for key in value if key not in encoders]
        if unknown:
            raise Fault(f"{name} has no key {unknown[0]!r}")
        return each(encoders, value)

    def decode(native: Any) -> Any:
        if type(native) is not dict:
            raise expected(name, native)
        return each(decoders, native)

    form = Form(name, encode, decode, frozenset({"dict"}), (dict,))
    announce(form)
    hints = field_hints(hint)
    forms = _compile(hints, list(hints), lookup)
    for key, field in hints.items():
        required = is_required(field, key in cls.__required_keys__)
        encoders[key], decoders[key] = (required, forms[key].encode), (required, forms[key].decode)
    return form
