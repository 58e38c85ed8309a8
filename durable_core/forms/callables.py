"""Functions taken apart: which arguments they take, and of which types."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Container
from functools import partial
from types import SimpleNamespace
from typing import Any

from durable_core.errors import RegistrationError

__all__ = ["CALL_OPTIONS", "callable_hints", "positional_signature"]

CALL_OPTIONS = frozenset({"instance_id", "retry", "return_type", "start_at", "tags", "timeout"})
"""What ``call_activity`` and its like take for themselves."""

_Kind = inspect.Parameter


def positional_signature(function: Callable[..., Any], skip: int, name: str) -> inspect.Signature:
    """Without the first ``skip`` parameters. Raises ``RegistrationError`` for one whose arguments cannot travel by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{name} cannot be registered: {error}") from error
    parameters = list(signature.parameters.values())
    own = [parameter for parameter in parameters[:skip] if parameter.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)]
    refusal = ""
    if len(own) < skip:
        refusal = f"it must begin with {skip} positional parameter{'s' * (skip != 1)} for the engine (self, ctx)"
    for parameter in parameters[skip:]:
        if parameter.kind in (_Kind.KEYWORD_ONLY, _Kind.VAR_KEYWORD):
            refusal = f"arguments travel by position, but {str(parameter)!r} is given by keyword only"
        elif parameter.name in CALL_OPTIONS:
            refusal = f"its parameter {parameter.name!r} has the name of an option of calls; rename it"
    if refusal:
        raise RegistrationError(f"{name} cannot be registered: {refusal}")
    return signature.replace(parameters=parameters[skip:])


def callable_hints(function: Any, names: Container[str]) -> dict[str, Any]:
    """Only ``names``: the hint of ``ctx`` may well be imported under TYPE_CHECKING alone. Classes local to another
    function are found if the body uses them.
    """
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function if inspect.isroutine(function) else type(function).__call__)
    function = getattr(function, "__func__", function)
    asked = SimpleNamespace(
        __annotations__={name: hint for name, hint in function.__annotations__.items() if name in names},
        __globals__=getattr(function, "__globals__", {}),
        __type_params__=getattr(function, "__type_params__", ()),
    )
    local: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # nothing was assigned to it yet
            local[name] = cell.cell_contents
    return typing.get_type_hints(asked, localns={**asked.__globals__, **local}, include_extras=True)
