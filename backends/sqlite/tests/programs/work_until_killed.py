"""Hold leases, or commit turns as fast as possible, until killed. Usage: work_until_killed.py PATH hold|commit|fork"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from durable_core.backend import CommitTurn, CreateInstance, NewTask, Selectors
from durable_sqlite import SqliteBackend, open_backend

HOUR_US = 3_600_000_000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def hold(backend: SqliteBackend) -> None:
    """One instance held with a running activity, one claimed."""
    for instance in ("held", "claimed"):
        await backend.apply([CreateInstance(instance, f"e-{instance}", "orch", b"1")])
    claim = await backend.claim("victim", claim_id="c", turns=5, tasks=5, selectors=Selectors(frozenset({"orch"})))
    (turn,) = [turn for turn in claim.turns if turn.instance == "held"]
    task = NewTask("t", "act", b"1", claim=True)
    commit = CommitTurn("held", turn.execution, turn.epoch, turn.version, "victim", "k", b"[1]", 1, tasks=(task,), hold_us=HOUR_US)
    await backend.apply([commit])


async def commit(backend: SqliteBackend) -> None:
    """Says each version that was acknowledged."""
    (outcome,) = await backend.apply([CreateInstance("i", "e", "orch", b"1", worker="victim")])
    assert outcome.turn is not None
    say("ready")
    for version in range(1_000_000):
        turn = CommitTurn("i", "e", outcome.turn.epoch, version, "victim", f"k{version}", b"[" + b"1," * 500 + b"1]", 1, hold_us=HOUR_US)
        await backend.apply([turn])
        say(str(version + 1))


async def main(path: str, how: str) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await backend.open()
    await backend.heartbeat("victim", ttl_us=HOUR_US)
    if how == "commit":
        await commit(backend)
    await hold(backend)
    reading, writing = os.pipe()
    child = os.fork() if how == "fork" else 1
    if child == 0:
        os.write(writing, b"!")  # it has run: what a fork leaves to the child is done
        time.sleep(60)  # noqa: ASYNC251 # an activity's process that outlives us
        os._exit(0)
    if how == "fork":
        os.read(reading, 1)
    say(f"ready {child}")
    await asyncio.sleep(60)


asyncio.run(main(*sys.argv[1:]))
