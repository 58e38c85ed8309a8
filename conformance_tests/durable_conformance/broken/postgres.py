"""The PostgreSQL store's own code with a line left out, as long as a harness of this module exists. Needs a server
(``durable_postgres.servers``)."""

from __future__ import annotations

from typing import ClassVar

from durable_conformance.broken.edited import Edits, changed, unfenced
from durable_conformance.broken.flaw import breaks
from durable_conformance.properties import Property
from durable_postgres import migrate, steps
from durable_postgres.queries import migrations
from durable_postgres.testing import PostgresHarness

__all__ = ["Twin"]


class _Broken(PostgresHarness):
    """``edits``: (what is replaced in the schema's script, by what). The script has the functions that the store calls."""

    edits: ClassVar[list[tuple[str, str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.changes = Edits()
        *older, script = migrations()
        for old, new in self.edits:
            script = changed(script, old, new)
        self.changes.put(migrate, "migrations", lambda: (*older, script))

    async def destroy(self) -> None:
        self.changes.undo()
        await super().destroy()


class Twin(_Broken):
    """Lines are replaced by themselves: it passes."""

    edits: ClassVar = [("epoch = c.epoch, ", "epoch = c.epoch, "), ("i.stamp = l.stamp", "i.stamp = l.stamp")]


@breaks(Property.FENCE, "test_claim or test_commit")
class EpochNotSaved(_Broken):
    """The function that writes an instance leaves out the epoch: who lost a lease commits as if it had it."""

    edits: ClassVar = [("epoch = c.epoch, ", "")]


@breaks(Property.FENCE, "test_commit")
class FenceNotCompared(_Broken):
    """Between loading and writing nobody compares the fence."""

    def __init__(self) -> None:
        super().__init__()
        self.changes.put(steps, "decide", unfenced)


@breaks(Property.LEASE, "test_concurrency")
class StampNotCompared(_Broken):
    """What was decided on an instance as it was is written over what others have made of it since."""

    edits: ClassVar = [("i.stamp = l.stamp AS same", "true AS same")]


@breaks(Property.LEASE, "test_concurrency")
class StampOfTasksNotCompared(_Broken):
    """The same for tasks: two workers run one."""

    edits: ClassVar = [("t.stamp = l.stamp AS same", "true AS same")]


@breaks(Property.RETRY, "test_messages")
class NothingRemembered(_Broken):
    """Ids that have to be remembered are not written."""

    edits: ClassVar = [("FROM unnest(seen_ids) AS s", "FROM unnest(seen_ids) AS s WHERE false")]


@breaks(Property.PROGRESS, "test_progress or test_claim")
class NobodyLearnsOfMessages(_Broken):
    """A message does not change when its target has something to do."""

    edits: ClassVar = [("IF cardinality(inboxes) > 0 THEN", "IF false THEN")]
