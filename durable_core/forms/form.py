"""One type hint: taken apart, and compiled (``Form``); and what was wrong with a value, and where (``Fault``)."""

from __future__ import annotations

import re
import reprlib
import typing
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

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


def incomparable(value: Any) -> bool:
    """Of a class that does not say what is equal: nothing that was made again ever is."""
    kind: Any = type(value)
    return bool(kind.__eq__ is object.__eq__)


class Form(msgspec.Struct, frozen=True):
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


# ── type hints taken apart ──────────────────────────────────────────────────────────────────────────────────────────────

_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})


def hint_name(hint: Any) -> str:
    """As a reader would write it: without modules."""
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__.rpartition("<locals>.")[2]
    return re.sub(r"(?:\w+\.|<locals>\.)+(?=\w)", "", repr(hint)).replace("NoneType", "None")


def unwrapped(hint: Any) -> tuple[Any, set[str]]:
    """Without ``Annotated``, ``NewType``, type aliases and qualifiers: what the value is. And which qualifiers there were."""
    qualifiers: set[str] = set()
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint = hint.__origin__
        elif (name := getattr(origin, "_name", None)) in _QUALIFIERS:
            qualifiers.add(name)
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif type(origin).__name__ == "TypeAliasType":
            hint = _substitute(origin.__value__, dict(zip(origin.__type_params__, get_args(hint), strict=False)))
        elif isinstance(hint, TypeVar):
            hint = hint.__bound__ or (Union[hint.__constraints__] if hint.__constraints__ else Any)  # noqa: UP007
        else:
            return hint, qualifiers


def field_hints(hint: Any) -> dict[str, Any]:
    """The resolved annotations of a class or of a generic class with arguments, inherited ones included."""
    cls = get_origin(hint) or hint
    try:
        hints = _annotations(cls)
    except Exception as error:
        why = "is it imported only under TYPE_CHECKING, or defined inside a function?"
        raise Fault(f"the type hints of {hint_name(cls)} cannot be resolved: {error} ({why})") from error
    arguments = _type_arguments(hint)
    return {name: _substitute(field, arguments) for name, field in hints.items()}


def _annotations(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:  # what its module does not know: the class itself, if local to a function; its type variables, before Python 3.12.4
        known = {variable.__name__: variable for base in cls.__mro__ for variable in getattr(base, "__type_params__", ())}
        return typing.get_type_hints(cls, localns=known | {cls.__name__: cls}, include_extras=True)


def _type_arguments(hint: Any) -> dict[Any, Any]:
    """What the type variables of a generic class and of its bases stand for: ``Box[int]`` is {T: int}."""
    cls = get_origin(hint) or hint
    found = dict(zip(getattr(cls, "__parameters__", ()), get_args(hint), strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) is not typing.Generic:
            found = {variable: _substitute(value, found) for variable, value in _type_arguments(base).items()} | found
    return found


def _substitute(hint: Any, arguments: dict[Any, Any]) -> Any:
    """``hint`` with its type variables replaced; one that stands for nothing keeps its bound."""
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    if not arguments or isinstance(hint, type) or not getattr(hint, "__parameters__", ()):
        return hint
    return hint[tuple(arguments.get(variable, variable) for variable in hint.__parameters__)]
