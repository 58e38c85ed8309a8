"""After every step of a random program, every row of the database equals the model's: leases, inboxes, tasks and all that no method shows.

So a statement that touches a row too many or too few is caught at once, not when a later claim happens to notice.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from durable_conformance.machine import HubMachine
from durable_core.backend import Claim, Selectors
from durable_core.hub import DETAIL_KINDS, Needs, State
from durable_core.hub.eligibility import due_since, runnable
from durable_sqlite.options import parse_url
from durable_sqlite.rows import Partial
from durable_sqlite.store import capabilities_of
from durable_sqlite.testing import SqliteHarness, find_faults

_FOR_EVER_US = 1 << 62


def stored(connection: sqlite3.Connection) -> State:
    """The whole database as a state (histories apart: the machine compares them)."""
    part = Partial.begin(connection, capabilities_of(parse_url("sqlite:///x.db", {})))
    ids = {id for (id,) in connection.execute("SELECT id FROM instance")}
    messages = set(connection.execute("SELECT i.id, m.id FROM inbox AS m JOIN instance AS i ON i.key = m.target"))
    tasks = {id for (id,) in connection.execute("SELECT id FROM task")}
    seen = {id for (id,) in connection.execute("SELECT id FROM seen")}
    details = {(id, kind) for id in ids for kind in DETAIL_KINDS}
    needs = Needs(instances=ids, messages=messages, details=details, seen=seen)
    part.load(needs, _FOR_EVER_US)
    part.load_tasks(tasks, payloads=True)
    for worker in list(part.state.workers):
        part.load_last_claim(worker)
    return part.state


class Mirror(HubMachine):
    @staticmethod
    def new_harness() -> SqliteHarness:
        return SqliteHarness("sqlite:///:temp:?synchronous=normal")

    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.harness, SqliteHarness)
        self.path = Path(self.harness.url.removeprefix("sqlite:///").partition("?")[0])
        self.connection: sqlite3.Connection | None = None

    @invariant()
    def every_row_agrees(self) -> None:
        if self.connection is None:
            self.connection = sqlite3.connect(self.path)
        assert find_faults(self.connection) == []
        found, model = stored(self.connection), self.model
        assert (found.epoch, found.position, found.now_us) == (model.epoch, model.position, model.now_us)
        assert found.instances == model.instances
        assert found.details == model.details
        assert {id: inbox for id, inbox in found.inbox.items() if inbox} == {id: inbox for id, inbox in model.inbox.items() if inbox}
        assert dict(found.tasks) == dict(model.tasks)
        assert found.seen == model.seen
        assert found.workers == model.workers

    @invariant()
    def the_indexes_hold_what_may_be_claimed(self) -> None:
        """``wake_us`` and ``control_us`` say in SQL what ``due_since`` says in Python, looked at from a time when all messages are
        visible."""
        if self.connection is None:
            return
        for id, wake_us, control_us in self.connection.execute("SELECT id, wake_us, control_us FROM instance"):
            row, inbox = self.model.instances[id], self.model.inbox.get(id, {}).values()
            expected = due_since(row, inbox, _FOR_EVER_US) if runnable(row, _FOR_EVER_US) else None
            control = due_since(row, inbox, _FOR_EVER_US, admitted=False)
            assert (wake_us, control_us) == ((None, None) if row.claimed else (expected, control)), row

    def _check_choice(self, claim: Claim, worker: str, selectors: Selectors, turns: list[str], tasks: list[str]) -> None:
        assert [turn.instance for turn in claim.turns] == turns
        assert [task.id for task in claim.tasks] == tasks

    def teardown(self) -> None:
        if self.connection is not None:
            self.connection.close()
        super().teardown()


def test_every_row_agrees_with_the_model() -> None:
    run_state_machine_as_test(Mirror, settings=settings(max_examples=30, stateful_step_count=40))
