"""``ctx.entity(Counter, "key")``: a typed way to call and signal an entity."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from durable_core.definitions.entity import EntityId
from durable_core.definitions.registry import BoundEntity
from durable_core.replay.futures import DurableTask

if TYPE_CHECKING:
    from durable_core.replay.context import OrchestrationContext

E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")


class EntityRef(Generic[E]):
    """An entity as an orchestrator sees it. Operations are named by the class's functions: ``ref.call(Counter.add, 5)``."""

    def __init__(self, ctx: OrchestrationContext, bound: BoundEntity, key: str) -> None:
        self._ctx = ctx
        self._bound = bound
        self.id = EntityId(bound.name, key)

    @overload
    def call(self, operation: Callable[Concatenate[E, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    @overload
    def call(self, operation: Callable[Concatenate[E, P], R], *args: P.args, **kwargs: P.kwargs) -> DurableTask[R]: ...
    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one operation and wait for what it returns or raises (``TaskFailedError``)."""
        callee = self._bound.operation(operation)
        return self._ctx._call_entity(self.id, callee.name, callee.encode(args, kwargs), callee.decode_result)

    def signal(self, operation: Callable[Concatenate[E, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Send one operation and go on: no reply, no error."""
        callee = self._bound.operation(operation)
        self._ctx._signal_entity(self.id, callee.name, callee.encode(args, kwargs))
