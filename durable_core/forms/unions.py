"""Unions: written by the class of the value, read by the first member that can.

Whatever one member writes, no other may read as something else, or it is refused: the order of members says nothing
(``int | str == str | int``). So ``int | str | None`` is fine and so is ``datetime | UUID``, but of ``str | datetime`` no
datetime travels, nor does a string that looks like one. Classes with fields are told apart by a common field with
different Literals, or by required fields of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

from durable_core.forms.form import KINDS, Fault, Form, expected


def union_form(name: str, members: Sequence[Form]) -> Form:
    writers: dict[type, Sequence[Form]] = {}
    readers = {kind: _readers(kind, members) for kind in KINDS}

    def encode(value: Any) -> Any:
        kind = type(value)
        fitting = writers.get(kind) or writers.setdefault(kind, _writers(kind, members))
        for member in fitting:
            try:
                native = member.encode(value)
            except Fault:
                if len(fitting) == 1:
                    raise
                continue
            for other in readers.get(type(native), ()):
                if other is not member and _reads_otherwise(member, other, native):
                    raise Fault(f"what {member.name} writes, {other.name} could read as something else: {_ADVICE}")
            return native
        raise expected(name, value)

    def decode(native: Any) -> Any:
        fitting = readers.get(type(native), ())
        for member in fitting:
            try:
                return member.decode(native)
            except Fault:
                if len(fitting) == 1:
                    raise
        raise expected(name, native)

    return Form(
        name,
        encode,
        decode,
        frozenset().union(*(member.kinds for member in members)),
        sum((member.types for member in members), ()),
        frozenset().union(*(member.passes for member in members)),
    )


_ADVICE = "give the classes a common field with different Literals, or register hooks for the union (JsonConverter.cattrs)"


def _writers(kind: type, members: Sequence[Form]) -> Sequence[Form]:
    """An exact match goes before a subclass; what fits none is offered to all (an int to a float)."""
    return [member for member in members if kind in member.types] or [each for each in members if issubclass(kind, each.types)] or members


def _readers(kind: type, members: Sequence[Form]) -> Sequence[Form]:
    """None goes first: hooks of the user need not write null where None is a member. An int may be a float."""
    fitting = sorted((member for member in members if kind in member.kinds), key=lambda member: member.kinds != {NoneType})
    return fitting or [member for member in members if kind is int and float in member.kinds]


def _reads_otherwise(writer: Form, other: Form, native: Any) -> bool:
    try:
        read = other.decode(native)
    except Fault:
        return False
    meant = writer.decode(native)
    return type(read) is not type(meant) or bool(read != meant)
