"""A worker of ``test_azurite.py``, there to be killed: ``python -m tests.crash.toil work --url … --log … --stop …``.

Its activities write to the effect log (``journal.py``) when they start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from durable_core import ActivityContext, DurableEngine, OrchestrationContext, WorkerOptions, activity, orchestrator
from tests.crash.journal import Journal

FIVE = 5
journal = Journal()


@activity
async def toil(ctx: ActivityContext, label: str, value: int, seconds: float) -> int:
    journal.effect(ctx, label)
    await asyncio.sleep(seconds)
    return value


@orchestrator
async def five(ctx: OrchestrationContext, number: int) -> int:
    for k in range(FIVE):
        number += await ctx.call_activity(toil, f"step {k}", 1, 0.01)
    return number


@orchestrator
async def fan(ctx: OrchestrationContext, width: int, seconds: float) -> int:
    return sum(await asyncio.gather(*(ctx.call_activity(toil, f"wide {k}", k, seconds) for k in range(width))))


def new_engine(**options: Any) -> DurableEngine:
    engine = DurableEngine(options=WorkerOptions(**options))
    engine.register(toil, five, fan)
    return engine


async def main(given: argparse.Namespace) -> None:
    journal.report("process", os.getpid())
    async with new_engine(**json.loads(given.options)).open(given.url):
        journal.report("ready")
        while not given.stop.exists():
            await asyncio.sleep(0.05)
    sys.stdout.write("{}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["work"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--report", type=int, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--options", default="{}")
    given = parser.parse_args()
    journal.open(given.log, None, given.report)
    asyncio.run(main(given))
