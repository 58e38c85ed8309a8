"""A worker: one *incarnation* that claims instances and tasks, runs them, and keeps itself alive with a heartbeat.

It claims when it is woken (by its own commits, by clients in this process, by the store's hints) and when something falls due; if every
wake-up is lost, a poll finds the work all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import uuid4

from durable_core.backend import ENTITY_PREFIX, AbandonWorker, Backend, Claim, ClaimedTurn, CommitTurn, Selectors
from durable_core.definitions.registry import Registry
from durable_core.errors import StoreError
from durable_core.runtime.clock import HubClock
from durable_core.runtime.committer import Committer
from durable_core.runtime.entities import EntityRunner
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.orchestrations import OrchestrationRunner
from durable_core.runtime.runner import Surroundings

_logger = logging.getLogger("durable_core.engine")
_TURNS_PER_CLAIM = 500


class Worker:
    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        committer: Committer,
        clock: HubClock,
        options: WorkerOptions,
        changed: Callable[[str, CommitTurn], None],
    ) -> None:
        self._backend = backend
        self._registry = registry
        self._committer = committer
        self._clock = clock
        self._options = options
        self._changed = changed
        self._orchestrators = frozenset(registry.orchestrators)
        self._entities = frozenset(registry.entities)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._backlog = False
        self.id = ""
        self.turns: OrchestrationRunner
        self.entities: EntityRunner

    # ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        await self._incarnate()
        self._tasks = [
            asyncio.create_task(self._claim_for_ever(), name="durable-core claims"),
            asyncio.create_task(self._beat_for_ever(), name="durable-core heartbeat"),
        ]

    async def _incarnate(self) -> None:
        self.id = uuid4().hex
        beat = await self._backend.heartbeat(self.id, ttl_us=self._ttl_us)
        self._clock.learn(beat.now_us)
        around = Surroundings(
            self.id, self._backend, self._registry, self._committer, self._clock, self._options, self.wake, self.freed, self._changed
        )
        self.turns = OrchestrationRunner(around)
        self.entities = EntityRunner(around, self.turns.activities.threads)
        self.wake()

    @property
    def _ttl_us(self) -> int:
        return round(self._options.worker_ttl_s * 1e6)

    async def stop(self, *, drain_s: float) -> None:
        """Take nothing new, let running activities end within ``drain_s``, save their results, give every lease back."""
        self._draining = True
        claims, beat = self._tasks
        claims.cancel()
        await asyncio.wait([claims])
        await self.turns.activities.drain(drain_s)
        await self._committer.flush()
        await self.entities.close()
        await self.turns.close()
        beat.cancel()
        await asyncio.wait([beat])
        await self._committer.apply(AbandonWorker(self.id))

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """There may be something to claim."""
        self._backlog = True
        self._wake.set()

    def freed(self) -> None:
        """There is room again: worth a claim only if something was left for lack of it."""
        if self._backlog:
            self._wake.set()

    def can_take(self, orchestrator: str) -> bool:
        """Whether a new instance of this name may be claimed as it is created."""
        return not self._draining and orchestrator in self._orchestrators and min(self.turns.room, self.entities.room) > 0

    def accept(self, turn: ClaimedTurn) -> None:
        if turn.instance.startswith(ENTITY_PREFIX):
            self.entities.accept(turn)
        else:
            self.turns.accept(turn)

    async def _claim_for_ever(self) -> None:
        while True:
            self._wake.clear()
            self._backlog = False
            again, next_due_us = False, None
            turns = min(self.turns.room, self.entities.room, _TURNS_PER_CLAIM)
            limited = turns == 0 or self.turns.activities.full
            # One claim a kind of activity, since each kind has a bound of its own; the first one asks for turns too.
            for names, tasks in self.turns.activities.claimable() or [(frozenset[str](), 0)]:
                if turns or tasks:
                    claim = await self._claim(turns, tasks, Selectors(self._orchestrators, names, self._entities))
                    limited = limited or len(claim.turns) == turns > 0 or len(claim.tasks) == tasks > 0
                    again = again or bool(claim.turns) or len(claim.tasks) == tasks > 0
                    next_due_us = min(filter(None, (next_due_us, claim.next_due_us)), default=None)
                turns = 0
            self._backlog = self._backlog or limited
            if not again:
                await self._sleep(next_due_us)

    async def _claim(self, turns: int, tasks: int, selectors: Selectors) -> Claim:
        claim = await self._try_claim(turns, tasks, selectors)
        self._clock.learn(claim.now_us)
        for turn in claim.turns:
            self.accept(turn)
        for task in claim.tasks:
            self.turns.accept_task(task)
        return claim

    async def _try_claim(self, turns: int, tasks: int, selectors: Selectors) -> Claim:
        claim_id, pause = uuid4().hex, 0.05
        while True:
            try:
                return await self._backend.claim(self.id, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)
            except StoreError as error:  # the outcome is unknown: the same claim id asks for the same items again
                _logger.warning("claiming failed: %s; trying again", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def _sleep(self, next_due_us: int | None) -> None:
        seconds = self._options.poll_s
        if next_due_us is not None:
            seconds = min(seconds, max(0.0, (next_due_us - self._clock.now_us()) / 1e6))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # ── heartbeat ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _beat_for_ever(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(self._options.heartbeat_s)
            try:
                beat = await self._backend.heartbeat(self.id, ttl_us=self._ttl_us)
            except StoreError as error:
                _logger.warning("heartbeat failed: %s (the last one succeeded %.0f s ago)", error, time.monotonic() - last)
                continue
            last = time.monotonic()
            self._clock.learn(beat.now_us)
            for task in beat.cancelled:
                self.turns.activities.cancel(task)
            if not beat.alive:
                _logger.error("this worker was given up as dead (a pause of over %.0f s?); it starts afresh", self._options.worker_ttl_s)
                await self._reincarnate()

    async def _reincarnate(self) -> None:
        """The leases are gone. What runs is cancelled: others run it by now."""
        turns, entities = self.turns, self.entities
        turns.activities.stop()
        await entities.close()
        await turns.close()
        await self._incarnate()
