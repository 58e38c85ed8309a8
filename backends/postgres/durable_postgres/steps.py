"""A batch of commands, a claim, a heartbeat: load, decide, write. Two round trips, and no lock is held while the first is on its way.

What was loaded is compared with what is there when it is written, under locks that end with that one statement. If something changed
in between, the step is taken again inside a transaction that locks the rows before it loads them (instances by key, so that nobody waits
in a circle): however many workers crowd around an instance, each of them gets there the second time. No lock ever waits for a
client but then, and the server ends a transaction whose client has gone silent (``lanes.py``).

A batch that fails: the store's trouble is raised for all of it, nothing was written or the outcome is unknown (``errors.py``). Any other
error is about one of the commands: the batch is halved until it is alone, and that one is REJECTED.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
from msgspec.structs import replace

from durable_core.backend import AbandonWorker, Capabilities, Claim, Command, Heartbeat, Outcome, OutcomeStatus
from durable_core.errors import DurableError, StoreError, StoreUnavailableError
from durable_core.hub import Beat, HubClock, Needs, decide, needs, needs_of_obituaries
from durable_postgres.claims import ClaimRequest, choose
from durable_postgres.errors import is_transient_conflict, translate
from durable_postgres.lanes import Connection, Lane
from durable_postgres.lives import Lives
from durable_postgres.migrate import check_version
from durable_postgres.options import PostgresOptions
from durable_postgres.payloads import Missing, complete_outcomes, complete_turns
from durable_postgres.queries import query
from durable_postgres.rows import Found, Partial, load_arguments
from durable_postgres.tables import Changes
from durable_postgres.wakeups import Wakeups

__all__ = ["Steps"]

T = TypeVar("T")

_logger = logging.getLogger("durable_core.postgres")

_TRIES = 10
_COMMANDS_PER_BATCH = 1_000
_BEAT_SHARE = 1 / 4
"""Of a lease: what a heartbeat may take."""
_LOOK_FOR_DEATHS_US = 750_000
"""Where other workers live, somebody idle looks for the dead so often: half of what an idle worker may ask for."""


class _Changed(Exception):
    """Something that was loaded had changed by the time of writing: nothing was written."""


class Steps:
    """``batches`` and ``claims`` are lanes of their own; heartbeats share the one of ``lives``."""

    def __init__(self, options: PostgresOptions, capabilities: Capabilities, lives: Lives, wakeups: Wakeups) -> None:
        self._options = options
        self._capabilities = capabilities
        self._lives = lives
        self._wakeups = wakeups
        self._clock = HubClock()
        self.batches, self.claims = Lane(options), Lane(options)

    async def close(self) -> None:
        await self.batches.close()
        await self.claims.close()

    # ── the three steps ──────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(commands), _COMMANDS_PER_BATCH):
            outcomes += await self._apply(commands[start : start + _COMMANDS_PER_BATCH])
        for command in commands:
            if isinstance(command, AbandonWorker):
                await self._lives.drop(command.worker)
        return outcomes

    async def claim(self, request: ClaimRequest) -> Claim:
        while True:
            claim = await self._take(self.claims, lambda connection, locked: self._claim(connection, request, locked))
            if isinstance(claim, Claim):
                return claim
            await self._bury(claim)

    async def beat(self, worker: str, ttl_us: int) -> Heartbeat:
        """One that hangs must not cost the lease: there is to be time for others."""
        seconds = ttl_us / 1e6 * _BEAT_SHARE
        try:
            async with asyncio.timeout(seconds):
                return await self._answered_beat(worker, ttl_us)
        except TimeoutError as error:
            raise StoreUnavailableError(f"{self._options.where}: nobody answered a heartbeat within {seconds:.1f} s") from error

    async def _answered_beat(self, worker: str, ttl_us: int) -> Heartbeat:
        await self._raising(self._lives.hold(worker))
        while True:
            heartbeat = await self._take(self._lives.lane, lambda connection, locked: self._beat(connection, Beat(worker, ttl_us), locked))
            if isinstance(heartbeat, Heartbeat):
                break
            await self._bury(heartbeat)
        if not heartbeat.alive:
            await self._lives.drop(worker)
        return heartbeat

    # ── a batch that fails ───────────────────────────────────────────────────────────────────────────────────────

    async def _apply(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            return await self._take(self.batches, lambda connection, locked: self._batch(connection, commands, locked))
        except StoreError:
            raise
        except Exception as error:  # whatever a command provokes, only that command is to suffer
            if len(commands) > 1:
                middle = len(commands) // 2
                return await self._apply(commands[:middle]) + await self._apply(commands[middle:])
            culprit = error if isinstance(error, DurableError) else _rejection(commands[0], error, self._options.where)
            return [Outcome(OutcomeStatus.REJECTED, error=culprit)]

    async def _take(self, lane: Lane, step: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Without locks first; from the second time on with them."""

        async def take() -> T:
            for number in range(_TRIES):
                async with lane.use() as connection:
                    try:
                        if number == 0:
                            return await step(connection, False)
                        async with connection.transaction():
                            return await step(connection, True)
                    except (_Changed, Missing):
                        continue
                    except asyncpg.PostgresError as error:
                        if not is_transient_conflict(error) or number == _TRIES - 1:
                            raise
            raise StoreUnavailableError(f"{self._options.where}: others keep changing the same instances; nothing was written. Try again")

        return await self._raising(take())

    async def _raising(self, call: Awaitable[T]) -> T:
        """With the driver's errors translated."""
        try:
            return await call
        except Exception as error:
            trouble = translate(error, self._options.where)
            if trouble is None or trouble is error:
                raise
            raise trouble from error

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _batch(self, connection: Connection, commands: Sequence[Command], locked: bool) -> list[Outcome]:
        wanted = needs(commands, self._capabilities.messages_per_claim)
        part, _ = await self._load(connection, wanted, locked)
        changes = Changes(part)
        outcomes: list[Outcome] = []
        for command in commands:
            outcome, effects = decide(part.state, command, part.state.now_us)
            changes.absorb(effects)
            outcomes.append(outcome)
        outcomes = await complete_outcomes(connection, part, outcomes)
        await self._write(connection, changes)
        return outcomes

    async def _beat(self, connection: Connection, command: Beat, locked: bool) -> Heartbeat | list[str]:
        asked_s = time.monotonic()
        part, found = await self._load(connection, needs((command,)), locked)
        self._lives.answered_after(time.monotonic() - asked_s)
        dead = await self._dead(connection, found, part, command.worker)
        if dead:
            return dead
        changes = Changes(part)
        heartbeat, effects = decide(part.state, command, part.state.now_us)
        changes.absorb(effects)
        await self._write(connection, changes)
        return heartbeat

    async def _claim(self, connection: Connection, request: ClaimRequest, locked: bool) -> Claim | list[str]:
        me = request.worker.encode(), request.claim_id.encode()
        queues, activities, turns, tasks = request.candidates()
        chosen: Any = (None, None)
        if locked:
            clock = self._clock_us(), self._floor_us()
            chosen = await connection.fetchrow(query("lock_candidates"), *clock, me[0], queues, activities, turns, tasks)
        page = self._capabilities.messages_per_claim + 1
        asked_s = time.monotonic()
        rows = await connection.fetch(
            query("find"), self._clock_us(), self._floor_us(), *me, queues, activities, turns, tasks, page, request.turns, *chosen
        )
        self._lives.answered_after(time.monotonic() - asked_s)
        found = self._learn(rows)
        dead = await self._lives.proven_dead(connection, found.lifeless)
        if dead:
            return dead
        next_due_us = self._next_look_us(found)
        if found.ticket is None:
            return Claim((), (), found.now_us, next_due_us)
        part = Partial.begin(found, self._capabilities)
        grant = choose(part, request)
        changes = Changes(part)
        claim, effects = decide(part.state, grant, part.state.now_us)
        changes.absorb(effects)
        claimed = await complete_turns(connection, part, claim.turns)
        await self._write(connection, changes)
        return replace(claim, turns=claimed, next_due_us=next_due_us)

    async def _load(self, connection: Connection, wanted: Needs, locked: bool) -> tuple[Partial, Found]:
        if locked:
            rows = wanted.workers, wanted.instances, wanted.tasks
            await connection.execute(query("lock_rows"), *([id.encode() for id in ids] for ids in rows))
        found = await self._fetch(connection, wanted)
        part = Partial.begin(found, self._capabilities)
        part.wanted |= wanted.instances
        targets = needs_of_obituaries(part.state).instances - part.wanted
        if targets:
            part.add(await self._fetch(connection, Needs(instances=targets)))
            part.wanted |= targets
        return part, found

    async def _fetch(self, connection: Connection, wanted: Needs) -> Found:
        return self._learn(await connection.fetch(query("load"), *load_arguments(wanted, self._clock_us(), self._floor_us())))

    async def _write(self, connection: Connection, changes: Changes) -> None:
        if not changes.anything:
            return
        if not await connection.fetchval(query("write"), *changes.arguments()):
            raise _Changed
        if changes.work or changes.ended:
            self._wakeups.tell_everybody(ended=changes.ended)

    async def _dead(self, connection: Connection, found: Found, part: Partial, me: str) -> list[str]:
        proven = await self._lives.proven_dead(connection, found.lifeless)
        return [worker for worker in proven if worker != me and worker in part.state.workers]

    async def _bury(self, dead: list[str]) -> None:
        await self.apply([AbandonWorker(worker) for worker in dead])

    def _next_look_us(self, found: Found) -> int | None:
        times = [found.next_due_us]
        if found.others and self._options.clock_us is None:
            times.append(found.now_us + _LOOK_FOR_DEATHS_US)
        return min((time_us for time_us in times if time_us is not None), default=None)

    def _learn(self, rows: list[Any]) -> Found:
        found = Found(rows)
        check_version(found.version, self._options.where)
        self._clock.now_us(found.now_us, self._monotonic_us())
        if self._clock.news is not None:
            _logger.warning("%s: %s", self._options.where, self._clock.news)
            self._clock.news = None
        return found

    def _floor_us(self) -> int:
        """Under the server's clock, which may be set back."""
        return self._clock.floor_us(self._monotonic_us())

    def _monotonic_us(self) -> int:
        if self._options.monotonic_us is not None:
            return self._options.monotonic_us()
        return 0 if self._options.clock_us is not None else time.monotonic_ns() // 1_000

    def _clock_us(self) -> int | None:
        return None if self._options.clock_us is None else self._options.clock_us()


def _rejection(command: Command, error: Exception, where: str) -> StoreError:
    whose = next((value for name in ("instance", "task", "worker") if (value := getattr(command, name, None))), "")
    rejection = StoreError(f"{where} cannot carry out {type(command).__name__} of {whose!r}: {error}")
    rejection.__cause__ = error
    return rejection
