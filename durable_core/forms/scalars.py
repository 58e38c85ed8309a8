"""Single values: those that JSON has, and those that travel as a string.

Nothing is converted on the quiet: "5" is no int, 5.7 is no int, True is no 1. Only an int is taken for a float, as
type checkers take it, and becomes one. An instance of a subclass is taken where its class alone is lost (an IntEnum
under ``int``), refused where a part of its value would be (a datetime under ``date``).

What ISO 8601 cannot say is not kept, and makes no difference to ``==``: an aware datetime keeps its offset but not
the name of its zone, a naive one loses ``fold``. An int of more digits than Python converts (4,300 by default) is
refused.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from durable_core.forms.form import KINDS, Form, checked, expected

__all__ = ["SCALARS", "path_form"]

# ── what JSON has ─────────────────────────────────────────────────────────────────────────────────────────────


def _native(kind: type, name: str, plain: Callable[[Any], Any]) -> Form:
    """``plain`` makes an instance of the class of one of a subclass."""

    def encode(value: Any) -> Any:
        if type(value) is kind:
            return value
        if isinstance(value, kind) and type(value) is not bool:
            return plain(value)
        raise expected(name, value)

    def decode(native: Any) -> Any:
        if type(native) is kind:
            return native
        raise expected(name, native)

    return Form(name, encode, decode, frozenset({KINDS[kind]}), (kind,), frozenset({kind}))


def _encode_float(value: Any) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, float):
        raise expected("a finite float", value)
    made = _decode_float(value)
    if made != value:
        raise expected("a float, or an int that a float can hold exactly", value)
    return made


def _decode_float(native: Any) -> float:
    if type(native) is float:
        return native
    if isinstance(native, int) and type(native) is not bool:
        try:
            return float(native)
        except OverflowError:
            raise expected("a number within the range of float", native) from None
    raise expected("float", native)


# ── what travels as a string ──────────────────────────────────────────────────────────────────────────────────


def _written(kind: type, write: Callable[[Any], str], read: Callable[[str], Any], *, distinct: bool = True) -> Form:
    """``read`` must undo ``write`` exactly. An instance of a subclass is taken if what is read back equals it."""
    name = kind.__name__

    def encode(value: Any) -> str:
        text = write(value)
        if type(value) is kind or decode(text) == value:
            return text
        raise expected(name, value)

    def decode(text: str) -> Any:
        try:
            return read(text)
        except (ValueError, ArithmeticError, msgspec.MsgspecError):
            raise expected(name, text) from None

    return checked(name, kind, str, encode, decode, distinct=distinct)


def _shaped(position: int, mark: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """``fromisoformat`` also reads forms that we never write, some of them digits only: a union with Decimal could
    not be told apart.
    """

    def shaped(text: str) -> Any:
        if text[position : position + 1] != mark:
            raise ValueError(text)
        return read(text)

    return shaped


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise expected("a finite Decimal", value)
    return Decimal.__str__(value)


def _read_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def _write_bytes(value: bytes | bytearray) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def path_form(kind: type[PurePath]) -> Form:
    return _written(kind, str, kind, distinct=False)


SCALARS: dict[Any, Form] = {
    NoneType: _native(NoneType, "None", type),
    bool: _native(bool, "bool", bool),
    int: _native(int, "int", int),
    float: Form("float", _encode_float, _decode_float, frozenset({"float"}), (float,)),
    str: _native(str, "str", str.__str__),
    bytes: _written(bytes, _write_bytes, _read_bytes, distinct=False),
    bytearray: _written(bytearray, _write_bytes, lambda text: bytearray(_read_bytes(text)), distinct=False),
    Decimal: _written(Decimal, _write_decimal, _read_decimal),
    UUID: _written(UUID, UUID.__str__, _shaped(8, "-", UUID)),
    datetime: _written(datetime, datetime.isoformat, _shaped(10, "T", datetime.fromisoformat)),
    date: _written(date, date.isoformat, _shaped(4, "-", date.fromisoformat)),
    time: _written(time, time.isoformat, _shaped(2, ":", time.fromisoformat)),
    timedelta: _written(timedelta, msgspec.to_builtins, lambda text: msgspec.convert(text, timedelta)),  # ISO 8601: P3DT5.000007S
}
