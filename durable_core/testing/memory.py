"""The store in memory: a ``hub.State`` and nothing else.

``memory://`` is private to its handle; ``memory://name`` is one store for all handles of this process and lasts as long as it. Nothing
survives the process. The leases of a handle that was dropped without ``AbandonWorker`` are freed when its heartbeat runs out.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from attrs import define, field
from msgspec.structs import replace

from durable_core.backend import (
    ENDED,
    Capabilities,
    Claim,
    Command,
    Heartbeat,
    HistoryPage,
    HistoryRange,
    InstanceFilter,
    InstanceRecord,
    Outcome,
    Page,
    Selectors,
    Wakeup,
)
from durable_core.errors import EngineStateError, StoreFormatError, StoreUrlError
from durable_core.hub import Beat, Grant, HubClock, State, decide, eligible_tasks, eligible_turns, next_due, query, read_history, record_of
from durable_core.hub import effects as fx

__all__ = ["MemoryBackend", "forget_store", "open_backend"]

_logger = logging.getLogger("durable_core.memory")
_SCHEME = "memory://"


def _system_clock_us() -> int:
    return time.time_ns() // 1_000


def _system_monotonic_us() -> int:
    return time.monotonic_ns() // 1_000


def _standstill_us() -> int:
    """Beside a clock of somebody's own, which alone says what time it is."""
    return 0


class _Hints:
    """What one ``wakeups()`` call yields, coalesced: however many were missed, one is told."""

    def __init__(self, listeners: dict[_Hints, None]) -> None:
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ended = False
        self._closed = False
        listeners[self] = None

    def tell(self, *, ended: bool) -> None:
        self._ended |= ended
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    def close(self) -> None:
        self._closed = True
        self._listeners.pop(self, None)
        self.tell(ended=False)

    def __aiter__(self) -> AsyncIterator[Wakeup]:
        return self

    async def __anext__(self) -> Wakeup:
        await self._news.wait()
        if self._closed:
            raise StopAsyncIteration
        self._news.clear()
        ended, self._ended = self._ended, False
        return Wakeup(ended)


@define(eq=False)
class _Store:
    """What the handles of one name share. Their event loops may run in several threads, hence the lock.

    ``unstarted`` are instances whose start is still to come: with those that have messages, all that may be claimable.
    """

    state: State = field(factory=State)
    now_us: int = 0
    unstarted: set[str] = field(factory=set)
    listeners: dict[_Hints, None] = field(factory=dict)  # in a fixed order, so that a simulation can be repeated
    lock: threading.Lock = field(factory=threading.Lock)

    def absorb(self, effects: Sequence[fx.Effect]) -> None:
        work = ended = False
        for effect in effects:
            effect.absorb(self.state)
            match effect:
                case fx.PutInstance(row):
                    over = row.status in ENDED
                    (self.unstarted.add if row.awaits_start and not over else self.unstarted.discard)(row.instance)
                    ended |= over
                    work |= not (over or row.claimed)
                case fx.DropInstance(id):
                    self.unstarted.discard(id)
                    ended = True
                case fx.PutTask(row):
                    work |= row.worker is None
                case fx.PutMessage() | fx.DropWorker():
                    work = True
                case _:
                    pass
        if work or ended:
            for listener in self.listeners:
                listener.tell(ended=ended)

    def candidates(self) -> set[str]:
        return self.unstarted | self.state.inbox.keys()


_STORES: dict[str, _Store] = {}


def forget_store(name: str) -> None:
    """Whoever opens ``memory://name`` next finds it empty."""
    _STORES.pop(name, None)


