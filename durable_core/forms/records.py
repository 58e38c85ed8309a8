"""Values with named fields: attrs classes, dataclasses, NamedTuples, TypedDicts, pydantic models. All are JSON objects.

So that code of two versions can work on one hub, unknown keys are ignored when reading and missing ones take their
default. Nothing is dropped when writing: an instance of a subclass that has fields of its own is refused, and so is a
key that a TypedDict does not have. Pydantic models go by their own rules, in strict mode.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_origin

import attrs

from durable_core.forms.form import KINDS, Fault, Form, Function, checked, expected, field_hints, guarded, hint_name, json_bytes, unwrapped

_Step = tuple[str, str, bool, Function]
"""A part of a value: its name there, its name in what is made of it, whether it must be there, and what is done with it."""

_MISSING = object()
_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(cls: Any) -> dict[str, str | None] | None:
    """Each field of a class and its name in the constructor, if it has one there; None: this is no class with fields."""
    if attrs.has(cls):
        return {field.name: field.alias if field.init else None for field in attrs.fields(cls)}
    if dataclasses.is_dataclass(cls):
        return {field.name: field.name if field.init else None for field in dataclasses.fields(cls)}
    if hasattr(cls, "__required_keys__"):  # a TypedDict
        return {key: key for key in cls.__annotations__}
    if tuple in cls.__mro__ and hasattr(cls, "_fields"):
        return {name: name for name in cls._fields}
    return None


def record_form(hint: Any, lookup: Callable[[Any], Form], announce: Callable[[Form], None]) -> Form:
    """``announce`` is given the form before its fields are compiled: a field may be of the same type."""
    cls: Any = get_origin(hint) or hint
    name, hints, parameters, typed_dict = hint_name(hint), field_hints(hint), parameters_of(cls) or {}, hasattr(cls, "__required_keys__")
    required = _required_keys(cls, hints) if typed_dict else _required_fields(cls, parameters)
    construct = guarded(name, lambda values: cls(**values))

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            present = value if typed_dict else parameters_of(type(value)) or ()
            if lost := [str(field) for field in present if field not in parameters]:
                kind = hint_name(type(value))
                raise Fault(f"expected {name}, got {kind}, of which {', '.join(sorted(lost))} would be lost")
        return _each(encoders, dict.get if typed_dict else getattr, value)

    def decode(native: Any) -> Any:
        made = construct(_each(decoders, dict.get, native))
        for field, value in _each(later, dict.get, native).items():
            object.__setattr__(made, field, value)
        return made

    form = checked(name, dict if typed_dict else cls, dict, encode, decode)
    announce(form)
    forms = _each([(field, field, True, lookup) for field in parameters], dict.get, {field: hints.get(field, Any) for field in parameters})
    encoders = [(field, field, field in required or not typed_dict, forms[field].encode) for field in parameters]
    decoders = [(field, target, field in required, forms[field].decode) for field, target in parameters.items() if target]
    later = [(field, field, field in required, forms[field].decode) for field, target in parameters.items() if not target]
    return form


def _required_fields(cls: Any, parameters: dict[str, str | None]) -> set[str]:
    needed = {name for name, each in inspect.signature(cls).parameters.items() if each.default is each.empty and each.kind not in _STARRED}
    if strange := needed.difference(filter(None, parameters.values())):
        raise Fault(f"its constructor needs {', '.join(sorted(strange))}, which no field keeps, so the value cannot be made again")
    return {field for field, parameter in parameters.items() if parameter in needed}


def _required_keys(cls: Any, hints: dict[str, Any]) -> set[str]:
    """Of a TypedDict; where annotations are strings, it knows nothing of the qualifiers in them."""
    qualifiers = {key: unwrapped(hint)[1] | {"Required" if key in cls.__required_keys__ else ""} for key, hint in hints.items()}
    return {key for key, found in qualifiers.items() if "Required" in found and "NotRequired" not in found}


def _each(steps: list[_Step], get: Callable[[Any, str, Any], Any], source: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    name = ""
    try:
        for name, target, required, function in steps:
            found = get(source, name, _MISSING)
            if found is not _MISSING:
                made[target] = function(found)
            elif required:
                raise Fault("it is required, and missing")
    except Fault as fault:
        fault.at(f".{name}")
        raise
    return made


def model_form(cls: Any, encode_any: Function) -> Form:
    """A pydantic model."""
    name = hint_name(cls)

    def encode(value: Any) -> Any:
        if not isinstance(value, cls) or type(value).model_fields.keys() != cls.model_fields.keys():
            raise expected(name, value)
        return encode_any(value.model_dump(mode="json", by_alias=True))  # encode_any: a NaN becomes no null

    def decode(native: Any) -> Any:
        return cls.model_validate_json(json_bytes(native), strict=True)

    kinds = KINDS if cls.__pydantic_root_model__ else frozenset({dict})
    return Form(name, guarded(name, encode), guarded(name, decode), kinds, (cls,))
