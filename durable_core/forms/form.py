"""One type hint, compiled (``Form``), and what was wrong with a value, and where (``Fault``)."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from types import NoneType
from typing import Any, Literal

from attrs import frozen

__all__ = ["ALL_KINDS", "KINDS", "Fault", "Form", "JsonKind", "checked", "expected"]

JsonKind = Literal["null", "bool", "int", "float", "str", "list", "dict"]
KINDS: dict[type, JsonKind] = {NoneType: "null", bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
"""What JSON consists of: the class that a parsed value has, and its kind."""
ALL_KINDS: frozenset[JsonKind] = frozenset(KINDS.values())


class Fault(Exception):
    """A value that does not fit its type. Raised where it was found; each enclosing value adds its step to ``place``
    on the way out.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = ""

    def at(self, step: str) -> None:
        self.place = step + self.place


def expected(what: str, value: Any) -> Fault:
    return Fault(f"expected {what}, got {_shown(value)}")


def _shown(value: Any) -> str:
    return "None" if value is None else f"{type(value).__qualname__} ({reprlib.repr(value)})"


@frozen
class Form:
    """``encode`` makes parsed JSON (``KINDS``) of a value, ``decode`` the value of that; both raise ``Fault``.

    The rest serves containers and unions. ``kinds``: what ``encode`` may make. ``types``: the classes of the values
    it takes. ``passes``: classes whose values are their own JSON both ways, so that a list of them needs no copy.
    ``choices``: all that ``encode`` ever makes, if that is a short list. ``distinct``: makes strings that no other
    distinct form can read. ``record``: the hint, if it is a class with fields.
    """

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    kinds: frozenset[JsonKind] = ALL_KINDS
    types: tuple[type, ...] = (object,)
    passes: frozenset[type] = frozenset()
    choices: tuple[Any, ...] | None = None
    distinct: bool = False
    record: Any = None


def checked(
    name: str, accepts: type[Any], native: type[Any], encode: Callable[[Any], Any], decode: Callable[[Any], Any], **facts: Any
) -> Form:
    """A form for instances of ``accepts`` that become JSON of the class ``native``; both functions get nothing else."""

    def checked_encode(value: Any) -> Any:
        if not isinstance(value, accepts):
            raise expected(name, value)
        return encode(value)

    def checked_decode(value: Any) -> Any:
        if type(value) is not native:
            raise expected(name, value)
        return decode(value)

    return Form(name, checked_encode, checked_decode, frozenset({KINDS[native]}), (accepts,), **facts)
