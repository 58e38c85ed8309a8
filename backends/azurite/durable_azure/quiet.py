"""Beats that write nothing: what keeps an idle worker cheap.

A beat has to be in the log only because its worker may die with something in its hands. So a worker that has nothing, and had nothing to do
since its last beat, is registered for a long time once; its further beats are answered from memory while that time lasts. The moment it
leases anything, the same append says until when its last beat was really good. So whatever is held is held under a beat as short as the
engine asked for, and a death is found as soon; that an idle process has died is found late, and of no consequence.

A worker that asks for less than ``_SHORT_US`` is written down each time.
"""

from __future__ import annotations

from attrs import define, field
from msgspec.structs import replace

from durable_core.backend import Heartbeat
from durable_core.hub import Beat, State, WorkerRow
from durable_core.hub import effects as fx

__all__ = ["QuietBeats"]

_SHORT_US = 10_000_000


@define
class QuietBeats:
    """Those of one handle's workers. ``promised``: of each that is registered for longer than it asked for, until when it has asked.
    ``busy``: those that did something since their last beat."""

    idle_us: int
    promised: dict[str, int] = field(factory=dict)
    busy: set[str] = field(factory=set)

    def answer(self, beat: Beat, state: State, now_us: int) -> Heartbeat | None:
        """If nothing needs to be written for it."""
        row, until_us = state.workers.get(beat.worker), now_us + beat.ttl_us
        if row is None or beat.worker not in self.promised or row.until_us < until_us or _has_dead(state, beat.worker, now_us):
            return None
        self.promised[beat.worker] = until_us
        return Heartbeat(now_us, alive=True)

    def stretched(self, beat: Beat, state: State, now_us: int) -> Beat:
        """What is written for it."""
        quiet = beat.worker in state.workers and beat.worker not in self.busy
        self.busy.discard(beat.worker)
        self.promised.pop(beat.worker, None)
        if not (quiet and _SHORT_US <= beat.ttl_us < self.idle_us) or _has_dead(state, beat.worker, now_us):
            return beat
        if _holds_something(state, beat.worker, now_us):
            return beat
        self.promised[beat.worker] = now_us + beat.ttl_us
        return Beat(beat.worker, self.idle_us)

    def as_it_beat(self, worker: str, state: State) -> WorkerRow | None:
        """Its row with the time for which it really asked: what it says of how long nobody could write. None: nothing else than its row."""
        row, asked_us = state.workers.get(worker), self.promised.get(worker)
        return None if row is None or asked_us is None else replace(row, until_us=asked_us)

    def stirred(self, worker: str, state: State) -> list[fx.Effect]:
        """It is about to lease something: what has to be written with that."""
        self.busy.add(worker)
        row = state.workers.get(worker)
        if row is None or worker not in self.promised or row.until_us <= self.promised[worker]:
            return []
        return [fx.PutWorker(replace(row, until_us=self.promised[worker]))]


def _has_dead(state: State, worker: str, now_us: int) -> bool:
    return any(row.until_us <= now_us and row.id != worker for row in state.workers.values())


def _holds_something(state: State, worker: str, now_us: int) -> bool:
    if any(row.worker == worker for row in state.tasks.values()):
        return True
    return any(row.holder == worker and (row.claimed or row.hold_until_us > now_us) for row in state.instances.values())
