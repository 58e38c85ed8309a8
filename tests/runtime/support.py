"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from durable_core import DurableClient, DurableEngine, InstanceStatus, OrchestrationState, WorkerOptions

SECOND = timedelta(seconds=1)
PATIENCE = 20 * SECOND


async def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Ask again and again, a function or an async one, until the answer is true; give that answer."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found := await found if inspect.isawaitable(found) else found:
                return found
            await asyncio.sleep(0.01)


async def until_status(client: DurableClient, instance_id: str, status: InstanceStatus) -> OrchestrationState:
    async def state() -> OrchestrationState | None:
        found = await client.get_instance(instance_id)
        return found if found is not None and found.runtime_status is status else None

    found: OrchestrationState = await until(state)
    return found


def engine_with(*definitions: Any, **options: Any) -> DurableEngine:
    engine = DurableEngine(options=WorkerOptions(**{"first_backoff_s": 0.05, "last_backoff_s": 0.2, **options}))
    engine.register(*definitions)
    return engine
