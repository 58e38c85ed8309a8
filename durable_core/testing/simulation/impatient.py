"""A client that goes away while it starts an orchestration, as a web handler with a time limit does, and comes back to see."""

from __future__ import annotations

import asyncio
from typing import Any

from durable_core.runtime.client.client import DurableClient
from durable_core.testing.simulation.faults import Plan

_PATIENCE_S = 0.012
"""A start and its answer take about that long."""


class ImpatientClient(DurableClient):
    """Whether the start took effect or not, the second one finds what there is."""

    plan: Plan

    async def schedule_new_orchestration(self, fn: Any, /, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        id: str = options.get("instance_id") or ""
        dice = self.plan.hit("deserted_start", "clients") if id and "reuse_policy" not in options else None
        if dice is not None and await self.get_instance(id) is None:
            try:
                async with asyncio.timeout(dice.random() * _PATIENCE_S):
                    return await super().schedule_new_orchestration(fn, *args, **options)
            except TimeoutError:
                options["reuse_policy"] = "return_existing"
        return await super().schedule_new_orchestration(fn, *args, **options)
