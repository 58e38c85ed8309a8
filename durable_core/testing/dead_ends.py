"""What to say when an orchestration is waited for and nothing will ever happen again."""

from __future__ import annotations

from itertools import islice

from durable_core import backend as store
from durable_core.errors import DurableError
from durable_core.replay import source
from durable_core.replay.machine import Execution
from durable_core.runtime.session import Session
from durable_core.runtime.worker.worker import Worker
from durable_core.testing.clock import HORIZON_YEARS

_TOLD_MAX = 10


class NothingToWaitForError(DurableError):
    """In a test: somebody waits for an orchestration, and nothing is under way or due that could bring it on. The message names every
    orchestration that has not ended and what it waits for."""


async def dead_end(session: Session) -> NothingToWaitForError:
    unended = frozenset(store.InstanceStatus) - store.ENDED
    records = [record async for record in session.reader.records(store.InstanceFilter(unended)) if record.start]
    told = "; ".join(_state_of(record, session) for record in islice(records, _TOLD_MAX))
    more = f"; and {len(records) - _TOLD_MAX} more" if len(records) > _TOLD_MAX else ""
    advice = "Send what is waited for first, or from a task that runs beside this one and sleeps by env.sleep(...)"
    return NothingToWaitForError(
        f"nothing is left to wait for: nothing is under way, nor due within {HORIZON_YEARS} years. {told}{more}. {advice}"
    )


def _state_of(record: store.InstanceRecord, session: Session) -> str:
    who = f"{record.instance!r} ({record.name}, {record.status.name})"
    live = session.worker.turns.find(record.instance, record.execution) if isinstance(session.worker, Worker) else None
    if record.problem:
        return f"{who} cannot go on: {record.problem}"
    if record.name not in session.registry.orchestrators:
        return f"{who}: this engine knows no such orchestrator"
    if live is None or live.machine is None:
        return f"{who} is not in hand"
    return f"{who} waits for {_outstanding(live.machine)}"


def _outstanding(machine: Execution) -> str:
    events = [f"the external event {name!r}" for name in machine.external_events.awaited]
    places = [source.await_line(task.get_coro()) for task in machine.loop.tasks if not task.done()]
    return " and ".join(events or ["what it called"]) + f" at {'; '.join(places)}"
