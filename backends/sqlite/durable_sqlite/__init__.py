"""The store in one SQLite file: the default, embedded, without a server.

    backend.py      the nine methods
    store.py        what an open handle consists of
    writer.py       the thread that writes: group commit
      commit.py       one transaction; a batch that fails
      steps.py        what happens inside: commands, a claim, a heartbeat
        rows.py         rows into a partial ``hub.State``
        claims.py       who is handed what
        tables.py       effects into rows
        payloads.py     large payloads, fetched when they are handed out
    reads.py        records, pages, histories
    wakeups.py      who listens; watch.py: what other processes did
    locks.py        proof of death; the writers' queue
    connection.py   opening a file; migrate.py: its version; options.py: the URL
    queries.py      SQL by name, from sql/; errors.py: what SQLite's errors mean

The rules are those of ``durable_core.hub``: this package loads rows, lets the hub decide, and writes what it decided.
"""

from __future__ import annotations

from durable_sqlite.backend import SqliteBackend, open_backend
from durable_sqlite.options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteOptions", "open_backend"]
