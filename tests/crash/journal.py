"""What leaves a process that will be killed.

The *effect log* gets a line when an activity starts to do its effect: a file outside the store, which no crash of the store can take back.
It says whether, at that moment, the task was durable: asked on a connection of its own.

*Reports* go to an open descriptor: ``process`` with its id, ``open`` before the engine is opened, ``ready`` when it is, ``commit`` when a
commit has become durable, ``effect`` when an effect starts, ``scheduled`` and ``result`` when the client has been told so.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from durable_core import ActivityContext
from tests.crash.stores import Store

__all__ = ["Journal"]


class Journal:
    """Silent until it is opened."""

    def __init__(self) -> None:
        self._log = -1
        self._report = -1
        self._store: Store | None = None

    def open(self, log: Path, store: Store | None, report: int) -> None:
        """``store``: ask it at each effect whether the task is durable."""
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._store = store
        self._report = report

    def effect(self, ctx: ActivityContext, label: str) -> None:
        """One write, hence one line whoever else is writing."""
        durable = None if self._store is None else self._store.holds_task(ctx.attempt_key)
        line = {
            "instance": ctx.instance_id,
            "task": ctx.attempt_key,
            "label": label,
            "pid": os.getpid(),
            "at": time.time(),
            "durable": durable,
        }
        os.write(self._log, json.dumps(line).encode() + b"\n")
        self.report("effect")

    def report(self, what: str, value: float | None = None) -> None:
        """``value`` is the time unless it is given."""
        if self._report >= 0:
            os.write(self._report, f"{what} {time.time() if value is None else value}\n".encode())