class MemoryBackend:
    """A handle on a store in memory.

    ``clock_us`` gives microseconds, ``monotonic_us`` those that have passed (default: the system's clocks; beside another clock, none); of all
    handles on one store the clock that is ahead counts. ``capabilities`` may lower the limits of a
    store that this handle creates.
    """

    def __init__(
        self,
        name: str = "",
        *,
        clock_us: Callable[[], int] = _system_clock_us,
        monotonic_us: Callable[[], int] | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._name = name
        self._clock_us = clock_us
        self._monotonic_us = monotonic_us or (_system_monotonic_us if clock_us is _system_clock_us else _standstill_us)
        self._hub_clock = HubClock()
        self._capabilities = capabilities or Capabilities(durability="none", multi_process=False, proves_death=False)
        self._own = self._new_store()
        self._opened: _Store | None = None
        self._hints: list[_Hints] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def open(self, *, create: bool = True) -> None:
        if not create and (not self._name or self._name not in _STORES):
            raise StoreFormatError(f"there is no store {_SCHEME}{self._name} in this process yet: open it with create=True")
        self._opened = _STORES.setdefault(self._name, self._own) if self._name else self._own

    async def close(self) -> None:
        self._opened = None
        for hints in self._hints:
            hints.close()
        self._hints.clear()

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        store, outcomes, effects = self._store, list[Outcome](), list[fx.Effect]()
        with store.lock:
            now_us = self._now_us(store)
            for command in commands:
                outcome, effects = decide(store.state, command, now_us)
                store.absorb(effects)
                outcomes.append(outcome)
        return outcomes

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: Selectors) -> Claim:
        store = self._store
        with store.lock:
            now_us = self._now_us(store)
            turn_ids = eligible_turns(store.state, worker, selectors, now_us, store.candidates())[:turns]
            task_ids = eligible_tasks(store.state, worker, selectors)[:tasks]
            claim, effects = decide(store.state, Grant(worker, claim_id, selectors, tuple(turn_ids), tuple(task_ids)), now_us)
            store.absorb(effects)
            return replace(claim, next_due_us=next_due(store.state, now_us, store.candidates()))

    async def heartbeat(self, worker: str, *, ttl_us: int) -> Heartbeat:
        store = self._store
        with store.lock:
            heartbeat, effects = decide(store.state, Beat(worker, ttl_us), self._now_us(store))
            store.absorb(effects)
            return heartbeat

    async def get_instances(self, ids: Sequence[str]) -> list[InstanceRecord | None]:
        with self._store.lock:
            return [record_of(self._store.state, id) for id in ids]

    async def query_instances(self, filter: InstanceFilter, *, limit: int, cursor: str | None = None) -> Page:
        with self._store.lock:
            return query(self._store.state, filter, limit=limit, cursor=cursor)

    async def read_history(self, ranges: Sequence[HistoryRange]) -> list[HistoryPage]:
        with self._store.lock:
            return [read_history(self._store.state, range) for range in ranges]

    def wakeups(self) -> AsyncIterator[Wakeup]:
        self._hints.append(_Hints(self._store.listeners))
        return self._hints[-1]

    @property
    def _store(self) -> _Store:
        if self._opened is None:
            raise EngineStateError(f"the store {_SCHEME}{self._name} is not open")
        return self._opened

    def _now_us(self, store: _Store) -> int:
        """The hub's clock never runs backwards, whatever this handle's clock does."""
        store.now_us = self._hub_clock.now_us(self._clock_us(), self._monotonic_us(), store.now_us)
        if self._hub_clock.news is not None:
            _logger.warning("%s%s: %s", _SCHEME, self._name, self._hub_clock.news)
            self._hub_clock.news = None
        return store.now_us

    def _new_store(self) -> _Store:
        return _Store(State(limits=self._capabilities))


def open_backend(url: str, **options: Any) -> MemoryBackend:
    """A handle on ``memory://`` or ``memory://name``, not open yet. ``options`` are those of ``MemoryBackend``."""
    if not url.startswith(_SCHEME):
        raise StoreUrlError(f"{url!r} is not a URL of a store in memory: write {_SCHEME} or {_SCHEME}name")
    return MemoryBackend(url.removeprefix(_SCHEME), **options)
