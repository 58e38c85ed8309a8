"""How arguments travel to an activity, an orchestrator or an entity operation.

One argument travels as itself, several as an array, none as no text at all; their count, the *arity*, is recorded
beside the text. Reading binds that many arguments to the callee's signature as it is by then, and Python fills in the
rest. So a parameter with a default may be added while calls are under way.

Keywords are bound to positions when the call is made. What cannot be expressed by position (keyword-only parameters,
``**kwargs``) is refused at registration, and so are parameters named like the options of a call, which the call would
take for itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, get_args, get_origin

import msgspec

from durable_core.converter import Compiled, DataConverter, compiled
from durable_core.errors import ArgumentsError, PayloadError, RegistrationError
from durable_core.forms.callables import CALL_OPTIONS, callable_hints, positional_signature

__all__ = ["CALL_OPTIONS", "Parameters", "decode_untyped", "encode_untyped"]

_Kind = inspect.Parameter


class Parameters:
    """The parameters of a function, without the first ``skip`` (``self``, ``ctx``). ``name`` says in messages what
    the function is: ``activity 'charge'``.

    Hints are resolved at first use, so that they may name classes defined further down.
    """

    def __init__(self, function: Callable[..., Any], *, skip: int = 0, name: str = "", converter: DataConverter) -> None:
        self._function = function
        self._name = name or getattr(function, "__qualname__", repr(function))
        self._converter = converter
        self._signature = positional_signature(function, skip, self._name)
        parameters = list(self._signature.parameters.values())
        self._positional = [parameter for parameter in parameters if parameter.kind is not _Kind.VAR_POSITIONAL]
        self._extra = next((parameter for parameter in parameters if parameter.kind is _Kind.VAR_POSITIONAL), None)
        self._fewest = sum(parameter.default is _Kind.empty for parameter in self._positional)
        self._most = sys.maxsize if self._extra else len(self._positional)
        self._by_arity: dict[int, Compiled] = {}

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str | None, int]:
        """Text and arity. Raises ``ArgumentsError`` if the arguments do not fit the signature, ``PayloadError`` if
        one of them does not fit its type.
        """
        if kwargs or not self._fewest <= len(args) <= self._most:
            args = self._bound(args, kwargs)
        if len(args) == 1:
            return self._first.encode(args[0]), 1
        if not args:
            return None, 0
        try:
            return self._several(len(args)).encode(args), len(args)
        except PayloadError:
            for index, value in enumerate(args):
                self._single(index).encode(value)  # raises, and names the argument
            raise

    def decode(self, text: str | None, arity: int) -> tuple[Any, ...]:
        """The positional arguments, without ``self`` and ``ctx``. Raises as ``encode`` does."""
        if not self._fewest <= arity <= self._most:
            raise self._misfit(_called_with(arity))
        if arity == 0:
            return ()
        if text is None:
            raise self._misfit("its input is missing")
        if arity == 1:
            return (self._first.decode(text),)
        try:
            return tuple(self._several(arity).decode(text))
        except PayloadError:
            for index, part in enumerate(_parts(text)):
                self._single(index).decode(part)
            raise

    @property
    def return_hint(self) -> Any:
        """What the function returns, or what awaiting it gives; ``Any`` without an annotation."""
        hint = self._hints.get("return", Any)
        return get_args(hint)[-1] if get_origin(hint) in (Awaitable, Coroutine) else hint

    # ── binding ───────────────────────────────────────────────────────────────────────────────────────────────

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Keywords put in their positions, gaps before them filled with defaults."""
        if len(args) > self._most:
            raise self._misfit(_called_with(len(args)))
        positions = {each.name: index for index, each in enumerate(self._positional) if each.kind is not _Kind.POSITIONAL_ONLY}
        for keyword in kwargs:
            if keyword not in positions:
                raise self._misfit(f"it has no parameter that can be given as {keyword}=")
            if positions[keyword] < len(args):
                raise self._misfit(f"{keyword!r} was given twice")
        last = max((positions[keyword] + 1 for keyword in kwargs), default=0)
        filled = list(args)
        for parameter in self._positional[len(args) : max(last, self._fewest)]:
            value = kwargs.get(parameter.name, parameter.default)
            if value is _Kind.empty:
                raise self._misfit(f"the argument {parameter.name!r} is missing")
            filled.append(value)
        return tuple(filled)

    def _misfit(self, problem: str) -> ArgumentsError:
        signature = str(self._signature).replace("'", "")  # the quotes around hints that are strings
        return ArgumentsError(f"{self._name} takes {signature}: {problem}")

    # ── hints ─────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _first(self) -> Compiled:
        return self._single(0)

    def _single(self, index: int) -> Compiled:
        parameter = self._parameter(index)
        return compiled(self._converter, self._hint(index), f"argument {index + 1} ({parameter.name}) of {self._name}")

    def _several(self, arity: int) -> Compiled:
        found = self._by_arity.get(arity)
        if found is None:
            hint: Any = tuple.__class_getitem__(tuple(self._hint(index) for index in range(arity)))
            found = self._by_arity[arity] = compiled(self._converter, hint, f"the arguments of {self._name}")
        return found

    def _hint(self, index: int) -> Any:
        return self._hints.get(self._parameter(index).name, Any)

    def _parameter(self, index: int) -> inspect.Parameter:
        if index >= len(self._positional) and self._extra is not None:
            return self._extra
        return self._positional[index]

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return callable_hints(self._function, {*self._signature.parameters, "return"})
        except Exception as error:
            raise RegistrationError(
                f"the type hints of {self._name} cannot be resolved: {error}. They are needed at run time: "
                f"import what they name outside of TYPE_CHECKING, and define it at module level"
            ) from error


def _called_with(count: int) -> str:
    return f"it was called with {count} argument{'s' * (count != 1)}"


def _parts(text: str) -> list[str]:
    """The elements of a JSON array, as texts; none if it is no array (a converter that encrypts)."""
    try:
        return [bytes(part).decode() for part in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, TypeError):
        return []


def encode_untyped(args: Sequence[Any], converter: DataConverter, where: str = "") -> tuple[str | None, int]:
    """Arguments of a call by name, whose signature is unknown here: each by the class of its value."""
    if not args:
        return None, 0
    if len(args) == 1:
        return compiled(converter, Any, where).encode(args[0]), 1
    try:
        return compiled(converter, list[Any], where).encode(list(args)), len(args)
    except PayloadError:
        for number, value in enumerate(args, 1):
            compiled(converter, Any, f"argument {number} of {where}").encode(value)  # raises, and names the argument
        raise


def decode_untyped(text: str | None, arity: int, converter: DataConverter, where: str = "") -> tuple[Any, ...]:
    """Plain JSON values: arguments of a call whose signature is unknown here."""
    if arity == 0 or text is None:
        return ()
    if arity == 1:
        return (compiled(converter, Any, where).decode(text),)
    return tuple(compiled(converter, list[Any], where).decode(text))
