"""One type hint, compiled (``Form``), and what was wrong with a value, and where (``Fault``)."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from types import NoneType
from typing import Any

import msgspec
from attrs import frozen

Function = Callable[[Any], Any]

KINDS: frozenset[type] = frozenset({NoneType, bool, int, float, str, list, dict})
"""What JSON consists of: the class that a parsed value has is its *kind*."""

json_bytes = msgspec.json.Encoder().encode
"""Of parsed JSON. They order and compare it: of 1, 1.0, True and "1" no two are the same."""


class Fault(Exception):
    """A value that does not fit its type. Raised where it was found; each enclosing value adds its step to ``place``
    on the way out.
    """

    place = ""

    def at(self, step: str) -> None:
        self.place = step + self.place


def expected(what: str, value: Any) -> Fault:
    shown = "None" if value is None else f"{type(value).__qualname__} ({reprlib.repr(value)})"
    return Fault(f"expected {what}, got {shown}")


@frozen
class Form:
    """``encode`` makes parsed JSON (``KINDS``) of a value, ``decode`` the value of that; both raise ``Fault``.

    The rest serves containers and unions. ``kinds``: what ``encode`` may make. ``types``: the classes of the values
    it takes. ``passes``: classes whose values are their own JSON both ways, so that a list of them needs no copy.
    """

    name: str
    encode: Function
    decode: Function
    kinds: frozenset[type] = KINDS
    types: tuple[type, ...] = (object,)
    passes: frozenset[type] = frozenset()


def checked(name: str, accepts: type[Any], native: type[Any], encode: Function, decode: Function) -> Form:
    """A form for instances of ``accepts`` that become JSON of the class ``native``; both functions get nothing else."""

    def checked_encode(value: Any) -> Any:
        if not isinstance(value, accepts):
            raise expected(name, value)
        return encode(value)

    def checked_decode(value: Any) -> Any:
        if type(value) is not native:
            raise expected(name, value)
        return decode(value)

    return Form(name, checked_encode, checked_decode, frozenset({native}), (accepts,))


def guarded(what: str, function: Function) -> Function:
    """Code of the user, whose errors are faults."""

    def call(value: Any) -> Any:
        try:
            return function(value)
        except Fault:
            raise
        except Exception as error:
            raise Fault(f"{what} raised {type(error).__name__}: {error}") from error

    return call
