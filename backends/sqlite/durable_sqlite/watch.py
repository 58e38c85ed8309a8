"""What other processes (and other handles in this one) do: looked for now and then, while somebody listens for wake-ups.

``PRAGMA data_version`` changes when another connection has committed; asking takes some microseconds and reads no page. Asked
on the *writing* connection, so that this handle's own commits, which it announces itself, do not count.
"""

from __future__ import annotations

import sqlite3
import time

from durable_sqlite.connection import scalar
from durable_sqlite.locks import Lives
from durable_sqlite.queries import query
from durable_sqlite.rows import parse

__all__ = ["Watch"]

_BUSY_S = 0.005
"""Between looks for a second after something happened."""
_IDLE_S = 0.035
"""Otherwise: a wake-up within 50 ms, for less than one half per cent of a processor (nearly all of it for waking up the thread)."""
_DEATHS_S = 0.25
"""Between looks at the locks of other incarnations."""


class Watch:
    """To be asked by the writer thread, between transactions."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._version: int | None = None
        self._last_change_s = 0.0
        self._next_deaths_s = 0.0
        self._known_dead: set[str] = set()

    @property
    def pause_s(self) -> float:
        """Until the next look."""
        return _BUSY_S if time.monotonic() < self._last_change_s + 1 else _IDLE_S

    def look(self, connection: sqlite3.Connection) -> bool:
        """Whether there is a reason to look for work: somebody else committed, or an incarnation was found dead."""
        now_s = time.monotonic()
        changed = self._changed(connection)
        if changed:
            self._last_change_s = now_s
        if now_s >= self._next_deaths_s:
            self._next_deaths_s = now_s + _DEATHS_S
            changed |= self._found_dead(connection)
        return changed

    def _changed(self, connection: sqlite3.Connection) -> bool:
        version = scalar(connection, "PRAGMA data_version")
        changed = self._version is not None and version != self._version
        self._version = version
        return changed

    def _found_dead(self, connection: sqlite3.Connection) -> bool:
        """Each death is told once; the claim that follows frees the leases."""
        workers = {id for id, _ in parse(connection.execute(query("load_hub")).fetchone()[0])[-1]}
        dead = {worker for worker in workers if self._lives.is_dead(worker)}
        new = dead - self._known_dead
        self._known_dead = dead
        return bool(new)
