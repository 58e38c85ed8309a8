"""Values that hold values: sequences, tuples, sets, mappings."""

from __future__ import annotations

import collections
import collections.abc as abc
import reprlib
from contextlib import suppress
from types import NoneType
from typing import Any

import msgspec

from durable_core.forms.form import KINDS, Fault, Form, Function, checked, expected, hint_name, json_bytes

_NO_SEQUENCE = (str, bytes, bytearray, memoryview)  # though Python says so

CONTAINERS: dict[Any, Function] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, dict, abc.Mapping, abc.MutableMapping), lambda native: native),
    **dict.fromkeys((set, abc.MutableSet), set),
    **dict.fromkeys((frozenset, abc.Set), frozenset),
    tuple: tuple,
    collections.OrderedDict: collections.OrderedDict,
}
"""What a hint's origin takes, and what makes one of parsed JSON."""


def container_form(name: str, origin: Any, args: tuple[Any, ...], lookup: abc.Callable[[Any], Form]) -> Form:
    parts = [lookup(arg) for arg in args or (Any, Any) if arg is not ...]
    return _mapping_form(name, parts[0], parts[1], origin) if issubclass(origin, abc.Mapping) else _items_form(name, parts[0], origin)


def tuple_form(name: str, elements: abc.Sequence[Form]) -> Form:
    """A tuple of fixed length."""
    encoders, decoders = [element.encode for element in elements], [element.decode for element in elements]

    def each(functions: list[Function], values: abc.Sequence[Any]) -> list[Any]:
        if len(values) != len(functions):
            raise Fault(f"expected {name}, got {len(values)} elements")
        return _collect(function(value) for function, value in zip(functions, values, strict=True))

    return checked(name, tuple, list, lambda value: each(encoders, value), lambda native: tuple(each(decoders, native)))


def _items_form(name: str, element: Form, origin: Any) -> Form:
    """Plain ints or strings are checked in C and not copied. A set is sorted by its elements' bytes: its own order
    differs from process to process.
    """
    passes, make, unordered = element.passes, CONTAINERS[origin], issubclass(origin, abc.Set)

    def encode(value: Any) -> Any:
        if isinstance(value, _NO_SEQUENCE):
            raise expected(name, value)
        plain = passes and passes.issuperset(map(type, value))
        made = value if plain else _collect(map(element.encode, value), "{…}" if unordered else "[{}]")
        if unordered:
            return sorted(made, key=json_bytes)
        return made if type(made) is list else list(made)

    def decode(native: Any) -> Any:
        plain = passes and passes.issuperset(map(type, native))
        items = native if plain else _collect(map(element.decode, native))
        try:
            return make(items)
        except TypeError as error:  # a set of what cannot be hashed
            raise Fault(f"expected {name}: {error}") from error

    return checked(name, origin, list, encode, decode)


def _collect(results: abc.Iterable[Any], step: str = "[{}]") -> list[Any]:
    done: list[Any] = []
    try:
        done.extend(results)
    except Fault as fault:
        fault.at(step.replace("{}", str(len(done))))
        raise
    return done


def _mapping_form(name: str, key: Form, value: Form, origin: Any) -> Form:
    """A JSON key is a string: what encodes to one is used as it is, numbers and bools as their JSON text."""
    make, bare = CONTAINERS[origin], key.kinds <= {NoneType, bool, int, float}
    if not bare and key.kinds not in (KINDS, {str}):
        raise Fault(f"{key.name} cannot be the key of a JSON object, which is a string")

    def encode_key(item: Any) -> str:
        native = key.encode(item)
        if bare:
            return json_bytes(native).decode()
        if type(native) is not str:
            kind = hint_name(type(item))
            raise Fault(f"a JSON key is a string, and no hint says how to read back {kind}: annotate it, as in dict[{kind}, …]")
        return native

    def decode_key(native: Any) -> Any:
        if bare:
            with suppress(msgspec.DecodeError):  # else it stays a string, which the key's form refuses
                native = msgspec.json.decode(native)
        return key.decode(native)

    def encode(mapping: Any) -> Any:
        made = _items(encode_key, value.encode, mapping)
        if len(made) != len(mapping):
            raise Fault(f"two keys of {name} are the same JSON key")
        return made

    return checked(name, origin, dict, encode, lambda native: make(_items(decode_key, value.decode, native)))


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
