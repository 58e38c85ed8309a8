"""What a claim asks for, and what of the candidates it takes."""

from __future__ import annotations

from attrs import frozen

from durable_core.backend import ENTITY_PREFIX, Selectors
from durable_core.hub import Grant, eligible_turns
from durable_postgres.rows import Partial

__all__ = ["ClaimRequest", "choose"]

_SPARE_TURNS = 50
"""Candidates beyond those asked for: some may turn out to be suspects, which wait for a claim of their own."""


@frozen
class ClaimRequest:
    """The arguments of ``Backend.claim``."""

    worker: str
    claim_id: str
    turns: int
    tasks: int
    selectors: Selectors

    def candidates(self) -> tuple[list[bytes], list[bytes], int, int]:
        """Queues, activities, and how many of each. As in ``instance.queue``: orchestrations under their name, entities under "@" and
        theirs."""
        queues = [*self.selectors.orchestrators, *(ENTITY_PREFIX + name for name in self.selectors.entities)]
        many = self.turns + min(self.turns, _SPARE_TURNS)
        return [name.encode() for name in queues], [name.encode() for name in self.selectors.activities], many, self.tasks


def choose(part: Partial, request: ClaimRequest) -> Grant:
    """Of what was found: what the worker's last claim leased, if this repeats it, or else what has waited longest."""
    worker = part.state.workers[request.worker]
    if worker.claim_id == request.claim_id:
        return Grant(request.worker, request.claim_id, request.selectors, worker.turns, worker.tasks)
    state = part.state
    turns = eligible_turns(state, request.worker, request.selectors, state.now_us)[: request.turns]
    tasks = sorted(state.tasks.values(), key=lambda row: row.position)[: request.tasks]
    return Grant(request.worker, request.claim_id, request.selectors, tuple(turns), tuple(row.id for row in tasks))
