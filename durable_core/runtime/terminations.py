"""What must be known to end an instance from outside without its history."""

from __future__ import annotations

from durable_core.backend import ENDED, Backend, InstanceFilter, InstanceStatus, Message
from durable_core.codec import decode_event
from durable_core.events import ExecutionStarted
from durable_core.runtime.commits import termination
from durable_core.runtime.live import Fence

_RUNNING = frozenset(InstanceStatus) - ENDED


async def started_event(backend: Backend, instance: str) -> ExecutionStarted | None:
    [record] = await backend.get_instances([instance])
    return decode_event(record.start, 0) if record is not None else None


async def children_to_terminate(backend: Backend, fence: Fence) -> list[Message]:
    messages: list[Message] = []
    cursor: str | None = None
    while True:
        page = await backend.query_instances(InstanceFilter(statuses=_RUNNING, parent=fence.instance), limit=1_000, cursor=cursor)
        messages += [
            termination(child.instance, f"{fence.execution}>terminate:{child.execution}", fence.instance) for child in page.records
        ]
        cursor = page.cursor
        if cursor is None:
            return messages
