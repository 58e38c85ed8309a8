"""Pydantic models. They go by their own rules, in strict mode, and what these rules make is read back at once: a model whose text does not
give an equal one again (a secret, ``exclude=True``, a subclass in a field of its base, a serializer without its validator) is refused where
it is sent.

``model_fields_set`` travels too, for models that say by it what is to be changed: beside the fields stand, under ``$unset``, the places of
those that were not set. The values of these are sent all the same, or they would follow a default that is changed meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

from durable_core.forms.form import KINDS, Fault, Form, Function, expected, guarded, hint_name, incomparable, json_bytes

_UNSET = "$unset"
_REMEDY = (
    "a secret, a field with exclude=True, a subclass in a field of its base cannot travel, nor what a serializer or validator changes for good: "
    "send a model without, or register hooks for it (JsonConverter.cattrs)"
)


def model_form(cls: Any, encode_any: Function, *, marked: bool = True) -> Form:
    """``marked``: with ``$unset``, which somebody who reads it without a hint has no use for."""
    name = hint_name(cls)
    by_name = {"by_name": True} if "by_name" in inspect.signature(cls.model_validate_json).parameters else {}  # pydantic 2.11

    def read(native: Any) -> Any:
        return cls.model_validate_json(json_bytes(native), strict=True, **by_name)

    def encode(value: Any) -> Any:
        if not isinstance(value, cls) or type(value).model_fields.keys() != cls.model_fields.keys():
            raise expected(name, value)
        trouble: Fault | None = None
        for by_alias in (True, False):  # what is written by one alias and read by another is written by the field's name
            how = {"mode": "json", "by_alias": by_alias, "round_trip": True, "warnings": "error"}
            native = encode_any(value.model_dump(**how))  # encode_any: a NaN becomes no null
            trouble = _trouble(value, read, native)
            if trouble is None:
                return _mark(native, value.model_dump(exclude_unset=True, **how)) if marked else native
        assert trouble is not None
        raise trouble

    def decode(native: Any) -> Any:
        if not isinstance(native, dict) or _UNSET not in native:
            return read(native)
        unset, full = native[_UNSET], {key: value for key, value in native.items() if key != _UNSET}
        made = read(full)
        try:
            pattern = read(_without(full, unset))
        except Exception:  # a discriminator that was not set, say, without which nothing can be read
            return made
        for here, there in _models(made, pattern):
            here.__pydantic_fields_set__.clear()
            here.__pydantic_fields_set__.update(there.model_fields_set)
        return made

    kinds = KINDS if cls.__pydantic_root_model__ else frozenset({dict})
    return Form(name, guarded(name, encode), guarded(name, decode), kinds, (cls,))


def _trouble(value: Any, read: Function, native: Any) -> Fault | None:
    """Why ``value`` would not arrive as it is."""
    try:
        made = read(native)
    except Exception as error:
        return Fault(f"the model does not read what it writes: {error}; {_REMEDY}")
    place = None if made == value else _difference(value, made)
    if place is None:
        return None
    fault = Fault(f"it would not arrive as it is; {_REMEDY}")
    fault.at(place)
    return fault


def _fields(model: Any) -> dict[str, Any]:
    """Without private attributes, which are no part of what a model writes."""
    return {**model.__dict__, **(model.model_extra or {})}


def _is_model(value: Any) -> bool:
    return hasattr(type(value), "__pydantic_fields_set__") and hasattr(type(value), "model_fields")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if _is_model(value):
        yield from ((f".{name}", part) for name, part in _fields(value).items())
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))


def _difference(sent: Any, read: Any) -> str | None:
    """The place of the first; None: there is none."""
    if _is_model(sent):
        if getattr(sent, "__pydantic_generic_metadata__", {}).get("origin") is None and type(sent) is not type(read):
            return ""
    elif not isinstance(sent, dict | list | tuple):
        return None if sent == read or incomparable(sent) else ""
    mine, theirs = list(_parts(sent)), dict(_parts(read))
    if (type(sent) is not type(read) and not _is_model(sent) and sent != read) or len(mine) != len(theirs):
        return ""
    for step, part in mine:
        if step not in theirs:
            return step
        if (place := _difference(part, theirs[step])) is not None:
            return step + place
    return None


def _models(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """The models in two values of the same shape, in pairs."""
    if _is_model(one) and type(one) is type(other):
        yield one, other
    theirs = dict(_parts(other))
    for step, part in _parts(one):
        if step in theirs:
            yield from _models(part, theirs[step])


# ── which fields were not set ─────────────────────────────────────────────────────────────────────────────────


def _mark(native: Any, short: Any) -> Any:
    if not isinstance(native, dict):
        return native
    if _UNSET in native:
        raise Fault(f"a field named {_UNSET!r} cannot travel")
    places = list(_missing(native, short))
    return {**native, _UNSET: places} if places else native


def _missing(full: Any, short: Any) -> Iterator[list[Any]]:
    """The places in parsed JSON that ``short`` does not have."""
    if isinstance(full, dict) and isinstance(short, dict):
        for key, value in full.items():
            if key not in short:
                yield [key]
            else:
                yield from ([key, *rest] for rest in _missing(value, short[key]))
    elif isinstance(full, list) and isinstance(short, list):
        for index, (value, other) in enumerate(zip(full, short, strict=False)):
            yield from ([index, *rest] for rest in _missing(value, other))


def _without(full: Any, places: Any) -> Any:
    made = msgspec.json.decode(json_bytes(full))  # a copy
    for *way, last in places:
        part = made
        for step in way:
            part = part[step]
        del part[last]
    return made
