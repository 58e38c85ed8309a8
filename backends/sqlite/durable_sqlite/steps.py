"""What happens inside one transaction: a batch of commands, a claim, a heartbeat. Each loads a part of the hub, decides, and writes.

The rules are the core's (``durable_core.hub``); nothing here knows what a command means.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from attrs import define, field, frozen
from msgspec.structs import replace

from durable_core.backend import AbandonWorker, Capabilities, Claim, Command, Heartbeat, Outcome
from durable_core.hub import Beat, decide, needs, needs_of_obituaries
from durable_sqlite.claims import ClaimRequest, choose, next_due, worth_a_transaction
from durable_sqlite.payloads import fetch_unread
from durable_sqlite.rows import Partial
from durable_sqlite.tables import Changes

__all__ = ["BeatRequest", "Deaths", "Steps"]


@frozen
class BeatRequest:
    """The arguments of ``Backend.heartbeat``."""

    worker: str
    ttl_us: int


class Deaths(Protocol):
    """What ``locks.Lives`` knows of incarnations; ``NoDeaths`` where nothing is known."""

    def hold(self, worker: str) -> None: ...
    def is_dead(self, worker: str) -> bool: ...
    def bury(self, worker: str) -> None: ...


@define
class Steps:
    """Runs steps on a connection inside the caller's transaction.

    ``work`` and ``ended`` say whether what was written may give a worker something to do, or end somebody's waiting; ``wrote``
    whether there is anything to commit. ``after`` is to be called when the commit is durable.
    """

    connection: sqlite3.Connection
    capabilities: Capabilities
    now_us: Callable[[int], int]
    deaths: Deaths | None
    work: bool = False
    ended: bool = False
    wrote: bool = False
    after: list[Callable[[], None]] = field(factory=list)

    def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        wanted = needs(commands, self.capabilities.messages_per_claim)
        part = Partial.begin_with(self.connection, self.capabilities, wanted)
        now_us = self.now_us(part.state.now_us)
        part.load(wanted, now_us)
        part.load(needs_of_obituaries(part.state), now_us)
        changes = Changes(part)
        outcomes: list[Outcome] = []
        for command in commands:
            outcome, effects = decide(part.state, command, now_us)
            changes.absorb(effects)
            outcomes.append(outcome)
            if isinstance(command, AbandonWorker):
                self._give_up(command.worker)
        if part.unread:
            outcomes = [_complete(part, outcome) for outcome in outcomes]
        self._write(changes)
        return outcomes

    def claim(self, request: ClaimRequest) -> Claim:
        part, now_us = self._begin()
        if self._reap(part, except_for=request.worker):
            part, now_us = self._begin()
        claim, effects = decide(part.state, choose(part, request, now_us), now_us)
        turns = tuple(
            replace(turn, **fetch_unread(part, turn.instance, turn.messages, turn.more)) if part.unread else turn for turn in claim.turns
        )
        changes = Changes(part)
        changes.absorb(effects)
        self._write(changes)
        full = len(turns) >= request.turns
        return replace(claim, turns=turns, next_due_us=next_due(part, request, claim.now_us, full=full))

    def nothing_to_claim(self, request: ClaimRequest) -> Claim | None:
        """The empty claim, if that is the answer. Only reads; may be called outside a transaction."""
        part, now_us = self._begin()
        if self.deaths is not None and any(self.deaths.is_dead(worker) for worker in part.state.workers if worker != request.worker):
            return None
        if worth_a_transaction(part, request, now_us):
            return None
        return Claim((), (), now_us, next_due(part, request, now_us, full=False))

    def beat(self, request: BeatRequest) -> Heartbeat:
        if self.deaths is not None:
            self.deaths.hold(request.worker)
        part, now_us = self._begin()
        if self._reap(part, except_for=request.worker):
            part, now_us = self._begin()
        command = Beat(request.worker, request.ttl_us)
        part.load(needs((command,)), now_us)
        heartbeat, effects = decide(part.state, command, now_us)
        changes = Changes(part)
        changes.absorb(effects)
        for worker in changes.dead:
            self._give_up(worker)
        if not heartbeat.alive:
            self._give_up(request.worker)
        self._write(changes)
        return heartbeat

    def _begin(self) -> tuple[Partial, int]:
        part = Partial.begin(self.connection, self.capabilities)
        return part, self.now_us(part.state.now_us)

    def _reap(self, part: Partial, except_for: str) -> bool:
        """Give up incarnations that are provably dead (who asks is alive)."""
        if self.deaths is None:
            return False
        dead = [AbandonWorker(worker) for worker in part.state.workers if worker != except_for and self.deaths.is_dead(worker)]
        if dead:
            self.apply(dead)
        return bool(dead)

    def _give_up(self, worker: str) -> None:
        """Once that is durable, its lock file has no purpose any more."""
        if self.deaths is not None:
            self.after.append(partial(self.deaths.bury, worker))

    def _write(self, changes: Changes) -> None:
        changes.write()
        self.wrote |= changes.advanced
        self.work |= changes.give_work()
        self.ended |= changes.end_something()


def _complete(part: Partial, outcome: Outcome) -> Outcome:
    """Fetch what was left behind of the messages that are handed out. Before anything is written: the batch may drop them again."""
    if outcome.messages:
        outcome = replace(outcome, **fetch_unread(part, outcome.messages[0].target, outcome.messages, outcome.more))
    turn = outcome.turn
    return outcome if turn is None else replace(outcome, turn=replace(turn, **fetch_unread(part, turn.instance, turn.messages, turn.more)))
