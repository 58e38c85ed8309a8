"""The store in PostgreSQL: many workers on many machines, several task hubs in one database.

    backend.py      the nine methods
    store.py        what an open handle consists of
    steps.py        a batch of commands, a claim, a heartbeat: load, decide, write
      rows.py         rows into a partial ``hub.State``
      tables.py       what became of them, as arguments of the SQL function "write"
      claims.py       what a claim asks for, and what it chooses
      payloads.py     large payloads, fetched when they are handed out
    reads.py        records, pages, histories
    lives.py        proof of death, and the connection that listens
    wakeups.py      who is told, and how others are told
    lanes.py        connections; errors.py: what PostgreSQL's errors mean
    options.py      the URL; migrate.py: the schema's version; queries.py: SQL by name, from sql/
    testing.py      hubs for tests, and the conformance kit's harness; servers.py: a throw-away server

The rules are those of ``durable_core.hub``: this package loads rows without locks, lets the hub decide, and writes what it decided if
nothing has changed meanwhile (docs/decisions/0012).
"""

from __future__ import annotations

from durable_postgres.backend import PostgresBackend, open_backend
from durable_postgres.options import PostgresOptions

__all__ = ["PostgresBackend", "PostgresOptions", "open_backend"]
