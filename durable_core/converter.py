"""Payloads: the values of users' programs, as texts by type hint.

A *payload* is an argument, a result, a state, an event's content. ``JsonConverter`` writes it as compact JSON that a
person can read, the same text for the same value always, and reads back an equal value of the same type, or refuses:
it is strict in both directions and never calls ``str()`` to get out of a difficulty. What it can do with which type
is told in ``durable_core.forms``.

An engine may be given another ``DataConverter``, one that encrypts or compresses; it usually wraps a
``JsonConverter``. Its texts are stored as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from durable_core.errors import PayloadError
from durable_core.forms.form import Fault, hint_name, json_bytes

if TYPE_CHECKING:
    from cattrs import Converter


class DataConverter(Protocol):
    """How payloads become texts. ``decode(encode(value, hint), hint)`` equals ``value``, in every process and in
    every later release of your program.

    Raise ``PayloadError`` for what cannot be converted; any other exception becomes the cause of one.
    """

    def encode(self, value: Any, type_hint: Any, /) -> str: ...

    def decode(self, text: str, type_hint: Any, /) -> Any: ...


class Compiled(msgspec.Struct, frozen=True):
    """A converter's two functions for one hint; a missing text is None. Their errors begin with the ``where`` they were compiled for."""

    encode: Callable[[Any], str]
    decode: Callable[[str | None], Any]


class JsonConverter:
    """JSON by type hint; ``Any`` and ``object`` mean plain JSON. Thread-safe.

    A type that no payload can have is a ``PayloadError`` when it is compiled, a value that does not fit when it is
    converted; the message names the place, as in ``cannot encode Order.items[3].price: expected Decimal, got float
    (3.5)``.
    """

    def __init__(self) -> None:
        from durable_core.forms.compiler import Forms  # not at import: it needs decimal, pathlib, uuid

        self._forms = Forms()

    @property
    def cattrs(self) -> Converter:
        """A cattrs converter for hooks of your own (``register_structure_hook`` and friends), which go before the
        built-in rules at any depth. What an unstructure hook returns must be JSON, or something that is encoded
        without a hint. Register before the first payload is converted.
        """
        return cast("Converter", self._forms.cattrs)

    def encode(self, value: Any, type_hint: Any = Any) -> str:
        return self.compiled(type_hint).encode(value)

    def decode(self, text: str, type_hint: Any = Any) -> Any:
        return self.compiled(type_hint).decode(text)

    def compiled(self, type_hint: Any, where: str = "") -> Compiled:
        try:
            form = self._forms.form(type_hint)
        except Fault as fault:
            raise _error(where, f"no payload can have the type {hint_name(type_hint)}", fault) from fault.__cause__

        def encode(value: Any) -> str:
            native: Any = None
            try:
                native = form.encode(value)
                return json_bytes(native).decode()
            except (Fault, RecursionError, ValueError) as error:
                place = _unwritable(native) if isinstance(error, ValueError) else ""
                raise _error(where, f"cannot encode {form.name}{place}", error) from error.__cause__

        def decode(text: str | None) -> Any:
            try:
                return None if text is None else form.decode(msgspec.json.decode(text))
            except (Fault, RecursionError, ValueError, msgspec.MsgspecError) as error:
                raise _error(where, f"cannot decode {form.name}", error) from error.__cause__

        return Compiled(encode, decode)


def _error(where: str, what: str, error: Exception) -> PayloadError:
    reason = "it contains itself, or is nested too deeply" if isinstance(error, RecursionError) else error
    return PayloadError(f"{where and f'{where}: '}{what}{getattr(error, 'place', '')}: {reason}")


def _unwritable(native: Any) -> str:
    """The place in parsed JSON of what cannot be written: a lone surrogate, an int with more digits than Python writes."""
    for step, part in native.items() if isinstance(native, dict) else enumerate(native) if isinstance(native, list) else ():
        try:
            msgspec.json.encode(part)
        except ValueError:
            return (f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]") + _unwritable(part)
    return ""


def compiled(converter: DataConverter, type_hint: Any, where: str = "") -> Compiled:
    """``converter`` for one hint."""
    if type(converter) is JsonConverter:
        return converter.compiled(type_hint, where)

    def guarded(convert: Callable[[Any, Any], Any], verb: str) -> Callable[[Any], Any]:
        def converted(argument: Any) -> Any:
            try:
                made = None if argument is None and verb == "decode" else convert(argument, type_hint)
                if verb == "encode" and type(made) is not str:
                    raise TypeError(f"a payload is a str, not {type(made).__name__}")
                return made
            except Exception as error:
                what = f"{type(converter).__name__} cannot {verb} {hint_name(type_hint)}: {type(error).__name__}: "
                raise PayloadError(f"{where and f'{where}: '}{'' if isinstance(error, PayloadError) else what}{error}") from error

        return converted

    return Compiled(guarded(converter.encode, "encode"), guarded(converter.decode, "decode"))
