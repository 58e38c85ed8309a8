"""``DurableEngine``: what a program embeds. It collects definitions; while it is open it has a client and, unless told otherwise, a
worker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from durable_core.backend import Backend
from durable_core.converter import DataConverter, JsonConverter
from durable_core.definitions.activity import activity
from durable_core.definitions.entity import entity
from durable_core.definitions.orchestrator import orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import EngineStateError
from durable_core.runtime.client.client import DurableClient
from durable_core.runtime.client.places import refuse_inside_orchestrator
from durable_core.runtime.clock import Clock
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.session import Session
from durable_core.runtime.signals import cancelled_by_sigterm
from durable_core.runtime.stores import backend_for
from durable_core.runtime.worker.worker import Worker

if TYPE_CHECKING:
    from durable_core.testing.environment import DurableTest

D = TypeVar("D")

_logger = logging.getLogger("durable_core.engine")

_CLOSED_WITHIN_S = 30.0
_STORED_PER_VALUE = 4
"""What a user's value may take in the store: it lies there within an event (escaped, so up to twice as large), and several events within a
turn."""


def _check_arguments(url: object, converter: object, options: object) -> None:
    """Of an engine. Raises ``TypeError``."""
    if url is not None and not isinstance(url, str):
        raise TypeError(f"a store is named by a URL such as 'sqlite:///orders.db', got {url!r}")
    if options is not None and not isinstance(options, WorkerOptions):
        raise TypeError(f"options must be WorkerOptions(...), got {options!r}")
    if converter is not None and not (hasattr(converter, "encode") and hasattr(converter, "decode")):
        raise TypeError(f"a converter has encode(value, type_hint) and decode(text, type_hint), got {converter!r}")


class DurableEngine:
    """Definitions, and the way to run them.

    ``url`` is the store (``sqlite:///orders.db``, ``memory://``, …); it may be given when opening instead. ``converter`` turns payloads
    into text and back. ``options`` bound what a worker takes on. Creating an engine opens no file and binds no event loop; ``async with
    engine`` does, and may be repeated::

        engine = DurableEngine("sqlite:///orders.db")

        async def main() -> None:
            async with engine:
                handle = await engine.client.schedule_new_orchestration(my_orchestrator, 10)
                print(await handle.result())
    """

    def __init__(self, url: str | None = None, *, converter: DataConverter | None = None, options: WorkerOptions | None = None) -> None:
        _check_arguments(url, converter, options)
        self._url = url
        self._options = options or WorkerOptions()
        self._registry = Registry(converter or JsonConverter())
        self._in_use = False
        self._session: Session | None = None
        self._client = DurableClient(self._opened)
        self._contexts: list[AbstractAsyncContextManager[DurableEngine]] = []
        self.activity = self._registering(activity)
        """``@engine.activity`` or ``@engine.activity(name=…, retry=…, timeout=…, executor="thread" | "process")``."""
        self.orchestrator = self._registering(orchestrator)
        """Define an orchestrator: ``@engine.orchestrator`` over ``async def f(ctx, …)``. Raises ``RegistrationError``."""
        self.entity = self._registering(entity)
        """Define an entity: ``@engine.entity`` over a class whose public methods are operations and whose typed attributes are the state.
        Raises ``RegistrationError``."""

    # ── definitions ───────────────────────────────────────────────────────────────────────────────────────────

    def _registering(self, decorator: D) -> D:
        """A free-standing decorator that also registers, here, what it makes."""
        define: Any = decorator

        def decorate(target: Any = None, /, **options: Any) -> Any:
            if target is not None:
                return self._registry.add(define(target, **options))
            define(**options)  # refuses options that there are not, before there is anything to decorate
            return lambda target: decorate(target, **options)

        return cast(D, decorate)

    def register(self, *definitions: Any) -> None:
        """Add what a library defined with the free-standing ``@activity``, ``@orchestrator`` and ``@entity``; a module adds all that it
        defines."""
        for definition in definitions:
            self._registry.add(definition)

    # ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def client(self) -> DurableClient:
        """Only while the engine is open. Raises ``EngineStateError``."""
        self._opened()
        return self._client

    @property
    def backend(self) -> Backend:
        """The open store. Raises ``EngineStateError``, ``ForbiddenInOrchestratorError``."""
        refuse_inside_orchestrator("engine.backend")
        return self._opened().backend

    def _opened(self) -> Session:
        if self._session is None:
            raise EngineStateError("the engine is not open; write: async with engine: ...")
        if self._session.process != os.getpid():
            raise EngineStateError(
                "the engine was open when this process was forked; its threads and files belong to the parent. Open an engine in the child, or start children by spawn"
            )
        self._session.supervisor.check()
        return self._session

    @asynccontextmanager
    async def open(self, url: str | None = None, *, worker: bool = True, backend: Backend | None = None) -> AsyncIterator[DurableEngine]:
        """``async with engine.open(url=…, worker=False)``: choose the store, and whether this process works (a web front end only submits
        and asks).

        ``backend`` is an instance of your own instead of a URL. Raises ``StoreError``, ``StoreUrlError``, ``EngineStateError``. Should a part of
        the engine die of an unexpected error, the body is cancelled, and ``EngineFailedError`` raised at its end.
        """
        async with self._open(backend or backend_for(url or self._url), self._registry, self._options, Clock(), worker=worker):
            yield self

    @asynccontextmanager
    async def _open(
        self, backend: Backend, registry: Registry, options: WorkerOptions, clock: Clock, *, worker: bool = True
    ) -> AsyncIterator[Session]:
        refuse_inside_orchestrator("engine.open()")
        if self._in_use:
            raise EngineStateError("the engine is open already; use its client, or close it first")
        self._in_use = True
        try:
            await backend.open(create=True)
            registry.max_payload_bytes = backend.capabilities.max_payload_bytes // _STORED_PER_VALUE
            self._session = session = Session(backend, registry, options, clock)
            try:
                if worker:
                    await Worker(session).start()
                with session.supervisor.cancels_opener(), cancelled_by_sigterm() if worker else nullcontext():
                    yield session
            finally:
                await session.close()
        finally:
            closed, self._session, self._in_use = self._session, None, False
            if closed is not None:
                closed.waiters.look_again()  # whoever still waits finds the engine closed
            await _close(backend, clock)

    def testing(self, *, activities: Mapping[Any, Any] | None = None, now: datetime | None = None) -> DurableTest:
        """``async with engine.testing(activities={charge: fake, "send_mail": fake}) as env``: the engine on a store in memory, with time
        that jumps ahead whenever nothing is under way. See ``durable_core.testing.DurableTest``.

        Raises ``NotRegisteredError`` and ``RegistrationError`` for a fake that replaces nothing or does not fit what it replaces.
        """
        from durable_core.testing.environment import DurableTest  # not at import: programs do without

        return DurableTest(self, activities or {}, now)

    async def __aenter__(self) -> DurableEngine:
        context = self.open()
        await context.__aenter__()
        self._contexts.append(context)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._contexts.pop().__aexit__(*exc)


async def _close(backend: Backend, clock: Clock) -> None:
    """Shielded from a cancellation, and in bounded time."""
    closing = asyncio.ensure_future(backend.close())
    try:
        async with clock.limit(_CLOSED_WITHIN_S):
            await asyncio.shield(closing)
    except TimeoutError:
        if closing.done():
            raise
        _logger.error("the store has not closed within %.0f s, and is left as it is", _CLOSED_WITHIN_S)
