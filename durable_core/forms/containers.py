"""Values that hold values: sequences, tuples, sets, mappings."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from durable_core.forms.form import ALL_KINDS, Fault, Form, JsonKind, checked, expected
from durable_core.forms.hints import hint_name

__all__ = ["mapping_form", "sequence_form", "set_form", "tuple_form"]

Function = Callable[[Any], Any]

_dump = msgspec.json.Encoder().encode
_load = msgspec.json.Decoder().decode
_TEXT: frozenset[type] = frozenset({str})
_NO_SEQUENCE = (str, bytes, bytearray, memoryview)
_BARE: frozenset[JsonKind] = frozenset({"null", "bool", "int", "float"})


def _collect(results: Iterable[Any]) -> list[Any]:
    done: list[Any] = []
    try:
        done.extend(results)
    except Fault as fault:
        fault.at(f"[{len(done)}]")
        raise
    return done


def sequence_form(name: str, element: Form, accepts: type[Any], make: Function) -> Form:
    """``make`` builds the value of a list. A list of plain ints or strings is checked in C and not copied."""
    passes = element.passes

    def encode(value: Any) -> Any:
        if isinstance(value, _NO_SEQUENCE):
            raise expected(name, value)
        if passes and passes.issuperset(map(type, value)):
            return value if type(value) is list else list(value)
        return _collect(map(element.encode, value))

    def decode(native: Any) -> Any:
        plain = passes and passes.issuperset(map(type, native))
        return make(native if plain else _collect(map(element.decode, native)))

    return checked(name, accepts, list, encode, decode)


def tuple_form(name: str, elements: Sequence[Form]) -> Form:
    """A tuple of fixed length."""
    encoders, decoders = [element.encode for element in elements], [element.decode for element in elements]

    def each(functions: list[Function], values: Sequence[Any]) -> list[Any]:
        if len(values) != len(functions):
            raise Fault(f"expected {name}, got {len(values)} elements")
        return _collect(function(value) for function, value in zip(functions, values, strict=True))

    return checked(name, tuple, list, lambda value: each(encoders, value), lambda native: tuple(each(decoders, native)))


def set_form(name: str, element: Form, accepts: type[Any], make: Function) -> Form:
    """Sorted by the elements' bytes: the order of a set differs from process to process."""

    def encode(value: Any) -> Any:
        try:
            return sorted(map(element.encode, value), key=_dump)
        except Fault as fault:
            fault.at("{…}")
            raise

    def decode(native: Any) -> Any:
        items = _collect(map(element.decode, native))
        try:
            return make(items)
        except TypeError as error:
            raise Fault(f"expected {name}: {error}") from error

    return checked(name, accepts, list, encode, decode)


def mapping_form(name: str, key: Form, value: Form, accepts: type[Any], make: Function) -> Form:
    encode_key, decode_key = _key_functions(key)
    text_keys, passes = key.passes >= _TEXT, value.passes

    def encode(mapping: Any) -> Any:
        if text_keys and type(mapping) is dict and _TEXT.issuperset(map(type, mapping)) and passes.issuperset(map(type, mapping.values())):
            return mapping
        made = _items(encode_key, value.encode, mapping)
        if len(made) != len(mapping):
            raise Fault(f"two keys of {name} are the same JSON key")
        return made

    def decode(native: Any) -> Any:
        plain = text_keys and passes.issuperset(map(type, native.values()))
        return make(native if plain else _items(decode_key, value.decode, native))

    return checked(name, accepts, dict, encode, decode)


def _items(key_function: Function, value_function: Function, mapping: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    key: Any = None
    try:
        for key, item in mapping.items():
            made[key_function(key)] = value_function(item)
    except Fault as fault:
        fault.at(f"[{reprlib.repr(key)}]")
        raise
    return made


def _key_functions(key: Form) -> tuple[Function, Function]:
    """A JSON key is a string: what encodes to one is used as it is, numbers and bools as their JSON text."""
    if key.kinds <= _BARE:
        return lambda value: _dump(key.encode(value)).decode(), lambda text: key.decode(_read_bare(text))
    if key.kinds != ALL_KINDS and key.kinds != {"str"}:
        raise Fault(f"{key.name} cannot be the key of a JSON object, which is a string")

    def encode(value: Any) -> str:
        native = key.encode(value)
        if type(native) is not str:
            kind = hint_name(type(value))
            raise Fault(f"a JSON key is a string, and no hint says how to read back {kind}: annotate it, as in dict[{kind}, …]")
        return native

    return encode, key.decode


def _read_bare(text: str) -> Any:
    try:
        return _load(text)
    except msgspec.DecodeError:
        return text  # a string, which the key's form refuses
