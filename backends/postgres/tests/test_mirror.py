"""After every step of a random program, every row of the database equals the model's: leases, inboxes, tasks and all that no method shows.

So a statement that touches a row too many or too few is caught at once, not when a later claim happens to notice. Positions have gaps
here and none in the model: their order is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from msgspec.structs import replace

from durable_conformance.machine import HubMachine
from durable_core.backend import Capabilities
from durable_core.hub import DETAIL_KINDS, Needs, State
from durable_core.hub.eligibility import due_since, runnable
from durable_postgres.lanes import connect
from durable_postgres.options import parse_url
from durable_postgres.queries import query
from durable_postgres.rows import Found, Partial, load_arguments
from durable_postgres.testing import PostgresHarness

_FOR_EVER_US = 1 << 62


async def stored(connection: Any, limits: Capabilities) -> State:
    """The whole hub as a state (histories apart: the machine compares them)."""

    async def texts(sql: str) -> list[str]:
        return [row[0].decode() for row in await connection.fetch(sql)]

    ids = await texts("SELECT id FROM instance")
    pairs = await connection.fetch("SELECT i.id, m.id FROM inbox AS m JOIN instance AS i ON i.key = m.target")
    needs = Needs(
        instances=set(ids),
        messages={(target.decode(), id.decode()) for target, id in pairs},
        tasks=set(await texts("SELECT id FROM task")),
        details={(id, kind) for id in ids for kind in DETAIL_KINDS},
        seen=set(await texts("SELECT id FROM seen")),
        all_workers=True,
    )
    part = Partial.begin(Found(await connection.fetch(query("load"), *load_arguments(needs, 0, 0))), limits)
    return part.state


def ranked(rows: Iterable[Any]) -> list[Any]:
    return [replace(row, position=0) for row in sorted(rows, key=lambda row: row.position)]


class Mirror(HubMachine):
    @staticmethod
    def new_harness() -> PostgresHarness:
        return PostgresHarness()

    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.harness, PostgresHarness)
        self.options = parse_url(self.harness.location, {})
        self.connection: Any = None

    @invariant()
    def every_row_agrees(self) -> None:
        if not self.handles:
            return
        if self.connection is None:
            self.connection = self.run(connect(self.options))
        assert self.run(self.connection.fetch(query("find_faults"))) == []
        found, model = self.run(stored(self.connection, self.model.limits)), self.model
        assert found.instances == model.instances
        assert found.details == model.details
        assert {id: ranked(inbox.values()) for id, inbox in found.inbox.items()} == {
            id: ranked(inbox.values()) for id, inbox in model.inbox.items() if inbox
        }
        payloads_apart = [replace(row, payload=b"") for row in ranked(model.tasks.values())]
        assert ranked(found.tasks.values()) == payloads_apart
        assert found.seen == model.seen
        assert {id: row.until_us for id, row in found.workers.items()} == {id: row.until_us for id, row in model.workers.items()}

    @invariant()
    def the_indexes_hold_what_may_be_claimed(self) -> None:
        """``wake_us`` and ``control_us`` say in SQL what ``due_since`` says in Python, looked at from a time when all messages are
        visible."""
        if self.connection is None:
            return
        rows: list[asyncpg.Record] = self.run(self.connection.fetch("SELECT id, wake_us, control_us FROM instance"))
        for id, wake_us, control_us in rows:
            row, inbox = self.model.instances[id.decode()], self.model.inbox.get(id.decode(), {}).values()
            expected = due_since(row, inbox, _FOR_EVER_US) if runnable(row, _FOR_EVER_US) else None
            control = due_since(row, inbox, _FOR_EVER_US, admitted=False)
            assert (wake_us, control_us) == ((None, None) if row.claimed else (expected, control)), row

    def teardown(self) -> None:
        if self.connection is not None:
            self.run(self.connection.close())
        super().teardown()


def test_every_row_agrees_with_the_model() -> None:
    health = settings(max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Mirror, settings=health)
