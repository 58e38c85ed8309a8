"""Single values: those that JSON has, those that travel as a string, and those of a list (Enum members, which travel
as their value, and Literal).

Nothing is converted on the quiet: "5" is no int, 5.7 is no int, True is no 1. Only an int is taken for a float, as
type checkers take it, and becomes one. An instance of a subclass is taken where its class alone is lost (an IntEnum
under ``int``), refused where a part of its value would be (a datetime under ``date``).

What ISO 8601 cannot say is not kept, and makes no difference to ``==``: an aware datetime keeps its offset but not
the name of its zone, a naive one loses ``fold``. An int of more digits than Python converts (4,300 by default) is
refused.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Flag
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from durable_core.forms.form import Form, Function, checked, expected, json_bytes

# ── what JSON has ─────────────────────────────────────────────────────────────────────────────────────────────


def _native(kind: type, name: str, plain: Function) -> Form:
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

    return Form(name, encode, decode, frozenset({kind}), (kind,), frozenset({kind}))


def _encode_float(value: Any) -> float:
    made = value if type(value) is float else _decode_float(value)
    if math.isfinite(made) and made == value:
        return made
    raise expected("a finite float, or an int that is equal to one", value)


def _decode_float(native: Any) -> float:
    if isinstance(native, float):
        return float(native)
    if isinstance(native, int) and type(native) is not bool:
        with suppress(OverflowError):
            return float(native)
    raise expected("float", native)


# ── what travels as a string ──────────────────────────────────────────────────────────────────────────────────


def written_form(kind: type, write: Callable[[Any], str], read: Callable[[str], Any], shape: tuple[int, str] = (0, "")) -> Form:
    """``read`` must undo ``write`` exactly. An instance of a subclass is taken if what is read back equals it.

    ``shape`` is a mark that ``write`` makes at a position; ``fromisoformat`` also reads forms without, some of them
    digits only, and a union with Decimal could not be told apart.
    """
    name, (position, mark) = kind.__name__, shape

    def encode(value: Any) -> str:
        text = write(value)
        if type(value) is kind or decode(text) == value:
            return text
        raise expected(name, value)

    def decode(text: str) -> Any:
        with suppress(ValueError, ArithmeticError, msgspec.MsgspecError):
            if text.startswith(mark, position):
                return read(text)
        raise expected(name, text)

    return checked(name, kind, str, encode, decode)


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise expected("a finite Decimal", value)
    return value


SCALARS: dict[Any, Form] = {
    NoneType: _native(NoneType, "None", type),
    bool: _native(bool, "bool", bool),
    int: _native(int, "int", int),
    float: Form("float", _encode_float, _decode_float, frozenset({float}), (float,)),
    str: _native(str, "str", str.__str__),
    bytes: written_form(bytes, lambda value: b64encode(value).decode(), lambda text: b64decode(text, validate=True)),
    Decimal: written_form(Decimal, lambda value: Decimal.__str__(_finite(value)), lambda text: _finite(Decimal(text))),
    UUID: written_form(UUID, UUID.__str__, UUID, (8, "-")),
    datetime: written_form(datetime, datetime.isoformat, datetime.fromisoformat, (10, "T")),
    date: written_form(date, date.isoformat, date.fromisoformat, (4, "-")),
    time: written_form(time, time.isoformat, time.fromisoformat, (2, ":")),
    timedelta: written_form(timedelta, msgspec.to_builtins, lambda text: msgspec.convert(text, timedelta)),  # ISO 8601: P3DT5.000007S
}


# ── what is one of a list ─────────────────────────────────────────────────────────────────────────────────────


def choice_form(name: str, values: Sequence[Any], types: tuple[type, ...], write: Function, read: Function | None = None) -> Form:
    """For Literal and Enum. Takes what is read back as the same value; ``read`` may know more than the listed ones: a
    combination of flags, or what the ``_missing_`` of an Enum class makes of it.
    """
    natives = list(map(write, values))
    kinds = frozenset(map(type, natives))
    known = {json_bytes(native): value for native, value in zip(natives, values, strict=True)}

    def encode(value: Any) -> Any:
        if type(value) in types:
            native = write(value)
            made = decode(native)
            if type(made) is type(value) and made == value:
                return native
        raise expected(name, value)

    def decode(native: Any) -> Any:
        key = json_bytes(native)
        if key in known:
            return known[key]
        if read and type(native) in kinds:
            with suppress(ValueError):
                made = read(native)
                if not isinstance(made, Flag) or made.value == native:  # Python 3.11.2 drops bits that no member has, and is silent
                    return made
        raise expected(name, native)

    return Form(name, encode, decode, kinds, types)
