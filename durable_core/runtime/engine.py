"""``DurableEngine``: what a program embeds. It collects definitions; while it is open it has a client and, unless told otherwise, a
worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from durable_core.backend import Backend
from durable_core.converter import DataConverter, JsonConverter
from durable_core.definitions.activity import ActivityDecorator, make_activity
from durable_core.definitions.entity import make_entity
from durable_core.definitions.orchestrator import Orchestrator, make_orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import EngineStateError
from durable_core.replay.context import OrchestrationContext
from durable_core.runtime.client import DurableClient
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.session import Session
from durable_core.runtime.signals import cancelled_by_sigterm
from durable_core.runtime.stores import backend_for
from durable_core.runtime.worker import Worker

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741
E = TypeVar("E")


class _Open:
    """What exists while the engine is open."""

    def __init__(self, session: Session, worker: Worker | None, check_open: Callable[[], object]) -> None:
        self.session = session
        self.worker = worker
        self.client = DurableClient(session, worker, check_open)
        self.process = os.getpid()
        self._listener = asyncio.create_task(self._listen(), name="durable-core wake-ups")

    async def _listen(self) -> None:
        async for _ in self.session.backend.wakeups():
            self.session.wake()
            self.session.waiters.recheck()

    async def close(self) -> None:
        """Shielded from a second cancellation: leases are given back whatever happens, in bounded time."""
        closing = asyncio.create_task(self._close())
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                if closing.done():
                    raise
                if self.worker is not None:
                    self.worker.turns.activities.stop()

    async def _close(self) -> None:
        if self.worker is not None:
            await self.worker.stop()
        await self.session.committer.flush()
        self.session.waiters.close()
        self._listener.cancel()
        await asyncio.wait([self._listener])
        await self.session.committer.close()


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

    activity: ActivityDecorator
    """``@engine.activity`` or ``@engine.activity(name=…, retry=…, timeout=…, executor="thread" | "process")``."""

    def __init__(self, url: str | None = None, *, converter: DataConverter | None = None, options: WorkerOptions | None = None) -> None:
        self._url = url
        self._options = options or WorkerOptions()
        self._registry = Registry(converter or JsonConverter())
        self._in_use = False
        self._open: _Open | None = None
        self._contexts: list[AbstractAsyncContextManager[DurableEngine]] = []
        self.activity = self._activity

    # ── definitions ───────────────────────────────────────────────────────────────────────────────────────────

    def _activity(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        if fn is None:
            return lambda fn: self._registry.add(make_activity(fn, **options))
        return self._registry.add(make_activity(fn, **options))

    @overload
    def orchestrator(self, fn: Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, O]], /) -> Orchestrator[P, O]: ...
    @overload
    def orchestrator(
        self, *, name: str | None = ...
    ) -> Callable[[Callable[Concatenate[OrchestrationContext, P], Coroutine[Any, Any, O]]], Orchestrator[P, O]]: ...
    def orchestrator(self, fn: Any = None, *, name: str | None = None) -> Any:
        """Define an orchestrator: ``@engine.orchestrator`` over ``async def f(ctx, …)``. Raises ``RegistrationError``."""
        if fn is None:
            return lambda fn: self._registry.add(make_orchestrator(fn, name=name))
        return self._registry.add(make_orchestrator(fn, name=name))

    @overload
    def entity(self, cls: type[E], /) -> type[E]: ...
    @overload
    def entity(self, *, name: str | None = ...) -> Callable[[type[E]], type[E]]: ...
    def entity(self, cls: Any = None, *, name: str | None = None) -> Any:
        """Define an entity: ``@engine.entity`` over a class whose public methods are operations and whose typed attributes are the state.
        Raises ``RegistrationError``."""

        def define(cls: Any) -> Any:
            self._registry.add(make_entity(cls, name=name))
            return cls

        return define if cls is None else define(cls)

    def register(self, *definitions: Any) -> None:
        """Add what a library defined with the free-standing ``@activity``, ``@orchestrator`` and ``@entity``; a module adds all that it
        defines."""
        for definition in definitions:
            self._registry.add(definition)

    # ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def client(self) -> DurableClient:
        """Only while the engine is open. Raises ``EngineStateError``."""
        return self._opened().client

    @property
    def backend(self) -> Backend:
        """The open store. Raises ``EngineStateError``."""
        return self._opened().session.backend

    def _opened(self) -> _Open:
        if self._open is None:
            raise EngineStateError("the engine is not open; write: async with engine: ...")
        if self._open.process != os.getpid():
            raise EngineStateError(
                "the engine was open when this process was forked; its threads and files belong to the parent. Open an engine in the child, or start children by spawn"
            )
        return self._open

    @asynccontextmanager
    async def open(self, url: str | None = None, *, worker: bool = True, backend: Backend | None = None) -> AsyncIterator[DurableEngine]:
        """``async with engine.open(url=…, worker=False)``: choose the store, and whether this process works (a web front end only submits
        and asks).

        ``backend`` is an instance of your own instead of a URL. Raises ``StoreError``, ``StoreUrlError``, ``EngineStateError``.
        """
        if self._in_use:
            raise EngineStateError("the engine is open already; use its client, or close it first")
        if backend is None:
            backend = backend_for(url or self._url)
        self._in_use = True
        try:
            await backend.open(create=True)
            self._registry.max_payload_bytes = backend.capabilities.max_payload_bytes
            session = Session(backend, self._registry, self._options)
            working = Worker(session) if worker else None
            self._open = opened = _Open(session, working, self._opened)
            try:
                if working is not None:
                    await working.start()
                with cancelled_by_sigterm() if worker else nullcontext():
                    yield self
            finally:
                await opened.close()
        finally:
            self._open, self._in_use = None, False
            await asyncio.shield(backend.close())

    async def __aenter__(self) -> DurableEngine:
        context = self.open()
        await context.__aenter__()
        self._contexts.append(context)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._contexts.pop().__aexit__(*exc)
