"""Activities: the functions that do the work, at least once each."""

from __future__ import annotations

import inspect
import logging
from asyncio import events
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, Concatenate, Generic, Literal, Protocol, Self, overload
from uuid import uuid4

from msgspec import Struct

from durable_core.definitions.definition import Definition, P, R, checked_name, refuse_options, takes_context
from durable_core.errors import ForbiddenInOrchestratorError, RegistrationError
from durable_core.ids import check_tags
from durable_core.moments import Duration, duration_above_zero
from durable_core.retry import RetryPolicy, checked_retry

Executor = Literal["thread", "process"]


class ActivityContext(Struct):
    """Optional first parameter of an activity (annotate it with this class).

    ``idempotency_key`` belongs to the call: it is the same for all attempts of its ``RetryPolicy`` and all their deliveries, also after a
    crash, and no other call has it. Hand it to services that deduplicate. A loop of your own that calls again makes a new call with a new
    key, and so do a retried sub-orchestration and a new generation: where those must count as one, pass a key of yours as an argument.

    ``attempt`` is the number of this attempt of the call (1, 2, 3 … with a ``RetryPolicy``), ``attempt_key`` its own key. ``delivery``
    counts how often this attempt was given to a worker, from 1: more than once if a worker died or its result was lost.

    ``cancelled`` turns True when nobody waits for the result any more (an async activity is cancelled; a sync one should look).
    """

    instance_id: str
    name: str
    idempotency_key: str
    attempt_key: str
    attempt: int
    delivery: int
    logger: logging.LoggerAdapter[logging.Logger]
    cancelled: bool = False


class Activity(Definition, Generic[P, R]):
    """A registered activity. Call it through ``ctx.call_activity``; outside an orchestrator calling it is calling the plain function.

    Then one that takes an ``ActivityContext`` gets a stand-in, unless it is given one: the signature that type checkers see has none.
    """

    kind = "activity"
    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    tags: dict[str, str] | None = None
    executor: Executor = "thread"

    @cached_property
    def takes_context(self) -> bool:
        return takes_context(self.fn, ActivityContext)

    @property
    def skip(self) -> int:  # type: ignore[override]
        return int(self.takes_context)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        if getattr(events._get_running_loop(), "is_orchestrator_loop", False):
            what = f"activity {self.name!r} was called directly inside an orchestrator; it would run again on every replay"
            raise ForbiddenInOrchestratorError(f"{what}. Write: await ctx.call_activity({self.name}, ...)")
        if self.takes_context and not any(isinstance(value, ActivityContext) for value in (*args, *kwargs.values())):
            return self.fn(self._stand_in(), *args, **kwargs)
        return self.fn(*args, **kwargs)

    def _stand_in(self) -> ActivityContext:
        """Of a direct call, which is a call of its own: no other has its key."""
        logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.activity.{self.name}"))
        key = f"called directly {uuid4().hex}"
        return ActivityContext("called directly", self.name, key, key, 1, 1, logger)

    def with_options(
        self, *, retry: RetryPolicy | None = None, timeout: Duration | None = None, tags: dict[str, str] | None = None
    ) -> Self:
        """The same activity with other defaults, for calls whose arguments are to be checked exactly."""
        policy, limit, labels = checked_options(retry, timeout, tags)
        return self._with(retry=policy, timeout=limit, tags=labels)


class AsyncActivity(Activity[P, R]):
    """An ``async def`` activity: runs on the engine's event loop."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]


class SyncActivity(Activity[P, R]):
    """A plain ``def`` activity: runs in a thread, or with ``executor="process"`` in a process of the engine's pool."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]


def checked_options(retry: object, timeout: object, tags: object) -> tuple[RetryPolicy | None, timedelta | None, dict[str, str] | None]:
    """Of a decorator or a call, where None means: as it is. Raises ``TypeError``, ``ValueError``."""
    limit = duration_above_zero(timeout, "timeout") if timeout is not None else None
    return checked_retry(retry), limit, check_tags(tags)


def make_activity(
    fn: Any,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: Duration | None = None,
    tags: dict[str, str] | None = None,
    executor: Executor = "thread",
) -> Activity[..., Any]:
    """Raises ``RegistrationError`` for what cannot be an activity."""
    if inspect.isclass(fn) or not callable(fn):
        raise RegistrationError(f"an activity must be a function or a bound method, got {fn!r}")
    name = checked_name(fn, name, "activity", "write a def")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise RegistrationError(f"activity {name!r} is a generator; write a plain def or async def that returns its result")
    is_async = inspect.iscoroutinefunction(fn)
    if executor not in ("thread", "process"):
        raise RegistrationError(f"activity {name!r}: executor must be 'thread' or 'process', got {executor!r}")
    if executor == "process" and (is_async or inspect.ismethod(fn) or "<locals>" in fn.__qualname__ or takes_context(fn, ActivityContext)):
        need = "a plain def at module level without ActivityContext, so that another process can import it"
        raise RegistrationError(f"activity {name!r}: executor='process' needs {need}")
    kind = AsyncActivity if is_async else SyncActivity
    try:
        return kind(fn, name).with_options(retry=retry, timeout=timeout, tags=tags)._with(executor=executor)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"activity {name!r}: {error}") from None


class _AnyFirst:
    """Matches a first parameter of type Any or without annotation only: see the overloads below."""


class ActivityDecorator(Protocol):
    """``@activity`` and ``@activity(...)``. The first two overloads catch an untyped first parameter, which would otherwise match
    ``ActivityContext`` and lose an argument."""

    @overload
    def __call__(self, fn: Callable[Concatenate[_AnyFirst, P], Coroutine[Any, Any, R]], /) -> AsyncActivity[Concatenate[object, P], R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, fn: Callable[Concatenate[_AnyFirst, P], R], /) -> SyncActivity[Concatenate[object, P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[ActivityContext, P], Coroutine[Any, Any, R]], /) -> AsyncActivity[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, fn: Callable[Concatenate[ActivityContext, P], R], /) -> SyncActivity[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncActivity[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncActivity[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = ...,
        retry: RetryPolicy | None = ...,
        timeout: Duration | None = ...,
        tags: dict[str, str] | None = ...,
        executor: Executor = ...,
    ) -> ActivityDecorator: ...


_OPTIONS = ("name", "retry", "timeout", "tags", "executor")


def _activity(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Define an activity in a library; an engine learns of it by ``engine.register``. On the engine itself use ``@engine.activity``."""
    refuse_options("activity", fn, sorted(options.keys() - set(_OPTIONS)), *_OPTIONS)
    return partial(make_activity, **options) if fn is None else make_activity(fn, **options)


activity: ActivityDecorator = _activity
"""Define an activity in a library; an engine learns of it by ``engine.register``. On the engine itself use ``@engine.activity``."""
