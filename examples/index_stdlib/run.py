"""``main(url)``: start the run, or find it as an earlier process left it, and see it to its end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sysconfig
from contextlib import suppress
from pathlib import Path

from durable_core import DurableClient, OrchestrationHandle
from examples.index_stdlib.display import say, show_index, show_progress
from examples.index_stdlib.records import Index, Job
from examples.index_stdlib.workflow import EFFECTS_VARIABLE, Progress, engine, index_tree

__all__ = ["instance_id_of", "main"]


async def main(url: str, *, root: Path | None = None, chunk_size: int = 50, effects: Path | None = None) -> Index:
    """Index the ``.py`` files under ``root`` (default: the standard library). A run that the store holds already is gone on with.

    ``effects`` is a file outside the store that gets a line for each execution of an activity.
    """
    root = _absolute(root or Path(sysconfig.get_path("stdlib")))
    if effects is not None:
        os.environ[EFFECTS_VARIABLE] = str(_absolute(effects))
    instance_id = instance_id_of(root)
    async with engine.open(url):
        await _say_what_is_found(engine.client, instance_id)
        job = Job(str(root), chunk_size)
        handle = await engine.client.schedule_new_orchestration(index_tree, job, instance_id=instance_id, reuse_policy="return_existing")
        index = await _result(engine.client, handle)
    show_index(index, f"Python files under {root}")
    return index


def instance_id_of(root: Path) -> str:
    """The same folder finds its run again."""
    return f"index-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def _absolute(path: Path) -> Path:
    return path.resolve()


async def _say_what_is_found(client: DurableClient, instance_id: str) -> None:
    state = await client.get_instance(instance_id)
    progress = await client.get_entity(Progress, instance_id)
    if state is None:
        say("starting from nothing; stop it or kill it whenever you like, and run it again")
    elif progress is None or not progress.total:
        say("found a run that has hardly begun; going on")
    elif state.is_ended:
        say(f"found all {progress.total:,} files done; nothing is left to do")
    else:
        say(f"found {progress.done:,} of {progress.total:,} files done; going on")


async def _result(client: DurableClient, handle: OrchestrationHandle[Index]) -> Index:
    showing = asyncio.create_task(show_progress(client, handle.id))
    try:
        return await handle.result()
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
