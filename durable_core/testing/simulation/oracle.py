"""What a store should have said: every call that takes effect is decided by ``durable_core.hub``, too, and the answers are compared.

The hub is the executable specification, so a difference is the store's error; and ``Invariants`` look at each step of the hub itself. Which of
the eligible instances a claim hands out is the store's choice: it is checked and then told to the hub. At the end every record, history and page
of the store is held against the hub.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from durable_core import backend as store
from durable_core.backend import Backend, Claim, Command, Heartbeat, InstanceFilter, InstanceRecord, Outcome, Selectors
from durable_core.hub import (
    STEAL_AFTER_US,
    Beat,
    Grant,
    State,
    decide,
    eligible_tasks,
    eligible_turns,
    is_suspect_task,
    next_due,
    query,
    read_history,
    record_of,
)
from durable_core.hub.effects import Effect
from durable_core.hub.eligibility import claimable_since
from durable_core.testing.simulation.invariants import Invariants, snapshot


class Oracle:
    """``findings``: what was wrong. After the first one the hub and the store are no longer the same, and nothing more is looked at."""

    def __init__(self, limits: store.Capabilities) -> None:
        self.hub = State(limits=limits)
        self.findings: list[str] = []
        self.commits = 0
        self._invariants = Invariants(self.hub)

    # ── what took effect ──────────────────────────────────────────────────────────────────────────────────────

    def applied(self, commands: Sequence[Command], outcomes: Sequence[Outcome], now_us: int) -> None:
        for command, outcome in zip(commands, outcomes, strict=True):
            expected = self._decide(command, now_us)
            self._compare(command, _plain(outcome), _plain(expected))
            self.commits += isinstance(command, store.CommitTurn) and outcome.status is store.OutcomeStatus.OK

    def claimed(self, grant: Grant, claim: Claim, turns: int, tasks: int, now_us: int) -> None:
        """``grant``: what was handed out."""
        worker = self.hub.workers.get(grant.worker)
        if worker is None or worker.claim_id != grant.claim_id:
            self._check_choice(grant, turns, tasks, now_us)
        expected = self._decide(grant, now_us)
        self._compare(grant, (claim.turns, claim.tasks), (expected.turns, expected.tasks))
        due = next_due(self.hub, now_us)
        self._compare(grant, ("something falls due", due is None or (claim.next_due_us or due + 1) <= due), ("something falls due", True))

    def beaten(self, beat: Beat, heartbeat: Heartbeat, now_us: int) -> None:
        expected = self._decide(beat, now_us)
        told, due = (heartbeat.alive, sorted(heartbeat.cancelled)), (expected.alive, sorted(expected.cancelled))
        self._compare(beat, told, due)

    # ── what was read ─────────────────────────────────────────────────────────────────────────────────────────

    def read_records(self, ids: Sequence[str], records: Sequence[InstanceRecord | None]) -> None:
        self._compare(f"reading {list(ids)}", list(records), [record_of(self.hub, id) for id in ids])

    def read_histories(self, ranges: Sequence[store.HistoryRange], pages: Sequence[store.HistoryPage]) -> None:
        self._compare(f"reading the history {list(ranges)}", list(pages), [read_history(self.hub, range) for range in ranges])

    def existing(self) -> set[tuple[str, str]]:
        """Orchestrations that are there: instance, execution."""
        return {(row.instance, row.execution) for row in self.hub.instances.values() if not row.is_entity}

    def read_pages(self, before: set[tuple[str, str]], records: Sequence[InstanceRecord]) -> None:
        """Of a query of all orchestrations, which took its time: what was there ``before`` and still is was given once."""
        there = before & self.existing()
        found = [(record.instance, record.execution) for record in records]
        self._compare("a query page by page while others write (QUERY)", sorted(each for each in found if each in there), sorted(there))

    async def check_everything(self, backend: Backend) -> None:
        """Pages, records and histories, as they are now."""
        found: list[InstanceRecord] = []
        for entities in (False, True):
            cursor, more, wanted = None, True, InstanceFilter(entities=entities)
            records: list[InstanceRecord] = []
            while more:
                page = await backend.query_instances(wanted, limit=3, cursor=cursor)
                records += page.records
                cursor, more = page.cursor, page.cursor is not None
            self._compare("a query page by page (QUERY)", records, list(query(self.hub, wanted, limit=1_000_000).records))
            found += records
        ids = list(self.hub.instances)
        self.read_records(ids, await backend.get_instances(ids))
        ranges = [store.HistoryRange(id) for id in ids]
        self.read_histories(ranges, await backend.read_history(ranges))

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, command: Any, now_us: int) -> Any:
        answer, effects = decide(self.hub, command, now_us)
        before = snapshot(self.hub) if effects and not self.findings else self.hub
        for effect in effects:
            effect.absorb(self.hub)
        if not self.findings:
            self._check(before, command, answer, effects, now_us)
        return answer

    def _check(self, before: State, command: Any, answer: Any, effects: list[Effect], now_us: int) -> None:
        try:
            self._invariants.check(before, command, answer, effects, now_us)
        except AssertionError as error:
            text = str(error) or str(traceback.extract_tb(error.__traceback__)[-1].line)
            self.findings.append(f"the hub breaks an invariant: {text}; at {_told(command)}")

    def _check_choice(self, grant: Grant, turns: int, tasks: int, now_us: int) -> None:
        hub, worker = self.hub, grant.worker
        eligible = eligible_turns(hub, worker, grant.selectors, now_us)
        open_tasks = eligible_tasks(hub, worker, grant.selectors)
        if tasks and open_tasks and is_suspect_task(hub.tasks[open_tasks[0]]):
            eligible = []
        wrong = [id for id in grant.turns if id not in eligible and not eligible_turns(hub, worker, grant.selectors, now_us, [id])]
        wrong += [id for id in grant.tasks if id not in open_tasks]
        self._compare(grant, ("not to be handed out", wrong), ("not to be handed out", []))
        counts = (bool(grant.turns), len(grant.tasks)), (bool(eligible[:turns]), len(open_tasks[:tasks]))
        self._compare(grant, ("turns and tasks handed out", counts[0]), ("turns and tasks handed out", counts[1]))
        since = {id: self._since(id, worker, grant.selectors, now_us) for id in eligible}
        youngest = max((since.get(id, 0) for id in grant.turns), default=0)
        passed = [id for id in eligible if id not in grant.turns and since[id] < youngest and since[id] + STEAL_AFTER_US < now_us]
        self._compare(grant, ("passed over", passed), ("passed over", []))

    def _since(self, id: str, worker: str, selectors: Selectors, now_us: int) -> int:
        return claimable_since(self.hub, id, worker, selectors, now_us) or 0

    def _compare(self, what: Any, told: Any, expected: Any) -> None:
        if told != expected and not self.findings:
            self.findings.append(f"the store does not say what it should, at {_told(what)}:\n    it says  {told}\n    expected {expected}")


def _plain(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.status, outcome.messages, outcome.more, outcome.turn, type(outcome.error)


def _told(command: Any) -> str:
    text = str(command)
    return text if len(text) <= 600 else text[:600] + " …"
