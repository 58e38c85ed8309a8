"""Failpoints: a process that kills itself at one of its commits, and says what it does in between.

``before:7`` is just before its seventh commit, ``after:7`` just after it, when nobody has got the reply.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from attrs import define, field

from durable_core.runtime.worker import activities
from durable_core.runtime.worker.live import TaskLease
from durable_postgres.lanes import Connection, Lane
from durable_postgres.steps import Steps as PostgresSteps
from durable_postgres.tables import Changes
from durable_sqlite.commit import Committer
from durable_sqlite.connection import scalar
from durable_sqlite.steps import Steps
from tests.crash.journal import Journal

__all__ = ["Commits", "watch_activities", "watch_commits"]


@define
class Commits:
    """Of this process so far: those that wrote something, and SQLite's ``synchronous`` at them (2 is FULL)."""

    journal: Journal
    where: str
    number: int
    count: int = 0
    synchronous: set[int] = field(factory=set)

    def begin(self) -> None:
        """The next one is about to be made."""
        if (self.where, self.number) == ("before", self.count + 1):
            os.kill(os.getpid(), signal.SIGKILL)

    def made(self) -> None:
        self.count += 1
        self.journal.report("commit")
        if (self.where, self.number) == ("after", self.count):
            os.kill(os.getpid(), signal.SIGKILL)


def watch_commits(point: str | None, journal: Journal) -> Commits:
    """Report each durable commit, and die at the one that ``point`` names."""
    where, _, number = (point or "nowhere:0").partition(":")
    commits = Commits(journal, where, int(number))
    _watch_sqlite(commits)
    _watch_postgres(commits)
    return commits


def _watch_sqlite(commits: Commits) -> None:
    original = Committer._commit

    def commit(self: Committer, connection: sqlite3.Connection, steps: Steps) -> None:
        if not steps.wrote:
            original(self, connection, steps)
            return
        commits.synchronous.add(scalar(connection, "PRAGMA synchronous"))
        commits.begin()
        original(self, connection, steps)
        commits.made()

    Committer._commit = commit  # type: ignore[method-assign]


def _watch_postgres(commits: Commits) -> None:
    """A write commits by itself, or when the transaction around it does: in either case, before ``_take`` returns."""
    original_write, original_take = PostgresSteps._write, PostgresSteps._take
    written: ContextVar[list[Changes]] = ContextVar("written")

    async def write(self: PostgresSteps, connection: Connection, changes: Changes) -> None:
        if changes.anything:
            commits.begin()
        await original_write(self, connection, changes)
        if changes.anything:
            written.get().append(changes)

    async def take(self: PostgresSteps, lane: Lane, step: Callable[[Connection, bool], Awaitable[Any]]) -> Any:
        written.set([])
        taken = await original_take(self, lane, step)
        if written.get():
            commits.made()
        return taken

    PostgresSteps._write, PostgresSteps._take = write, take  # type: ignore[method-assign]


def watch_activities(journal: Journal) -> None:
    """For activities that keep no journal themselves: an effect whenever one is about to run."""
    original = activities.ActivityRunner._run

    async def run(self: activities.ActivityRunner, lease: TaskLease) -> None:
        journal.effect(activities._context(lease), lease.task.id)
        await original(self, lease)

    activities.ActivityRunner._run = run  # type: ignore[method-assign]
