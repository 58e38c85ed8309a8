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
import typing
from collections.abc import Awaitable, Callable, Container, Coroutine, Mapping, Sequence
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, get_args, get_origin

from durable_core.converter import Compiled, DataConverter, compiled
from durable_core.errors import ArgumentsError, RegistrationError

CALL_OPTIONS = frozenset({"instance_id", "retry", "return_type", "signal_time", "start_at", "tags", "terminate_with_parent", "timeout"})
"""What ``call_activity`` and its like take for themselves."""

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
        self._signature = _positional_signature(function, skip, self._name)
        self._by_arity: dict[int, Compiled] = {}
        """What fits the signature, as far as it was called for."""

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str | None, int]:
        """Text and arity. Raises ``ArgumentsError`` if the arguments do not fit the signature, ``PayloadError`` if
        one of them does not fit its type.
        """
        if kwargs or len(args) not in self._by_arity:
            args = self._bound(args, kwargs)
        if not args:
            return None, 0
        whole = self._by_arity.get(len(args)) or self._compile(len(args))
        return whole.encode(args[0] if len(args) == 1 else args), len(args)

    def decode(self, text: str | None, arity: int) -> tuple[Any, ...]:
        """The positional arguments, without ``self`` and ``ctx``. Raises as ``encode`` does."""
        if arity not in self._by_arity:
            self._bound((None,) * arity, {})
        if arity == 0:
            return ()
        if text is None:
            raise self._misfit("its input is missing")
        whole = self._by_arity.get(arity) or self._compile(arity)
        return (whole.decode(text),) if arity == 1 else tuple(whole.decode(text))

    @property
    def return_hint(self) -> Any:
        """What the function returns, or what awaiting it gives; ``Any`` without an annotation."""
        hint = self._hints.get("return", Any)
        return get_args(hint)[-1] if get_origin(hint) in (Awaitable, Coroutine) else hint

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Keywords put in their positions, gaps before them filled with defaults."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self._misfit(str(error)) from None
        if bound.kwargs:  # there is a gap before them
            bound.apply_defaults()
        return bound.args

    def _misfit(self, problem: str) -> ArgumentsError:
        signature = str(self._signature).replace("'", "")  # the quotes around hints that are strings
        return ArgumentsError(f"{self._name} takes {signature}: {problem}")

    def _compile(self, arity: int) -> Compiled:
        declared = list(self._signature.parameters)
        names = [declared[min(index, len(declared) - 1)] for index in range(arity)]  # the last may be *args
        hints = tuple(self._hints.get(name, Any) for name in names)
        hint = hints[0] if arity == 1 else tuple.__class_getitem__(hints)
        where = f"argument{'s' * (arity > 1)} ({', '.join(names)}) of {self._name}"
        return self._by_arity.setdefault(arity, compiled(self._converter, hint, where))

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return callable_hints(self._function, {*self._signature.parameters, "return"})
        except Exception as error:
            advice = "They are needed at run time: import what they name outside of TYPE_CHECKING, and define it at module level"
            raise RegistrationError(f"the type hints of {self._name} cannot be resolved: {error}. {advice}") from error


def _positional_signature(function: Callable[..., Any], skip: int, name: str) -> inspect.Signature:
    """Without the first ``skip`` parameters. Raises ``RegistrationError`` for one whose arguments cannot travel by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{name} cannot be registered: {error}") from error
    parameters = list(signature.parameters.values())
    refusal = ""
    if sum(parameter.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD) for parameter in parameters[:skip]) < skip:
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
    annotations = {name: hint for name, hint in function.__annotations__.items() if name in names}
    known, variables = getattr(function, "__globals__", {}), getattr(function, "__type_params__", ())
    asked = SimpleNamespace(__annotations__=annotations, __globals__=known, __type_params__=variables)
    return typing.get_type_hints(asked, localns={**known, **inspect.getclosurevars(function).nonlocals}, include_extras=True)


def encode_untyped(args: Sequence[Any], converter: DataConverter, where: str = "") -> tuple[str | None, int]:
    """Arguments of a call by name, whose signature is unknown here: each by the class of its value."""
    if not args:
        return None, 0
    whole, hint = (args[0], Any) if len(args) == 1 else (list(args), list[Any])
    return compiled(converter, hint, where).encode(whole), len(args)
