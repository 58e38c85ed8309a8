"""Orchestrators: the ``async def`` functions whose progress is a history."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Self, overload

from durable_core.definitions.definition import Definition, P, R, checked_name, refuse_options
from durable_core.definitions.wall_clock import warn_of_wall_clock
from durable_core.errors import RegistrationError
from durable_core.ids import check_instance_id

if TYPE_CHECKING:
    from durable_core.replay.context import OrchestrationContext


class Orchestrator(Definition, Generic[P, R]):
    """A registered orchestrator. Start it through a client or ``ctx.call_sub_orchestrator``; calling it gives the plain coroutine."""

    kind = "orchestrator"
    skip = 1
    instance_id: str | None = None

    def __call__(self, ctx: OrchestrationContext, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self.fn(ctx, *args, **kwargs)  # type: ignore[no-any-return]

    def with_options(self, *, instance_id: str | None = None) -> Self:
        """The same orchestrator with another default, for calls whose arguments are to be checked exactly."""
        return self._with(instance_id=check_instance_id(instance_id) if instance_id is not None else None)


def make_orchestrator(fn: Callable[..., Any], *, name: str | None = None) -> Orchestrator[..., Any]:
    """Raises ``RegistrationError`` for what cannot be an orchestrator, saying how to write it."""
    name = checked_name(fn, name, "orchestrator", "write an async def")
    how = f"write it as: async def {name}(ctx: OrchestrationContext, ...) and await what ctx.call_activity(...) returns"
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise RegistrationError(f"orchestrator {name!r} is a generator; {how} (await takes the place of yield)")
    if not inspect.iscoroutinefunction(fn):
        raise RegistrationError(f"orchestrator {name!r} is not an async function; {how}")
    first = next(iter(inspect.signature(fn).parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise RegistrationError(f"orchestrator {name!r} takes no context; {how}")
    warn_of_wall_clock(fn, name)
    return Orchestrator(fn, name)


@overload
def orchestrator(fn: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, R]], /) -> Orchestrator[P, R]: ...
@overload
def orchestrator(
    *, name: str | None = ...
) -> Callable[[Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, R]]], Orchestrator[P, R]]: ...
def orchestrator(fn: Any = None, /, *, name: str | None = None, **unknown: Any) -> Any:
    """Define an orchestrator in a library; an engine learns of it by ``engine.register``. On the engine itself use
    ``@engine.orchestrator``."""
    refuse_options("orchestrator", fn, unknown, "name")
    return partial(make_orchestrator, name=name) if fn is None else make_orchestrator(fn, name=name)
