"""The SQLite store's own code with a line left out, as long as a harness of this module exists."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec.structs import replace

from durable_conformance.broken.flaw import breaks
from durable_conformance.properties import Property
from durable_core.backend import CommitTurn
from durable_core.hub import State, decide
from durable_sqlite import queries, steps, tables
from durable_sqlite.testing import SqliteHarness

__all__ = ["Twin"]


class _Broken(SqliteHarness):
    """``edits``: (variable of ``tables`` that holds a query, its name, what is replaced, by what)."""

    edits: ClassVar[list[tuple[str, str, str, str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self._whole: list[tuple[Any, str, Any]] = []
        for variable, name, old, new in self.edits:
            whole = queries.query(name)
            assert whole.count(old) == 1, f"{old!r} is not in {name} any more"
            queries._queries()[name] = whole.replace(old, new)
            self.put(tables, variable, queries.Rows(name))
            queries._queries()[name] = whole

    def put(self, module: Any, variable: str, value: Any) -> None:
        self._whole.append((module, variable, getattr(module, variable)))
        setattr(module, variable, value)

    async def destroy(self) -> None:
        for module, variable, value in reversed(self._whole):
            setattr(module, variable, value)
        self._whole.clear()
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


def _unfenced(state: State, command: Any, now_us: int) -> Any:
    row = state.instances.get(command.instance) if isinstance(command, CommitTurn) else None
    if row is not None:
        command = replace(command, execution=row.execution, epoch=row.epoch, version=row.version)
    return decide(state, command, now_us)


@breaks(Property.FENCE, "test_commit")
class FenceNotCompared(_Broken):
    """Between loading and writing nobody compares the fence."""

    def __init__(self) -> None:
        super().__init__()
        self.put(steps, "decide", _unfenced)
