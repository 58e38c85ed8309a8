"""Type hints taken apart."""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from durable_core.forms.form import Fault

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
