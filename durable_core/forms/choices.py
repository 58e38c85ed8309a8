"""Types with a list of values: Enum members (which travel as their value) and Literal."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable_core.forms.form import KINDS, Fault, Form, JsonKind, expected

__all__ = ["enum_form", "literal_form"]

_key = msgspec.json.Encoder().encode  # 1, 1.0, True and "1" are four keys


def literal_form(name: str, values: Sequence[Any], encode_any: Callable[[Any], Any]) -> Form:
    natives = {(type(value), value): encode_any(value) for value in values}

    def encode(value: Any) -> Any:
        try:
            return natives[type(value), value]
        except (KeyError, TypeError):
            raise expected(name, value) from None

    types = tuple({type(value) for value in values})
    return _choice_form(name, encode, [value for _, value in natives], list(natives.values()), types, otherwise=None)


def enum_form(name: str, kind: type[enum.Enum], encode_any: Callable[[Any], Any]) -> Form:
    """A class with a ``_missing_`` of its own (every Flag has one) is asked about a value that is no member's."""
    natives = {member._name_: encode_any(member.value) for member in kind}
    open_ended = kind._missing_.__func__ is not enum.Enum._missing_.__func__  # type: ignore[attr-defined]

    def encode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise expected(name, value)
        native = natives.get(value._name_, natives)
        return encode_any(value.value) if native is natives else native  # a combination of flags, or made by _missing_

    return _choice_form(name, encode, list(kind), list(natives.values()), (kind,), otherwise=kind if open_ended else None)


def _choice_form(
    name: str,
    encode: Callable[[Any], Any],
    values: list[Any],
    natives: list[Any],
    types: tuple[type, ...],
    *,
    otherwise: Callable[[Any], Any] | None,
) -> Form:
    known = {_key(native): value for native, value in zip(natives, values, strict=True)}
    native_types = {type(native) for native in natives}
    if len(known) != len(natives):
        raise Fault(f"two values of {name} are the same JSON")

    def decode(native: Any) -> Any:
        found = known.get(_key(native), known)
        if found is not known:
            return found
        if otherwise is not None and type(native) in native_types:
            try:
                return otherwise(native)
            except ValueError:
                pass
        raise expected(name, native)

    kinds: frozenset[JsonKind] = frozenset(KINDS[kind] for kind in native_types)
    return Form(name, encode, decode, kinds, types, choices=tuple(natives))
