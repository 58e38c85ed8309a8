"""What need not be read back to know that it would come back as it is.

Most state is plain JSON, or records of it by exact type hints. Looking at it costs a fraction of reading it back. Where a look is not enough
(``Any``, unions, subclasses, attributes that are no fields, two ways to one object), the answer is no, and means nothing but that.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Collection
from typing import Any, Union, get_args, get_origin

import attrs
from msgspec import Struct

from durable_core.definitions.attributes import Attributes
from durable_core.forms.form import Fault, field_hints, unwrapped
from durable_core.forms.records import parameters_of
from durable_core.forms.scalars import SCALARS

ATOMS: frozenset[type] = frozenset({types.NoneType, bool, int, float, str})
"""What JSON gives back as it was, and nobody can change."""

_LEAVES = frozenset(SCALARS) - {bytearray}


class ExactHint:
    """The classes that a hint speaks of: ``leaves`` cannot be changed, ``records`` have just these fields."""

    def __init__(self, hint: Any) -> None:
        self._leaves: set[type] = set()
        self._containers: set[type] = set()
        self._records: dict[type, tuple[Attributes, frozenset[str]]] = {}
        self.is_exact = self._take(hint)

    def holds(self, value: Any, containers: set[int]) -> bool:
        """Whether a value that could be encoded consists of these, no part of which is in it, or in one of ``containers``, twice."""
        kind = type(value)
        if kind in self._leaves:
            return True
        if id(value) in containers:
            return False
        containers.add(id(value))
        if (record := self._records.get(kind)) is not None:
            attributes, fields = record
            parts = attributes.read(value)
            return parts.keys() == fields and self._all(parts.values(), containers)
        if kind is dict:
            return dict in self._containers and self._leaves.issuperset(map(type, value)) and self._all(value.values(), containers)
        return kind in self._containers and self._all(value, containers)

    def _all(self, parts: Collection[Any], containers: set[int]) -> bool:
        return self._leaves.issuperset(map(type, parts)) or all(self.holds(part, containers) for part in parts)

    def _take(self, hint: Any) -> bool:
        meant, _ = unwrapped(types.NoneType if hint is None else hint)
        origin, args = get_origin(meant), get_args(meant)
        if origin is Union or origin is types.UnionType:
            members = [member for member in args if member is not types.NoneType]
            self._leaves.add(types.NoneType)
            return len(members) == 1 < len(args) and self._take(members[0])
        if origin in (list, dict, set, frozenset, tuple):
            self._containers.add(origin)
            return all(arg is ... or self._take(arg) for arg in args)
        if not isinstance(meant, type) or origin is not None:
            return False
        if meant in _LEAVES or issubclass(meant, enum.Enum):
            self._leaves.add(meant)
            return True
        return meant in self._records or self._take_record(meant)

    def _take_record(self, cls: type) -> bool:
        fields = parameters_of(cls) if dataclasses.is_dataclass(cls) or attrs.has(cls) or issubclass(cls, Struct) else None
        if fields is None:
            return False
        self._records[cls] = Attributes(cls), frozenset(fields)
        try:
            hints = field_hints(cls)
        except Fault:
            return False
        return all(name in hints and self._take(hints[name]) for name in fields)


PLAIN = ExactHint(dict[bool, dict[int, dict[float, dict[str, list[None]]]]])
"""JSON: the hint names all that it consists of, in whatever order."""
