"""One of several processes that create instances and drain them together. Usage: share_the_work.py PATH NUMBER PROCESSES INSTANCES

Each instance takes two turns with an activity in between. Prints one line a turn that it committed: instance, version.
"""

from __future__ import annotations

import asyncio
import sys

from msgspec.structs import replace

from durable_core.backend import (
    ClaimedTurn,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    InstanceFilter,
    InstanceStatus,
    Message,
    NewTask,
    OutcomeStatus,
    RecordUpdate,
    Selectors,
)
from durable_sqlite import SqliteBackend, open_backend

KNOWN = Selectors(frozenset({"orch"}), frozenset({"act"}))
ENDED = frozenset({InstanceStatus.COMPLETED})


async def main(path: str, number: int, processes: int, instances: int) -> None:
    backend = open_backend(f"sqlite:///{path}")
    await backend.open()
    worker = f"worker-{number}"
    await backend.heartbeat(worker, ttl_us=60_000_000)
    for index in range(instances):
        await backend.apply([CreateInstance(f"{number}-{index}", f"e{number}-{index}", "orch", b"1", f"r{number}-{index}")])
    round = 0
    while len((await backend.query_instances(InstanceFilter(statuses=ENDED), limit=10_000)).records) < processes * instances:
        round += 1
        claim = await backend.claim(worker, claim_id=f"{worker}-{round}", turns=5, tasks=5, selectors=KNOWN)
        await asyncio.gather(*(one_turn(backend, worker, turn) for turn in claim.turns))
        for task in claim.tasks:
            message = Message(task.id, task.instance, b"2", execution=task.execution)
            await backend.apply([CompleteTask(task.id, message)])
        if not claim.turns and not claim.tasks:
            await asyncio.sleep(0.01)
            await backend.heartbeat(worker, ttl_us=60_000_000)
    await backend.close()


async def one_turn(backend: SqliteBackend, worker: str, turn: ClaimedTurn) -> None:
    """The first schedules an activity, the second ends; between them the instance is free for every process."""
    fence = turn.instance, turn.execution, turn.epoch, turn.version
    commit = CommitTurn(*fence, worker, f"{turn.execution}/{turn.version}", b"[1]", 1)
    if turn.history_length == 0:
        commit = replace(commit, tasks=(NewTask(f"t-{turn.instance}", "act", b"1"),))
    else:
        consumes = tuple(message.id for message in turn.messages)
        commit = replace(commit, consumes=consumes, record=RecordUpdate(InstanceStatus.COMPLETED, output=b"3"))
    (outcome,) = await backend.apply([commit])
    assert outcome.status is OutcomeStatus.OK, outcome
    sys.stdout.write(f"{turn.instance} {turn.version}\n")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
