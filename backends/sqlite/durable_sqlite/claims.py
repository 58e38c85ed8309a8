"""Which instances and tasks a worker is handed: candidates by index, the choice by the hub's rules.

The indexes find for each name the few that have waited longest; ``hub.eligible_turns`` sorts out suspects and checks again.
Names and limits bound the work: what is unknown here, suspended, parked, backing off, claimed or ended is in no index that is
read.
"""

from __future__ import annotations

from attrs import frozen

from durable_core.backend import ENTITY_PREFIX, Selectors
from durable_core.hub import STEAL_AFTER_US, Grant, eligible_turns, needs
from durable_sqlite.queries import Rows, query
from durable_sqlite.rows import Partial, parse

__all__ = ["ClaimRequest", "choose", "next_due", "worth_a_transaction"]

_FIND_TURNS, _FIND_TASKS, _NEXT_WAKE, _NEXT_STEAL = Rows("find_turns"), Rows("find_tasks"), Rows("next_wake"), Rows("next_steal")
_TASK_BYTES_PER_CLAIM = 64 << 20
"""Payloads that one claim carries, the first task in any case."""


@frozen
class ClaimRequest:
    """The arguments of ``Backend.claim``."""

    worker: str
    claim_id: str
    turns: int
    tasks: int
    selectors: Selectors

    @property
    def queues(self) -> list[str]:
        """As in ``instance.queue``: orchestrations under their name, entities under "@" and theirs."""
        return [*self.selectors.orchestrators, *(ENTITY_PREFIX + name for name in self.selectors.entities)]


def worth_a_transaction(part: Partial, request: ClaimRequest, now_us: int) -> bool:
    """Whether a claim would find anything; asked without a lock, so that idle workers never write nor wait."""
    if request.worker not in part.state.workers:
        return False
    part.load_last_claim(request.worker)
    repeated = part.state.workers[request.worker].claim_id == request.claim_id
    return repeated or bool(_turn_candidates(part, request, now_us, 1)) or bool(_task_candidates(part, request, 1))


def choose(part: Partial, request: ClaimRequest, now_us: int) -> Grant:
    """Load what the grant needs, and name it."""
    part.load_last_claim(request.worker)
    worker = part.state.workers.get(request.worker)
    turns: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    if worker is not None and worker.claim_id == request.claim_id:
        turns, tasks = worker.turns, worker.tasks
    elif worker is not None:
        turns = _choose_turns(part, request, now_us)
        tasks = _choose_tasks(part, request)
    grant = Grant(request.worker, request.claim_id, request.selectors, turns, tasks)
    part.load(needs((grant,), part.state.limits.messages_per_claim), now_us, task_payloads=True)
    return grant


def _choose_turns(part: Partial, request: ClaimRequest, now_us: int) -> tuple[str, ...]:
    # Twice as many as wanted: some may turn out to be suspects, which wait for a claim of their own.
    candidates = _turn_candidates(part, request, now_us, 2 * request.turns) if request.turns > 0 else []
    if not candidates:
        return ()
    part.load_instances(candidates)
    part.load_inboxes(dict.fromkeys(candidates, part.state.limits.messages_per_claim + 1), now_us)
    return tuple(eligible_turns(part.state, request.worker, request.selectors, now_us, candidates)[: request.turns])


def _turn_candidates(part: Partial, request: ClaimRequest, now_us: int, many: int) -> list[str]:
    """Ids, those that have waited longest first, each once."""
    if request.turns <= 0:
        return []
    stale_us = now_us - STEAL_AFTER_US
    turns = _FIND_TURNS.fetch(part.connection, request.queues, now_us, request.worker, now_us, stale_us, many)
    found = [pair for text in turns for pair in parse(text)]
    control = {"now_us": now_us, "stale_us": stale_us, "worker": request.worker, "many": many}
    found += parse(part.connection.execute(query("find_control"), control).fetchone()[0])
    found.sort(key=lambda pair: (pair[1], pair[0]))
    return list(dict.fromkeys(id for id, _ in found))[:many]


def _choose_tasks(part: Partial, request: ClaimRequest) -> tuple[str, ...]:
    chosen: list[str] = []
    size = 0
    for _, id, length in _task_candidates(part, request, request.tasks):
        size += length
        if chosen and size > _TASK_BYTES_PER_CLAIM:
            break
        chosen.append(id)
    return tuple(chosen)


def _task_candidates(part: Partial, request: ClaimRequest, many: int) -> list[tuple[int, str, int]]:
    """(position, id, size), oldest first."""
    if request.tasks <= 0:
        return []
    tasks = _FIND_TASKS.fetch(part.connection, list(request.selectors.activities), many)
    found = [tuple(task) for text in tasks for task in parse(text)]
    return sorted(found)[:many]


def next_due(part: Partial, request: ClaimRequest, now_us: int, *, full: bool) -> int | None:
    """``Claim.next_due_us``. ``full``: the worker got as many turns as it asked for and will ask again, so what is due already
    need not be looked at."""
    times = list(_NEXT_WAKE.fetch(part.connection, request.queues, now_us))
    if not full:
        times += _NEXT_STEAL.fetch(part.connection, request.queues, request.worker, now_us)
    times += part.connection.execute(query("next_control"), {"now_us": now_us, "worker": request.worker}).fetchone()
    return min((time for time in times if time is not None), default=None)
