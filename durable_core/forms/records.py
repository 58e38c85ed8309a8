"""Values with named fields: attrs classes, dataclasses, msgspec.Structs, NamedTuples, TypedDicts. All are JSON objects.

So that code of two versions can work on one hub, unknown keys are ignored when reading and missing ones take their
default. Nothing is dropped when writing: an instance of a subclass is refused, and so is a key that a TypedDict does not
have. Where making a value runs code of its class (a converter, ``__post_init__``), what was written is read at once: it
is refused if that gives another value.

Of a Struct's options ``rename``, ``tag`` and ``forbid_unknown_fields`` are followed. ``omit_defaults`` is not: what is
left out would follow a default that is changed meanwhile.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

import attrs
import msgspec

from durable_core.forms.form import Fault, Form, Function, checked, field_hints, guarded, hint_name, incomparable, unwrapped

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
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        return {name: name for name in cls.__struct_fields__}
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
    struct, made_by_code, may_be_unset = _StructOptions.of(cls), _is_made_by_code(cls), _without_unset(hints)
    get, strict = dict.get if typed_dict else _settled if may_be_unset else getattr, bool(struct.head or struct.known)

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            _refuse_loss(name, value, parameters, typed_dict)
        native = _each(encoders, get, value)
        if struct.head:
            native = {**struct.head, **native}
        if made_by_code or may_be_unset:
            _refuse_change(name, value, decode(native), parameters)
        return native

    def decode(native: Any) -> Any:
        if strict:
            struct.check(name, native)
        made = construct(_each(decoders, dict.get, native))
        for field, value in _each(later, dict.get, native).items():
            object.__setattr__(made, field, value)
        return made

    form = checked(name, dict if typed_dict else cls, dict, encode, decode)
    announce(form)
    forms = _each([(field, field, True, lookup) for field in parameters], dict.get, {field: hints.get(field, Any) for field in parameters})
    keys = {field: struct.names.get(field, field) for field in parameters}
    optional = set(parameters) - required if typed_dict else may_be_unset
    encoders = [(field, keys[field], field not in optional, forms[field].encode) for field in parameters]
    decoders = [(keys[field], target, field in required, forms[field].decode) for field, target in parameters.items() if target]
    later = [(field, field, field in required, forms[field].decode) for field, target in parameters.items() if not target]
    return form


class _StructOptions(msgspec.Struct, frozen=True):
    """Of a msgspec.Struct; every other class has none. ``head``: the tag. ``names``: of fields that are renamed."""

    names: dict[str, str] = {}
    head: dict[str, Any] = {}
    known: frozenset[str] | None = None
    """The keys that it may have, if it forbids others."""

    @classmethod
    def of(cls, kind: Any) -> _StructOptions:
        if not issubclass(kind, msgspec.Struct):
            return cls()
        config, names = kind.__struct_config__, dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        head = {config.tag_field: config.tag} if config.tag_field is not None else {}
        return cls(names, head, frozenset({*head, *names.values()}) if config.forbid_unknown_fields else None)

    def check(self, name: str, native: dict[str, Any]) -> None:
        for key, tag in self.head.items():
            if type(found := native.get(key)) is not type(tag) or found != tag:
                raise Fault(f"expected {name}, whose {key!r} is {tag!r}, got {found!r}")
        if self.known is not None and (unknown := sorted(native.keys() - self.known)):
            raise Fault(f"{name} forbids unknown fields, got {', '.join(map(repr, unknown))}")


def _without_unset(hints: dict[str, Any]) -> set[str]:
    """Takes ``msgspec.UnsetType`` out of the hints: a field that is UNSET is not written. Which fields may be?"""
    found = set()
    for name, hint in hints.items():
        members = get_args(hint)
        if msgspec.UnsetType in members:
            hints[name] = Union[tuple(each for each in members if each is not msgspec.UnsetType)]  # noqa: UP007
            found.add(name)
    return found


def _settled(value: Any, field: str, missing: Any) -> Any:
    found = getattr(value, field, missing)
    return missing if found is msgspec.UNSET else found


def _is_made_by_code(cls: Any) -> bool:
    """Whether code of the user has a hand in what the constructor makes of the fields."""
    if attrs.has(cls):
        return hasattr(cls, "__attrs_post_init__") or hasattr(cls, "__attrs_init__") or any(field.converter for field in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return hasattr(cls, "__post_init__") or not cls.__dict__["__dataclass_params__"].init
    return hasattr(cls, "__post_init__") or "__new__" in vars(cls)


def _refuse_loss(name: str, value: Any, parameters: dict[str, Any], typed_dict: bool) -> None:
    """Of an instance of a subclass: of a NamedTuple it may be, which is equal to one of its base."""
    present = value if typed_dict else parameters_of(type(value)) or ()
    lost = sorted(str(field) for field in present if field not in parameters)
    if lost or not isinstance(value, dict | tuple):
        remedy = "" if isinstance(value, dict) else "; annotate the subclass, or a union that has it"
        raise Fault(f"expected {name}, got {hint_name(type(value))}, of which {', '.join(lost) or 'the class'} would be lost{remedy}")


def _refuse_change(name: str, sent: Any, read: Any, parameters: dict[str, Any]) -> None:
    for field in parameters:
        mine, theirs = getattr(sent, field), getattr(read, field)
        if mine != theirs and not incomparable(mine):
            why = f"{name} makes of {mine!r} {theirs!r} when it is read; let its converter or __post_init__ leave alone what it has made"
            fault = Fault(why)
            fault.at(f".{field}")
            raise fault


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
