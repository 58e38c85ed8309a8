"""Histories that ran elsewhere, held against today's code: does an orchestration that is under way in production survive this change?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from durable_core.codec import decode_events, encode_event, join_events
from durable_core.errors import InstanceNotFoundError, NotRegisteredError
from durable_core.events import Event, ExecutionStarted
from durable_core.replay.machine import Execution
from durable_core.runtime.client.client import DurableClient
from durable_core.runtime.engine import DurableEngine

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class _Exported(msgspec.Struct):
    """Ids count: what an orchestrator draws (``new_uuid``, ``random``, the ids of its children) follows from them."""

    instance_id: str
    execution_id: str
    events: msgspec.Raw


async def export_history(client: DurableClient, instance_id: str) -> str:
    """The history of an instance as JSON, for ``replay_history``. It contains the payloads. Raises ``InstanceNotFoundError``."""
    while True:
        state = await client.get_instance(instance_id)
        if state is None:
            raise InstanceNotFoundError(instance_id, f"there is no instance {instance_id!r} (never started, or purged)")
        events = await client.get_history(instance_id)
        now = await client.get_instance(instance_id)
        if now is not None and now.execution_id == state.execution_id:  # otherwise it has continued as new meanwhile
            exported = _Exported(instance_id, state.execution_id, msgspec.Raw(join_events(map(encode_event, events))))
            return msgspec.json.format(msgspec.json.encode(exported), indent=1).decode()


def replay_history(engine: DurableEngine, history: str | bytes) -> None:
    """Run an orchestrator of this engine over a history that ``export_history`` gave. Nothing else runs: no activity, no store.

    Raises ``NonDeterminismError`` where the code asks for something else than what the history says, and what else a worker would report
    (``OrchestrationStuckError``, ``TurnTooLongError``); ``NotRegisteredError`` if the engine lacks the orchestrator.
    """
    exported = msgspec.json.decode(history, type=_Exported)
    execution = replay(engine, exported.instance_id, exported.execution_id, decode_events(bytes(exported.events)))
    try:
        execution.take_turn()
    finally:
        execution.close()


def replay(engine: DurableEngine, instance_id: str, execution_id: str, events: Sequence[Event]) -> Execution:
    """The execution after its history, for the caller to close. One that raises is closed: its ``finally`` blocks run now, on this thread."""
    started = events[0] if events else None
    if not isinstance(started, ExecutionStarted):
        raise ValueError(f"the history of {instance_id!r} does not begin with the start of an execution")
    orchestrator = engine._registry.orchestrator(started.name)
    if not orchestrator.known:
        raise NotRegisteredError(f"the history is one of orchestrator {started.name!r}, which this engine does not have")
    execution = Execution(orchestrator, engine._registry, instance_id, execution_id, python=_PYTHON)
    try:
        for _ in execution.replay(events):
            if execution.problem is not None:
                raise execution.problem
    except BaseException:
        execution.close()
        raise
    return execution
