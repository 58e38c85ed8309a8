"""Record golden histories: ``python -m tests.golden.record VERSION`` writes what is missing in ``tests/golden/histories/VERSION``.

Before a release, on the oldest Python that is supported. What is there is never written again: every later release must replay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from durable_core import DurableClient, DurableEngine, OrchestrationFailedError, OrchestrationHandle
from durable_core.backend import Command, CommitTurn, Outcome, OutcomeStatus
from durable_core.codec import decode_events
from durable_core.events import Event, ExecutionStarted
from durable_core.testing.memory import MemoryBackend
from examples import parallel_processing
from examples.catalogue import EXAMPLES, load
from examples.index_stdlib import workflow
from examples.index_stdlib.records import Job
from tests.examples.sizes import SMALL
from tests.golden import programs
from tests.golden.files import HISTORIES, Golden

Drive = Callable[[DurableClient], Awaitable[None]]

TREE = {
    "tree/one.py": "import os\nimport sys\n\n\ndef f() -> None: ...\n",
    "tree/pkg/__init__.py": "from os import path\n",
    "tree/pkg/broken.py": "def broken(:\n",
    "tree/pkg/two.py": "class C:\n    async def g(self) -> None:\n        import json\n",
    "tree/three.py": "",
}


async def drive_index(client: DurableClient) -> None:
    """Three chunks, a file that does not parse, and a chunk that is left over when they are reduced by pairs."""
    await (await client.schedule_new_orchestration(workflow.index_tree, Job("tree", 2), instance_id="index")).result()


async def drive_parallel_processing(client: DurableClient) -> None:
    await (await client.schedule_new_orchestration(parallel_processing.parallel_processing, 3, instance_id="parallel")).result()


async def drive_programs(client: DurableClient) -> None:
    start = client.schedule_new_orchestration
    handles: list[OrchestrationHandle[Any]] = [
        await start(programs.fan_ins, 4, instance_id="fan-ins"),
        await start(programs.timers, instance_id="timers"),
        await start(programs.failures, instance_id="failures"),
        await start(programs.children, instance_id="children"),
        await start(programs.entities, "savings", instance_id="entities"),
        await start(programs.locks, 3, instance_id="locks"),
    ]
    for handle in handles:
        await handle.result()
    failed = await start(programs.fails, 1, instance_id="fails")
    with contextlib.suppress(OrchestrationFailedError):
        await failed.result()

    generations = await start(programs.generations, 2, instance_id="generations")
    for item in range(3):
        await client.raise_event(generations.id, "ITEM", item)
    await generations.result()

    greeted = await start(programs.waits, "greeting", instance_id="greeted")
    await client.wait_for_start(greeted.id)
    await client.suspend(greeted.id, "for a while")
    await start(programs.sends, greeted.id, instance_id="sends")
    await client.resume(greeted.id)
    await greeted.result()

    terminated = await start(programs.waits, "nothing", instance_id="terminated")
    await client.wait_for_start(terminated.id)
    await client.terminate(terminated.id, output="enough")
    await client.wait_for_completion(terminated.id)


RUNS: dict[str, tuple[DurableEngine, Drive]] = {
    "examples.index_stdlib.workflow:engine": (workflow.engine, drive_index),
    "examples.parallel_processing:engine": (parallel_processing.engine, drive_parallel_processing),
    "tests.golden.programs:engine": (programs.engine, drive_programs),
}


OF_OTHERS = {"parallel_processing", "rest_controller"}
"""Examples that have a run above, or the orchestrator of another example."""


class Tape(MemoryBackend):
    """A memory store that keeps every committed event, also of generations that continue-as-new has dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[tuple[str, str], list[Event]] = {}

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes = await super().apply(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(command, CommitTurn) and command.append is not None and outcome.status is OutcomeStatus.OK:
                self.events.setdefault((command.instance, command.execution), []).extend(decode_events(command.append))
        return outcomes


async def record(name: str) -> list[Golden]:
    """A run of ``RUNS``."""
    engine, drive = RUNS[name]
    tape = Tape()
    async with asyncio.timeout(60), engine.open(backend=tape):
        await drive(engine.client)
    return goldens(name, tape)


async def record_example(name: str) -> list[Golden]:
    """Its ``main`` opens a store by URL, and gets the tape."""
    tape, example = Tape(), load(name)
    with patch("durable_core.runtime.engine.backend_for", lambda _url: tape):
        async with asyncio.timeout(60):
            await example.main("memory://", **SMALL.get(name, {}))
    return goldens(f"examples.{name}:engine", tape)


def goldens(engine: str, tape: Tape) -> list[Golden]:
    return [
        Golden(engine, events[0].name, instance, execution, events)
        for (instance, execution), events in tape.events.items()
        if isinstance(events[0], ExecutionStarted)
    ]


def record_all(folder: Path) -> None:
    """Into an empty folder."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place, _working_in(Path(place)):
        recorded = [golden for name in RUNS for golden in asyncio.run(record(name))]
        recorded += [golden for name in EXAMPLES if name not in OF_OTHERS for golden in asyncio.run(record_example(name))]
    for golden in recorded:
        # The id of a nameless child holds its parent's execution id, which is no file name that one would recognise; some ids hold the day.
        stem = f"{golden.orchestrator}-child" if ":" in golden.instance_id else re.sub(r"\d{8}$", "day", golden.instance_id)
        number = sum(1 for _ in folder.glob(f"{stem}.*.json"))
        golden.write(folder / f"{stem}.{number}.json")


@contextlib.contextmanager
def _working_in(place: Path) -> Iterator[None]:
    """The tree is named relative to it, so that histories do not depend on where they were recorded."""
    before = Path.cwd()
    for name, source in TREE.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(source)
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def add_what_is_missing(target: Path) -> list[str]:
    """The names of the files."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        record_all(Path(place) / "new")
        new = [file for file in sorted((Path(place) / "new").iterdir()) if not (target / file.name).exists()]
        for file in new:
            (target / file.name).write_text(file.read_text())
    return [file.name for file in new]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.golden.record VERSION")
    target = HISTORIES / sys.argv[1]
    added = add_what_is_missing(target)
    sys.stdout.write(f"recorded {len(added)} histories in {target}\n")
