"""What one round decides: the calls that were waiting, one after the other, on a part of the hub.

The rules are the core's (``durable_core.hub``); nothing here knows what a command means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from attrs import define, field, frozen
from msgspec.structs import replace

from durable_azure.codec import encode_effects
from durable_azure.quiet import QuietBeats
from durable_azure.replica import Replica
from durable_core.backend import Claim, Command, Outcome, OutcomeStatus, Selectors
from durable_core.errors import DurableError, UsageError
from durable_core.hub import Beat, Grant, Needs, State, decide, needs
from durable_core.hub import effects as fx

__all__ = ["ClaimRequest", "Look", "Request", "Round"]


@frozen
class ClaimRequest:
    """The arguments of ``Backend.claim``."""

    worker: str
    claim_id: str
    turns: int
    tasks: int
    selectors: Selectors


@frozen
class Look:
    """A reading call: it is answered from the hub as it is at the end of the round."""

    read: Callable[[State], Any]


Request = Command | ClaimRequest | Beat | Look


@define
class Round:
    """``answers``: one a request, those of ``Look`` still open. ``effects`` become true when ``encoded`` is in the log. ``patient``: nobody
    minds if this was decided on a hub that is a moment old."""

    replica: Replica
    quiet: QuietBeats
    now_us: int
    patient: bool = True
    answers: list[Any] = field(factory=list)
    effects: list[fx.Effect] = field(factory=list)
    encoded: list[bytes] = field(factory=list)

    def decide(self, requests: Sequence[Request]) -> None:
        chosen = [self._choose(request) if isinstance(request, ClaimRequest) else request for request in requests]
        wanted = needs((each for each in chosen if not isinstance(each, Look)), self.replica.limits.messages_per_claim)
        self._add_last_claims(chosen, wanted)
        part = self.replica.part(wanted)
        for request in chosen:
            self.answers.append(None if isinstance(request, Look) else self._one(part, request))
            self.patient &= isinstance(request, Grant | Beat)

    def finish(self, requests: Sequence[Request]) -> list[Any]:
        """The answers, when the replica is what it was decided to be, and known to be up to date. An error is to be raised to its caller."""
        return [self._finished(request, answer) for request, answer in zip(requests, self.answers, strict=True)]

    def _one(self, part: State, request: Command | Grant | Beat) -> Any:
        if isinstance(request, Beat):
            quiet = self.quiet.answer(request, part, self.now_us)
            if quiet is not None:
                return quiet
            row = self.quiet.as_it_beat(request.worker, part)
            if row is not None:
                part.workers[row.id] = row
            request = self.quiet.stretched(request, self.replica.state, self.now_us)
        answer, effects = decide(part, request, self.now_us)
        stirred = self._stirred(part, request) if effects else []
        if stirred:  # what is decided puts the worker's row, so it has to see this
            for effect in stirred:
                effect.absorb(part)
            answer, effects = decide(part, request, self.now_us)
            effects = stirred + effects
        if effects:
            try:
                self.encoded.append(encode_effects(effects))
            except UsageError as error:
                return Outcome(OutcomeStatus.REJECTED, error=error.with_traceback(None))
            for effect in effects:
                effect.absorb(part)
            self.effects += effects
        return answer

    def _stirred(self, part: State, request: Command | Grant | Beat) -> list[fx.Effect]:
        worker = getattr(request, "worker", None)
        return [] if worker is None or isinstance(request, Beat) else self.quiet.stirred(worker, part)

    def _choose(self, request: ClaimRequest) -> Grant:
        """Of the hub as it was before this round."""
        turns: list[str] = []
        tasks: tuple[str, ...] = ()
        if request.worker in self.replica.state.workers:
            if request.turns:
                turns = self.replica.eligible_turns(request.worker, request.selectors, self.now_us)[: request.turns]
            tasks = tuple(islice(self.replica.eligible_tasks(request.selectors), request.tasks))
        return Grant(request.worker, request.claim_id, request.selectors, tuple(turns), tasks)

    def _add_last_claims(self, chosen: Sequence[object], wanted: Needs) -> None:
        """What a repeated claim hands out again."""
        for request in chosen:
            if isinstance(request, Grant):
                worker = self.replica.state.workers.get(request.worker)
                if worker is not None and worker.claim_id == request.claim_id:
                    again = needs((replace(request, turns=worker.turns, tasks=worker.tasks),), self.replica.limits.messages_per_claim)
                    wanted.instances |= again.instances
                    wanted.inboxes += again.inboxes
                    wanted.details |= again.details
                    wanted.tasks |= again.tasks

    def _finished(self, request: Request, answer: Any) -> Any:
        if isinstance(request, Look):
            try:
                return request.read(self.replica.state)
            except DurableError as error:  # its own fault: the others of the round are answered
                return error
        if isinstance(answer, Claim):
            return replace(answer, next_due_us=self.replica.next_due(self.now_us))
        return answer
