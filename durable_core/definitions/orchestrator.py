"""Orchestrators: the ``async def`` functions whose progress is a history."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from durable_core.definitions.wall_clock import warn_of_wall_clock
from durable_core.errors import RegistrationError

if TYPE_CHECKING:
    from durable_core.replay.context import OrchestrationContext

__all__ = ["Orchestrator", "make_orchestrator", "orchestrator"]

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741


class Orchestrator(Generic[P, O]):
    """A registered orchestrator. Start it through a client or ``ctx.call_sub_orchestrator``; calling it gives the plain coroutine."""

    def __init__(self, fn: Callable[..., Coroutine[Any, Any, Any]], *, name: str, instance_id: str | None = None) -> None:
        self.fn = fn
        self.name = name
        self.instance_id = instance_id
        self.base: Orchestrator[..., Any] = self
        self.__doc__ = fn.__doc__
        self.__name__ = name
        self.__qualname__ = getattr(fn, "__qualname__", name)
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    def __call__(self, ctx: OrchestrationContext, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, O]:
        return self.fn(ctx, *args, **kwargs)

    def with_options(self, *, instance_id: str | None = None) -> Orchestrator[P, O]:
        """The same orchestrator with another default, for calls whose arguments are to be checked exactly."""
        copy: Orchestrator[P, O] = Orchestrator(self.fn, name=self.name, instance_id=instance_id or self.instance_id)
        copy.base = self.base
        return copy

    def __repr__(self) -> str:
        return f"<orchestrator {self.name!r}>"


_HOW = "write it as: async def {name}(ctx: OrchestrationContext, ...) and await what ctx.call_activity(...) returns"


def make_orchestrator(fn: Callable[..., Any], *, name: str | None = None) -> Orchestrator[..., Any]:
    """Raises ``RegistrationError`` for what cannot be an orchestrator, saying how to write it."""
    if isinstance(fn, Orchestrator):
        raise RegistrationError(f"{fn!r} is an orchestrator already")
    name = name or getattr(fn, "__name__", "")
    if not name or name == "<lambda>":
        raise RegistrationError("an orchestrator needs a name that stays the same after a restart: write an async def, or pass name=...")
    how = _HOW.format(name=name)
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise RegistrationError(f"orchestrator {name!r} is a generator; {how} (await takes the place of yield)")
    if not inspect.iscoroutinefunction(fn):
        raise RegistrationError(f"orchestrator {name!r} is not an async function; {how}")
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or parameters[0].kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        raise RegistrationError(f"orchestrator {name!r} takes no context; {how}")
    warn_of_wall_clock(fn, name)
    return Orchestrator(fn, name=name)


@overload
def orchestrator(fn: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, O]], /) -> Orchestrator[P, O]: ...
@overload
def orchestrator(
    *, name: str | None = ...
) -> Callable[[Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, O]]], Orchestrator[P, O]]: ...
def orchestrator(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Define an orchestrator in a library; an engine learns of it by ``engine.register``. On the engine itself use
    ``@engine.orchestrator``."""
    if fn is None:
        return lambda fn: make_orchestrator(fn, name=name)
    return make_orchestrator(fn, name=name)
