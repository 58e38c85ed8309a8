"""``main(url)``: start the run, or find it as an earlier process left it, and see it to its end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sysconfig
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from durable_core import DurableClient, OrchestrationHandle
from examples.index_stdlib.display import show_index, show_progress
from examples.index_stdlib.records import Index, Job
from examples.index_stdlib.workflow import EFFECTS_VARIABLE, Progress, engine, index_tree

__all__ = ["instance_id_of", "main", "standard_library"]


async def main(url: str, *, root: Path | None = None, chunk_size: int = 50, effects: Path | None = None) -> Index:
    """Index the ``.py`` files under ``root`` (default: the standard library) and give the result. A run that is in the store already is gone on with.

    ``effects`` is a file outside the store that gets a line for each execution of an activity.
    """
    root = (root or standard_library()).resolve()
    if effects is not None:
        os.environ[EFFECTS_VARIABLE] = str(effects.resolve())
    instance_id = instance_id_of(root)
    async with engine.open(url):
        client = engine.client
        await _say_what_is_found(client, instance_id)
        handle = await client.schedule_new_orchestration(
            index_tree, Job(str(root), chunk_size), instance_id=instance_id, reuse_policy="return_existing"
        )
        index = await _result(client, handle)
    show_index(index, f"Python files under {root}", Console())
    return index


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def instance_id_of(root: Path) -> str:
    """One run for each folder: the same folder finds its run again."""
    return f"index-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


async def _say_what_is_found(client: DurableClient, instance_id: str) -> None:
    console = Console(stderr=True)
    state = await client.get_instance(instance_id)
    progress = await client.get_entity(Progress, instance_id)
    if state is None:
        console.print("starting from nothing; stop it whenever you like and run it again")
    elif progress is None or not progress.total:
        console.print("found a run that has only just begun; going on")
    elif state.is_ended:
        console.print(f"found all {progress.total:,} files done; nothing is left to do")
    else:
        console.print(f"found {progress.done:,} of {progress.total:,} files done; going on")


async def _result(client: DurableClient, handle: OrchestrationHandle[Index]) -> Index:
    showing = asyncio.create_task(show_progress(client, handle.id, Console(stderr=True)))
    try:
        return await handle.result()
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing
