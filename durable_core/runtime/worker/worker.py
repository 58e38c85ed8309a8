"""A worker: one *incarnation* that claims instances and tasks, runs them, and keeps itself alive with a heartbeat.

It claims when it is woken (by its own commits, by clients in this process, by the store's hints) and when something falls due; if every
wake-up is lost, a poll finds the work all the same.
"""

from __future__ import annotations

import asyncio
import logging

from durable_core.backend import ENTITY_PREFIX, AbandonWorker, Claim, ClaimedTurn, Heartbeat, Selectors
from durable_core.errors import StoreError
from durable_core.runtime.fresh import fresh_id
from durable_core.runtime.session import Session
from durable_core.runtime.worker.entities import EntityRunner
from durable_core.runtime.worker.orchestrations import OrchestrationRunner

_logger = logging.getLogger("durable_core.engine")
_TURNS_PER_CLAIM = 500
_ABANDONED_WITHIN_S = 5.0
_BEAT_AGAIN_S = 0.5
"""After a beat that failed: when the store is back, whoever is late is soon given up."""


class Worker:
    """``id`` is the incarnation's. It belongs to a session and may live through several incarnations."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known = session.registry
        self._wake = asyncio.Event()
        self._backlog = False
        self.id = ""
        self.turns: OrchestrationRunner
        self.entities: EntityRunner

    # ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        await self._incarnate()
        self._session.waiters.watched_here = lambda id: self.turns.holds(id)
        self._claiming = self._session.supervisor.start(self._claim_for_ever(), "the loop that claims")
        self._beating = self._session.supervisor.start(self._beat_for_ever(), "the heartbeat")
        self._session.worker = self
        known = self._known
        counts = len(known.orchestrators), len(known.activities), len(known.entities)
        _logger.info("worker %s is up: %d orchestrators, %d activities, %d entities", self.id, *counts)

    async def _incarnate(self) -> None:
        id = fresh_id()
        await self._beat(id)
        # At once, so that nothing is claimed in the new name and handed to those who worked in the old one.
        self.id = id
        self.turns = OrchestrationRunner(self._session, self)
        self.entities = EntityRunner(self._session, self, self.turns.activities.threads)
        self.wake()

    async def stop(self) -> None:
        """Take nothing new, let running activities end within ``drain_s``, save their results, give every lease back."""
        self._claiming.cancel()
        await asyncio.wait([self._claiming])
        await self.turns.activities.drain(self._session.options.drain_s)
        await self._session.committer.flush()
        for runner in (self.entities, self.turns):
            await runner.close()
        self._beating.cancel()
        await asyncio.wait([self._beating])
        await self._session.committer.apply(AbandonWorker(self.id))
        _logger.info("worker %s is down: what it held is free for others", self.id)

    async def abandon(self) -> None:
        """End at once: what runs is cancelled, and others take over what this worker holds. The committer is not asked: it may have died."""
        self._claiming.cancel()
        self._beating.cancel()
        self.hurry()
        try:
            async with self._session.clock.limit(_ABANDONED_WITHIN_S):
                await self._session.backend.apply([AbandonWorker(self.id)])
        except Exception as error:
            _logger.error(
                "the leases of this worker could not be given back (%r): they run out in %.0f s", error, self._session.options.worker_ttl_s
            )
        for runner in (self.entities, self.turns):
            await runner.close()

    def hurry(self) -> None:
        """Cancel what runs: it stays leased, and runs again later."""
        self.turns.activities.stop()

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """There may be something to claim."""
        self._backlog = True
        self._wake.set()

    def freed(self) -> None:
        """There is room again: worth a claim only if something was left for lack of it."""
        if self._backlog:
            self._wake.set()

    @property
    def in_turns(self) -> bool:
        """Whether an instance in hand is being loaded, runs a turn, or waits for one."""
        return self.turns.any_busy or self.entities.any_busy

    @property
    def _room(self) -> int:
        return 0 if self.turns.activities.isolation.active else min(self.turns.room, self.entities.room)

    def can_take(self, orchestrator: str) -> bool:
        """Whether a new instance of this name may be claimed as it is created."""
        return not self._session.draining and orchestrator in self._known.orchestrators and self._room > 0

    def accept(self, turn: ClaimedTurn) -> None:
        """What cannot be read is that instance's problem, nobody else's."""
        runner: EntityRunner | OrchestrationRunner = self.entities if turn.instance.startswith(ENTITY_PREFIX) else self.turns
        try:
            runner.accept(turn)
        except Exception as error:
            runner.refuse(turn, error)

    def take(self, turn: ClaimedTurn, holder: str | None) -> None:
        """As soon as it is known, and whoever still waits for the start: as long as this worker lives, nobody else runs the instance."""
        if self._session.draining or holder != self.id:
            self.turns.give_back(turn)
        else:
            self.accept(turn)

    async def _claim_for_ever(self) -> None:
        while True:
            self._wake.clear()
            self._backlog = False
            again, due_in_us = False, None
            limited = self._room == 0 or self.turns.activities.full
            # One claim a kind of activity, since each kind has a bound of its own; the last one asks for turns too, unless one of them
            # brought a suspect, which is to be without company.
            kinds = self.turns.activities.claimable() or [(frozenset[str](), 0)]
            for names, tasks in kinds:
                turns = min(self._room, _TURNS_PER_CLAIM) if names is kinds[-1][0] else 0
                if (turns or tasks) and not self.turns.activities.isolation.active:
                    selectors = Selectors(frozenset(self._known.orchestrators), names, frozenset(self._known.entities))
                    claim = await self._claim(turns, tasks, selectors)
                    self._take(claim)
                    limited = limited or len(claim.turns) == turns > 0 or len(claim.tasks) == tasks > 0
                    again = again or bool(claim.turns) or len(claim.tasks) == tasks > 0
                    if claim.next_due_us is not None:
                        in_us = max(1, claim.next_due_us - claim.now_us)
                        due_in_us = in_us if due_in_us is None else min(due_in_us, in_us)
            self._backlog = self._backlog or limited
            if not again:
                await self._sleep(due_in_us)

    async def _claim(self, turns: int, tasks: int, selectors: Selectors) -> Claim:
        claim_id, pause_s = fresh_id(), 0.05
        while True:
            try:
                claim = await self._session.backend.claim(self.id, claim_id=claim_id, turns=turns, tasks=tasks, selectors=selectors)
            except StoreError as error:  # the outcome is unknown: the same claim id asks for the same items again
                self._session.outage.failed("claims", error)
                await self._session.clock.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
            else:
                self._session.outage.worked("claims")
                return claim

    def _take(self, claim: Claim) -> None:
        self._session.clock.learn(claim.now_us)
        for turn in claim.turns:
            self.accept(turn)
        for task in claim.tasks:
            try:
                self.turns.accept_task(task)
            except StoreError as error:
                self.turns.refuse_task(task, error)

    async def _sleep(self, due_in_us: int | None) -> None:
        """By the store's word alone: its time may go slower than this process believes."""
        seconds = self._session.options.poll_s
        if due_in_us is not None:
            seconds = min(seconds, due_in_us / 1e6)
        timer = self._session.clock.call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    # ── heartbeat ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _beat(self, id: str) -> Heartbeat:
        beat = await self._session.backend.heartbeat(id, ttl_us=round(self._session.options.worker_ttl_s * 1e6))
        self._session.clock.learn(beat.now_us)
        return beat

    async def _beat_for_ever(self) -> None:
        options, clock = self._session.options, self._session.clock
        last, pause_s = clock.time(), options.heartbeat_s
        while True:
            await clock.sleep(pause_s)
            pause_s = min(_BEAT_AGAIN_S, options.heartbeat_s)
            try:
                beat = await self._beat(self.id)
                if not beat.alive:  # if this fails, the next beat will say so again
                    await self._start_afresh()
            except StoreError as error:
                _logger.warning("heartbeat failed: %s (the last one succeeded %.0f s ago)", error, clock.time() - last)
                continue
            last, pause_s = clock.time(), options.heartbeat_s
            for task in beat.cancelled:
                self.turns.activities.cancel(task)

    async def _start_afresh(self) -> None:
        """The leases are gone. What runs is cancelled: others run it by now."""
        _logger.error("this worker was given up as dead (a pause of over %.0f s?); it starts afresh", self._session.options.worker_ttl_s)
        self.turns.activities.stop()
        for runner in (self.entities, self.turns):
            await runner.close()
        await self._incarnate()
