"""Where the objects of a class keep their attributes: ``__dict__``, ``__slots__``, or the dictionaries of a pydantic model.

They are read and written there, past ``__setattr__`` and properties: what is written back is exactly what was read, frozen classes included.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import attrs


class Attributes:
    """Of the objects of ``cls``."""

    def __init__(self, cls: type) -> None:
        self._slots = dict(_slots(cls))
        self._caches = frozenset(name for name, value in everything_of(cls).items() if is_cache(value))
        self._has_dict = "__dict__" in dir(cls)
        self._private: frozenset[str] = frozenset(getattr(cls, "__private_attributes__", ()))
        fields = getattr(cls, "__pydantic_fields__", None)
        self._fields = frozenset[str](fields) if fields is not None else None

    def read(self, entity: Any) -> dict[str, Any]:
        """Those that are set, by name. Perhaps the object's own ``__dict__``: do not change it."""
        found: dict[str, Any] = vars(entity) if self._has_dict else {}
        if self._fields is not None:
            return {**found, **(entity.__pydantic_private__ or {}), **(entity.__pydantic_extra__ or {})}
        if self._slots:
            found = {name: getattr(entity, name) for name in self._slots if hasattr(entity, name)} | found
        return found

    def parts(self, record: Any) -> dict[str, Any]:
        """Those that are set, without what descriptors of the class keep in the object, a ``cached_property`` say."""
        found = self.read(record)
        return {name: value for name, value in found.items() if name not in self._caches} if self._caches else found

    def takes(self, name: str) -> bool:
        """Whether an object has a place for an attribute of this name."""
        return self._has_dict or name in self._slots

    def write(self, entity: Any, name: str, value: Any) -> None:
        if (slot := self._slots.get(name)) is not None:
            slot.__set__(entity, value)
        else:
            self._dictionary(entity, name)[name] = value

    def remove(self, entity: Any, name: str) -> None:
        if (slot := self._slots.get(name)) is not None:
            slot.__delete__(entity)
        else:
            del self._dictionary(entity, name)[name]

    def _dictionary(self, entity: Any, name: str) -> Any:
        if self._fields is not None and name not in self._fields:
            apart = entity.__pydantic_private__ if name in self._private else entity.__pydantic_extra__
            if apart is not None:
                return apart
        return vars(entity)


def _slots(cls: type) -> Iterator[tuple[str, Any]]:
    for base in reversed(cls.__mro__):
        # attrs makes a slot of each cached property, too.
        fields = {field.name for field in attrs.fields(base)} if "__attrs_attrs__" in vars(base) else None
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and not is_dunder(name) and (fields is None or name in fields):
                yield name, member


def everything_of(cls: type) -> dict[str, Any]:
    """What the class itself has, inherited things included."""
    return {name: value for base in reversed(cls.__mro__[:-1]) for name, value in vars(base).items()}


def is_cache(of_class: Any) -> bool:
    """Whether this thing of a class is a descriptor that may keep something in an object under its own name."""
    kind = type(of_class)
    return hasattr(kind, "__get__") and not hasattr(kind, "__set__") and not isinstance(of_class, OF_CLASS)


OF_CLASS = (property, types.FunctionType, types.BuiltinFunctionType, classmethod, staticmethod)


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
