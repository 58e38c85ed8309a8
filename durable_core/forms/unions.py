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

from durable_core.forms.form import KINDS, Fault, Form, Function, expected

_Candidates = Sequence[tuple[Form, Function]]
_ADVICE = "give the classes a common field with different Literals, or register hooks for the union (JsonConverter.cattrs)"


def union_form(name: str, members: Sequence[Form]) -> Form:
    kinds: frozenset[type] = frozenset().union(*(member.kinds for member in members))
    passes: frozenset[type] = frozenset().union(*(member.passes for member in members))
    types = tuple(kind for member in members for kind in member.types)
    writers: dict[type, _Candidates] = {}
    readers = {kind: [(member, member.decode) for member in _readers(kind, members)] for kind in KINDS}

    def encode(value: Any) -> Any:
        kind = type(value)
        if kind not in writers:
            writers[kind] = [(member, member.encode) for member in _writers(kind, members)]
        writer, native = _first(name, writers[kind], value)
        for reader, _ in readers.get(type(native), ()):
            if reader is not writer and _reads_otherwise(writer, reader, native):
                raise Fault(f"what {writer.name} writes, {reader.name} could read as something else: {_ADVICE}")
        return native

    def decode(native: Any) -> Any:
        return _first(name, readers.get(type(native), ()), native)[1]

    return Form(name, encode, decode, kinds, types, passes)


def _writers(kind: type, members: Sequence[Form]) -> Sequence[Form]:
    """An exact match goes before a subclass; what fits none is offered to all (an int to a float)."""
    return [member for member in members if kind in member.types] or [each for each in members if issubclass(kind, each.types)] or members


def _readers(kind: type, members: Sequence[Form]) -> Sequence[Form]:
    """None goes first: hooks of the user need not write null where None is a member. An int may be a float."""
    fitting = sorted((member for member in members if kind in member.kinds), key=lambda member: member.kinds != {NoneType})
    return fitting or [member for member in members if kind is int and float in member.kinds]


def _first(name: str, candidates: _Candidates, value: Any) -> tuple[Form, Any]:
    """The first that takes the value, and what it makes of it. If there is just one, its ``Fault`` says more."""
    for member, convert in candidates:
        try:
            return member, convert(value)
        except Fault:
            if len(candidates) == 1:
                raise
    raise expected(name, value)


def _reads_otherwise(writer: Form, reader: Form, native: Any) -> bool:
    try:
        read = reader.decode(native)
    except Fault:
        return False
    meant = writer.decode(native)
    return type(read) is not type(meant) or bool(read != meant)
