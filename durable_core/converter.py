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
from attrs import frozen

from durable_core.errors import PayloadError
from durable_core.forms.form import Fault, Form
from durable_core.forms.hints import hint_name

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Compiled", "DataConverter", "JsonConverter", "compiled"]

Encoder = Callable[[Any], str]
Decoder = Callable[[str], Any]


class DataConverter(Protocol):
    """How payloads become texts. ``decode(encode(value, hint), hint)`` equals ``value``, in every process and in
    every later release of your program.

    Raise ``PayloadError`` for what cannot be converted; any other exception becomes the cause of one.
    """

    def encode(self, value: Any, type_hint: Any, /) -> str: ...

    def decode(self, text: str, type_hint: Any, /) -> Any: ...


@frozen
class Compiled:
    """A converter's two functions for one hint. Their errors begin with the ``where`` they were compiled for."""

    encode: Encoder
    decode: Decoder


class JsonConverter:
    """JSON by type hint; ``Any`` and ``object`` mean plain JSON. Thread-safe.

    A type that no payload can have is a ``PayloadError`` when it is compiled, a value that does not fit when it is
    converted; the message names the place, as in ``cannot encode Order.items[3].price: expected Decimal, got float
    (3.5)``.
    """

    def __init__(self) -> None:
        from durable_core.forms.compiler import Forms  # not at import: it needs decimal, pathlib, uuid

        self._forms = Forms()
        self._compiled: dict[Any, Compiled] = {}

    @property
    def cattrs(self) -> Converter:
        """A cattrs converter for hooks of your own (``register_structure_hook`` and friends), which go before the
        built-in rules at any depth. What an unstructure hook returns must be JSON, or something that is encoded
        without a hint. Register before the first payload is converted.
        """
        self._compiled.clear()
        return self._forms.cattrs

    def encode(self, value: Any, type_hint: Any = Any) -> str:
        return self.compiled(type_hint).encode(value)

    def decode(self, text: str, type_hint: Any = Any) -> Any:
        return self.compiled(type_hint).decode(text)

    def encoder(self, type_hint: Any) -> Encoder:
        return self.compiled(type_hint).encode

    def decoder(self, type_hint: Any) -> Decoder:
        return self.compiled(type_hint).decode

    def compiled(self, type_hint: Any, where: str = "") -> Compiled:
        """What looks at the hint once; without ``where`` it is cached."""
        try:
            found = None if where else self._compiled.get(type_hint)
        except TypeError:  # a hint that cannot be hashed, as Annotated[int, []]
            return self._compile(type_hint, where)
        if found is None:
            found = self._compile(type_hint, where)
            if not where:
                self._compiled[type_hint] = found
        return found

    def _compile(self, type_hint: Any, where: str) -> Compiled:
        try:
            form = self._forms.form(type_hint)
        except Fault as fault:
            raise _error(where, f"no payload can have the type {hint_name(type_hint)}{fault.place}", fault) from fault.__cause__
        return Compiled(_encoder(form, where), _decoder(form, where))


def _encoder(form: Form, where: str) -> Encoder:
    to_json, dump = form.encode, msgspec.json.Encoder().encode

    def encode(value: Any) -> str:
        native: Any = None
        try:
            native = to_json(value)
            return dump(native).decode()
        except Fault as found:
            fault, cause = found, found.__cause__
        except RecursionError:
            fault, cause = Fault("it contains itself, or is nested too deeply"), None
        except ValueError as error:  # what JSON itself cannot hold
            fault, cause = _unwritable(native, error), None
        raise _error(where, f"cannot encode {form.name}{fault.place}", fault) from cause

    return encode


def _decoder(form: Form, where: str) -> Decoder:
    from_json, load = form.decode, msgspec.json.Decoder().decode

    def decode(text: str) -> Any:
        try:
            return from_json(load(text))
        except Fault as found:
            fault, cause = found, found.__cause__
        except RecursionError:
            fault, cause = Fault("it is nested too deeply"), None
        except (msgspec.MsgspecError, UnicodeError) as error:
            fault, cause = Fault(f"the text is not JSON that can be read: {error}"), None
        raise _error(where, f"cannot decode {form.name}{fault.place}", fault) from cause

    return decode


def _error(where: str, what: str, fault: Fault) -> PayloadError:
    return PayloadError(f"{where}: {what}: {fault.reason}" if where else f"{what}: {fault.reason}")


def compiled(converter: DataConverter, type_hint: Any, where: str = "") -> Compiled:
    """``converter`` for one hint. A converter may have a faster ``compiled(type_hint, where)`` of its own, as
    ``JsonConverter`` has; that of a subclass which overrides ``encode`` or ``decode`` (to encrypt, say) and not
    ``compiled`` is left alone: it would pass the override by.
    """
    own = _definer(converter, "compiled")
    if own <= min(_definer(converter, "encode"), _definer(converter, "decode")):
        return cast(JsonConverter, converter).compiled(type_hint, where)
    return _adapted(converter, type_hint, where)


def _adapted(converter: DataConverter, type_hint: Any, where: str) -> Compiled:
    name = type(converter).__name__

    def encode(value: Any) -> str:
        try:
            text = converter.encode(value, type_hint)
        except Exception as error:
            raise _foreign(where, f"{name} cannot encode {hint_name(type_hint)}", error) from error
        if type(text) is not str:
            fault = Fault(f"its encode() must return a str, not {type(text).__name__}")
            raise _error(where, f"{name} cannot encode {hint_name(type_hint)}", fault)
        return text

    def decode(text: str) -> Any:
        try:
            return converter.decode(text, type_hint)
        except Exception as error:
            raise _foreign(where, f"{name} cannot decode {hint_name(type_hint)}", error) from error

    return Compiled(encode, decode)


def _foreign(where: str, what: str, error: Exception) -> PayloadError:
    if isinstance(error, PayloadError):
        return PayloadError(f"{where}: {error}" if where else str(error))
    return _error(where, what, Fault(f"{type(error).__name__}: {error}"))


def _definer(converter: DataConverter, method: str) -> int:
    """How far up the class hierarchy a method is defined; a missing one is further up than all."""
    order = type(converter).__mro__
    return next((distance for distance, base in enumerate(order) if method in vars(base)), len(order))


def _unwritable(native: Any, error: ValueError) -> Fault:
    """Where JSON cannot hold what a form made, and why: a lone surrogate, or an int with more digits than Python
    writes.
    """
    parts = native.items() if isinstance(native, dict) else enumerate(native) if isinstance(native, list | tuple) else ()
    for step, part in parts:
        try:
            msgspec.json.encode(part)
        except ValueError:
            fault = _unwritable(part, error)
            fault.at(f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]")
            return fault
    return Fault("the text has a lone surrogate, which is no character" if isinstance(error, UnicodeError) else str(error))
