"""What a process of its own does for the suite: ``python -m durable_conformance.child WHAT SPEC LOCATION [JSON]``.

It opens the store at a harness' ``location`` and prints one JSON value a line. Those that are to be killed say "ready" first.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from durable_conformance.faults import Lent
from durable_conformance.harness import attach_to
from durable_conformance.programs import new_engine
from durable_conformance.workload import take_part
from durable_core.backend import (
    Backend,
    ClaimedTurn,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Message,
    NewTask,
    RecordUpdate,
    Selectors,
    SendMessage,
)

_HOUR_US = 3_600_000_000


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def look(_backend: Backend) -> None:
    """To open it was all."""
    say("opened")


async def workload(backend: Backend, *, name: str, seed: int, **plan: Any) -> None:
    """``workload.py``."""
    for note in await take_part(backend, name, dice=random.Random(f"{seed} {name}"), **plan):
        say(note)


async def drain(backend: Backend, *, name: str, stop: str) -> None:
    """Run tasks until there are none; the ids of those that were run."""
    await backend.heartbeat(name, ttl_us=_HOUR_US)
    number = 0
    while True:
        number += 1
        claim = await backend.claim(name, claim_id=f"{name} {number}", turns=0, tasks=7, selectors=Selectors(activities=frozenset({"act"})))
        if not claim.tasks:
            return
        for task in claim.tasks:
            say(task.id)
        await backend.apply([CompleteTask(task.id, Message(task.id, task.instance, stop.encode())) for task in claim.tasks])


async def commit(backend: Backend, *, instance: str) -> None:
    """Commit turns that touch every table, until killed; says which version the store has acknowledged."""
    await backend.heartbeat("victim", ttl_us=_HOUR_US)
    created = CreateInstance(instance, "execution", "orch", b"", "request", worker="victim")
    [outcome, _] = await backend.apply([created, CreateInstance("other", "other execution", "other", b"", "request of other")])
    turn = outcome.turn
    assert turn is not None
    say("ready")
    while True:
        await backend.apply([everything(turn)])
        turn = replace(turn, version=turn.version + 1)
        say(turn.version)


def everything(turn: ClaimedTurn) -> CommitTurn:
    """A turn with one of each. Its version is in all of them."""
    number = str(turn.version)
    return CommitTurn(
        turn.instance,
        turn.execution,
        turn.epoch,
        turn.version,
        "victim",
        f"commit {number}",
        append=number.encode(),
        append_count=1,
        tasks=(NewTask(f"task {number}", "act", number.encode()),),
        messages=(Message(f"message {number}", "other", number.encode()),),
        creates=(CreateInstance(f"child {number}", f"execution {number}", "child", b""),),
        record=RecordUpdate(custom_status=number.encode()),
        hold_us=_HOUR_US,
    )


async def send(backend: Backend, *, target: str, count: int, name: str) -> None:
    """Messages in order, one call each."""
    for number in range(count):
        await backend.apply([SendMessage(Message(f"{name} {number}", target, b"", sender=name))])
    say("sent")


async def work(backend: Backend, *, log: str) -> None:
    """An engine with a worker, until killed."""
    async with new_engine(Path(log)).open(backend=Lent(backend)):
        say("ready")
        await asyncio.Event().wait()


_WHAT: dict[str, Callable[..., Awaitable[None]]] = {
    "look": look,
    "workload": workload,
    "drain": drain,
    "commit": commit,
    "send": send,
    "work": work,
}


async def main(what: str, spec: str, location: str, options: str = "{}") -> None:
    harness = attach_to(spec, location)
    try:
        await _WHAT[what](await harness.open(), **json.loads(options))
    finally:
        await harness.destroy()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
