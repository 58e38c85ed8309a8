"""Failpoints: a process that kills itself at one of its commits, and says what it does in between.

``before:7`` is just before its seventh commit, ``after:7`` just after it, when nobody has got the reply.
"""

from __future__ import annotations

import os
import signal
import sqlite3

from attrs import define, field

from durable_core.runtime.worker import activities
from durable_core.runtime.worker.live import TaskLease
from durable_sqlite.commit import Committer
from durable_sqlite.connection import scalar
from durable_sqlite.steps import Steps
from tests.crash.journal import Journal

__all__ = ["Commits", "watch_activities", "watch_commits"]


@define
class Commits:
    """Of this process so far: those that wrote something, and SQLite's ``synchronous`` at them (2 is FULL)."""

    count: int = 0
    synchronous: set[int] = field(factory=set)


def watch_commits(point: str | None, journal: Journal) -> Commits:
    """Report each durable commit, and die at the one that ``point`` names."""
    where, _, number = (point or "nowhere:0").partition(":")
    original = Committer._commit
    commits = Commits()

    def commit(self: Committer, connection: sqlite3.Connection, steps: Steps) -> None:
        if not steps.wrote:
            original(self, connection, steps)
            return
        commits.count += 1
        commits.synchronous.add(scalar(connection, "PRAGMA synchronous"))
        here = commits.count == int(number)
        if here and where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, connection, steps)
        journal.report("commit")
        if here and where == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    Committer._commit = commit  # type: ignore[method-assign]
    return commits


def watch_activities(journal: Journal) -> None:
    """For activities that keep no journal themselves: an effect whenever one is about to run."""
    original = activities.ActivityRunner._run

    async def run(self: activities.ActivityRunner, lease: TaskLease) -> None:
        journal.effect(activities._context(lease), lease.task.id)
        await original(self, lease)

    activities.ActivityRunner._run = run  # type: ignore[method-assign]
