"""Type hints taken apart."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from durable_core.forms.form import Fault

__all__ = ["field_hints", "hint_name", "is_required", "plain", "substitute", "type_arguments"]

_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_WHY_UNRESOLVED = "is it imported only under TYPE_CHECKING, or defined inside a function?"


def hint_name(hint: Any) -> str:
    """As a reader would write it: without modules."""
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__.rpartition("<locals>.")[2]
    if get_origin(hint) is Literal:
        return repr(hint).removeprefix("typing.")
    return re.sub(r"(?:\w+\.|<locals>\.)+(?=\w)", "", repr(hint)).replace("NoneType", "None")


def plain(hint: Any) -> Any:
    """Without ``Annotated``, ``NewType``, type aliases and qualifiers: what the value is."""
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint = hint.__origin__
        elif _name(origin) in _QUALIFIERS:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif type(origin).__name__ == "TypeAliasType":
            hint = substitute(origin.__value__, dict(zip(origin.__type_params__, get_args(hint), strict=False)))
        elif isinstance(hint, TypeVar):
            hint = hint.__bound__ or (Union[hint.__constraints__] if hint.__constraints__ else Any)  # noqa: UP007
        else:
            return hint


def is_required(hint: Any, otherwise: bool) -> bool:
    """What ``Required`` or ``NotRequired`` around a TypedDict's hint say."""
    while (origin := get_origin(hint)) is not None:
        if _name(origin) in ("Required", "NotRequired"):
            return _name(origin) == "Required"
        if origin is not Annotated and _name(origin) not in _QUALIFIERS:
            break
        hint = hint.__origin__ if origin is Annotated else get_args(hint)[0]
    return otherwise


def _name(origin: Any) -> str | None:
    return getattr(origin, "_name", None)


def field_hints(hint: Any) -> dict[str, Any]:
    """The resolved annotations of a class or of a generic class with arguments, inherited ones included."""
    origin = get_origin(hint) or hint
    try:
        hints = _annotations(origin)
    except Exception as error:
        raise Fault(f"the type hints of {hint_name(origin)} cannot be resolved: {error} ({_WHY_UNRESOLVED})") from error
    arguments = type_arguments(hint)
    return {name: substitute(field, arguments) for name, field in hints.items()}


def _annotations(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:  # what its module does not know: the class itself, if local to a function; its type variables, before Python 3.12.4
        known = {variable.__name__: variable for base in cls.__mro__ for variable in getattr(base, "__type_params__", ())}
        return typing.get_type_hints(cls, localns=known | {cls.__name__: cls}, include_extras=True)


def type_arguments(hint: Any) -> dict[Any, Any]:
    """What the type variables of a generic class and of its bases stand for: ``Box[int]`` is {T: int}."""
    origin = get_origin(hint) or hint
    found = dict(zip(getattr(origin, "__parameters__", ()), get_args(hint), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        if get_origin(base) is not typing.Generic:
            found = {variable: substitute(value, found) for variable, value in type_arguments(base).items()} | found
    return found


def substitute(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """``hint`` with its type variables replaced; one that stands for nothing keeps its bound."""
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    if not arguments or isinstance(hint, type) or not getattr(hint, "__parameters__", ()):
        return hint
    alias: Any = hint
    return alias[tuple(arguments.get(variable, variable) for variable in alias.__parameters__)]
