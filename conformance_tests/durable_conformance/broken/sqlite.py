"""The SQLite store's own code with a line left out, as long as a harness of this module exists."""

from __future__ import annotations

from typing import ClassVar

from durable_conformance.broken.edited import Edits, changed, unfenced
from durable_conformance.broken.flaw import breaks
from durable_conformance.properties import Property
from durable_sqlite import queries, steps, tables
from durable_sqlite.testing import SqliteHarness

__all__ = ["Twin"]


class _Broken(SqliteHarness):
    """``edits``: (variable of ``tables`` that holds a query, its name, what is replaced, by what)."""

    edits: ClassVar[list[tuple[str, str, str, str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.changes = Edits()
        for variable, name, old, new in self.edits:
            whole = queries.query(name)
            queries._queries()[name] = changed(whole, old, new)
            self.changes.put(tables, variable, queries.Rows(name))
            queries._queries()[name] = whole

    async def destroy(self) -> None:
        self.changes.undo()
        await super().destroy()


class Twin(_Broken):
    """Queries are replaced by themselves: it passes."""

    edits: ClassVar = [("_PUT_INSTANCES", "put_instances", "epoch = excluded.epoch,", "epoch = excluded.epoch,")]


@breaks(Property.FENCE, "test_claim or test_commit")
class EpochNotSaved(_Broken):
    """The SQL that writes an instance leaves out the epoch: who lost a lease commits as if it had it."""

    edits: ClassVar = [("_PUT_INSTANCES", "put_instances", "epoch = excluded.epoch,", "")]


@breaks(Property.ATTEMPTS, "test_claim")
class AttemptNotSaved(_Broken):
    """The SQL that writes an instance leaves out the attempt."""

    edits: ClassVar = [("_PUT_INSTANCES", "put_instances", "attempt = excluded.attempt,", "")]


@breaks(Property.PURGE, "test_purge")
class TasksSurviveThePurge(_Broken):
    """The SQL that deletes an instance's tasks deletes none."""

    edits: ClassVar = [("_DROP_TASKS_OF", "drop_tasks_of", "JOIN task AS t ON", "JOIN task AS t ON 0 AND")]


@breaks(Property.RETRY, "test_messages")
class NothingRemembered(_Broken):
    """The SQL that remembers ids writes none."""

    edits: ClassVar = [("_REMEMBER", "remember", "column1 IS NOT NULL", "0")]


@breaks(Property.FENCE, "test_commit")
class FenceNotCompared(_Broken):
    """Between loading and writing nobody compares the fence."""

    def __init__(self) -> None:
        super().__init__()
        self.changes.put(steps, "decide", unfenced)
