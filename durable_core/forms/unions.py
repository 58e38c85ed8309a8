"""Unions: written by the class of the value, read by the kind of JSON.

A union is accepted only if whatever one member writes, no other member could read as something else. ``int | str |
None`` is fine, so is ``datetime | UUID``; ``str | datetime`` is refused when it is compiled, not for the unlucky
string that looks like a date. Classes are told apart by cattrs: by a common field with distinct Literals, else by
required fields of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from durable_core.forms.form import ALL_KINDS, KINDS, Fault, Form, JsonKind, expected

__all__ = ["union_form"]

Function = Callable[[Any], Any]
_NULL: frozenset[JsonKind] = frozenset({"null"})
_HINT = "give each member a class of its own, or register hooks for it (JsonConverter.cattrs)"


def union_form(name: str, members: Sequence[Form], tell_records_apart: Callable[[list[Form]], Function]) -> Form:
    for one, other in combinations(members, 2):
        if not (one.record and other.record) and _may_clash(one, other):
            raise Fault(f"what {one.name} writes, {other.name} could read as something else: {_HINT}")
    return Form(
        name,
        _encode_by_class(name, members),
        _decode_by_kind(name, members, tell_records_apart),
        frozenset().union(*(member.kinds for member in members)),
        sum((member.types for member in members), ()),
        frozenset().union(*(member.passes for member in members)),
    )


def _may_clash(one: Form, other: Form) -> bool:
    if not one.kinds & other.kinds or (one.distinct and other.distinct):
        return False
    if _NULL in (one.kinds, other.kinds) and ALL_KINDS in (one.kinds, other.kinds):
        return False  # Any | None, or hooks of the user, which need not write null where None is a member
    if one.choices is None and other.choices is None:
        return True
    chosen, against = (one, other) if one.choices is not None else (other, one)
    return any(_reads_otherwise(chosen, against, native) for native in chosen.choices or ())


def _reads_otherwise(one: Form, other: Form, native: Any) -> bool:
    try:
        value = other.decode(native)
    except Fault:
        return False
    meant = one.decode(native)
    return type(value) is not type(meant) or bool(value != meant)


def _encode_by_class(name: str, members: Sequence[Form]) -> Function:
    """An exact match goes before a subclass; what fits none is offered to all (an int to a float)."""
    chosen: dict[type, Function] = {}

    def choose(kind: type) -> Function:
        fitting = [member for member in members if kind in member.types] or [member for member in members if issubclass(kind, member.types)]
        return chosen.setdefault(kind, _first_of(name, [member.encode for member in fitting or members]))

    def encode(value: Any) -> Any:
        kind = type(value)
        return (chosen.get(kind) or choose(kind))(value)

    return encode


def _decode_by_kind(name: str, members: Sequence[Form], tell_records_apart: Callable[[list[Form]], Function]) -> Function:
    records = [member for member in members if member.record]
    functions: dict[type, Function] = {}
    for native_type, kind in KINDS.items():
        fitting = [member.decode for member in members if kind in member.kinds and not (kind == "dict" and member.record)]
        if kind == "dict" and records:
            fitting.append(records[0].decode if len(records) == 1 else tell_records_apart(records))
        if kind == "null":
            fitting = [member.decode for member in members if member.kinds == _NULL] or fitting
        if kind == "int" and not fitting:
            fitting = [member.decode for member in members if "float" in member.kinds]
        functions[native_type] = _first_of(name, fitting)

    def decode(native: Any) -> Any:
        function = functions.get(type(native))
        if function is None:  # from a hook of the user
            raise expected(name, native)
        return function(native)

    return decode


def _first_of(name: str, functions: Sequence[Function]) -> Function:
    if len(functions) == 1:
        return functions[0]

    def first(value: Any) -> Any:
        for function in functions:
            try:
                return function(value)
            except Fault:
                continue
        raise expected(name, value)

    return first
