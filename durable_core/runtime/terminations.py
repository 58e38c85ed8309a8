"""Ending an instance from outside: its children are told in the same commit, and its parent too."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from durable_core.actions import Turn
from durable_core.backend import ENDED, Backend, CommitTurn, InstanceFilter, InstanceStatus, Message
from durable_core.codec import decode_event
from durable_core.events import ExecutionStarted, ExecutionTerminated
from durable_core.runtime.commits import build_commit, termination
from durable_core.runtime.live import Arrival, LiveInstance

__all__ = ["build_termination"]

_RUNNING = frozenset(InstanceStatus) - ENDED


async def build_termination(
    backend: Backend, event: ExecutionTerminated, live: LiveInstance, started: ExecutionStarted | None, *, worker: str, arrivals: list[Arrival]
) -> CommitTurn:
    if started is None:
        started = await _started(backend, live.fence.instance)
    commit = build_commit(
        Turn((event,), ending=event),
        live.fence,
        worker=worker,
        name=live.name,
        started=started,
        first=False,
        consumes=[a.message.id for a in arrivals if a.message is not None],
        settles=[a.lease.id for a in arrivals if a.lease is not None],
        claims_task=lambda _name: False,
        problem=None,
        hold_us=0,
    )
    if not event.recursive:
        return commit
    children = await _children(backend, live.fence.instance, live.fence.execution)
    return evolve(commit, messages=(*commit.messages, *children))


async def _started(backend: Backend, instance: str) -> ExecutionStarted | None:
    [record] = await backend.get_instances([instance])
    event: Any = decode_event(record.start, 0) if record is not None else None
    return event if isinstance(event, ExecutionStarted) else None


async def _children(backend: Backend, instance: str, execution: str) -> list[Message]:
    messages: list[Message] = []
    cursor: str | None = None
    while True:
        page = await backend.query_instances(InstanceFilter(statuses=_RUNNING, parent=instance), limit=1_000, cursor=cursor)
        messages += [termination(record.instance, f"{execution}>terminate:{record.execution}", instance) for record in page.records]
        cursor = page.cursor
        if cursor is None:
            return messages
