"""The definitions: an activity a file, an orchestration a chunk, one over all, and an entity that counts.

    index_tree ──┬── index_chunk 0 ──┬── analyse_file      (one activity a file, in a process of the engine's pool)
                 │                   └── …
                 ├── index_chunk 1 ── …
                 └── then merge, pair by pair, until one index is left

Chunks keep histories short: that of ``index_tree`` holds a result a chunk, not a result a file.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from durable_core import DurableEngine, OrchestrationContext, TaskFailedError, WorkerOptions
from examples.index_stdlib.analysis import analyse, python_files
from examples.index_stdlib.records import Chunk, Failure, FileReport, Index, Job, merged

__all__ = ["EFFECTS_VARIABLE", "Progress", "analyse_file", "engine", "find_files", "index_chunk", "index_tree", "merge"]

# Two processes at least, so that one slow file does not hold up the rest; a short drain, so that Ctrl-C ends soon.
engine = DurableEngine(options=WorkerOptions(activity_processes=max(2, os.cpu_count() or 1), drain_s=3.0))

# ── activities ───────────────────────────────────────────────────────────────────────────────────────────────────


@engine.activity
def find_files(root: str) -> list[str]:
    _effect("find_files", root)
    return python_files(Path(root))


@engine.activity(executor="process")
def analyse_file(root: str, path: str) -> FileReport:
    _effect("analyse_file", path)
    return analyse(Path(root), path)


@engine.activity
def merge(parts: list[Index]) -> Index:
    _effect("merge", f"{sum(part.files + part.failed for part in parts)} files")
    return merged(parts)


EFFECTS_VARIABLE = "INDEX_STDLIB_EFFECTS"


def _effect(activity: str, of: str) -> None:
    """One line for each execution, in a file outside the store: the tests' proof of what was run, and how often.

    The name comes in the environment, which the engine's processes inherit. One appending write is atomic among processes.
    """
    log = os.environ.get(EFFECTS_VARIABLE)
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{activity}\t{of}\t{os.getpid()}\t{time.time():.6f}\n".encode())
        finally:
            os.close(descriptor)


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────


@engine.entity
class Progress:
    """Its key is the instance id of the ``index_tree`` that it counts for. ``done`` includes ``failed``."""

    total: int = 0
    done: int = 0
    failed: int = 0
    chunks: int = 0

    def begin(self, total: int) -> None:
        self.total = total

    def file_done(self) -> None:
        self.done += 1

    def file_failed(self) -> None:
        self.done += 1
        self.failed += 1

    def chunk_done(self) -> None:
        self.chunks += 1


# ── orchestrators ────────────────────────────────────────────────────────────────────────────────────────────────


@engine.orchestrator
async def index_tree(ctx: OrchestrationContext, job: Job) -> Index:
    paths = await ctx.call_activity(find_files, job.root)
    await ctx.entity(Progress, ctx.instance_id).call(Progress.begin, len(paths))
    chunks = [Chunk(job.root, ctx.instance_id, paths[first : first + job.chunk_size]) for first in range(0, len(paths), job.chunk_size)]
    parts = await asyncio.gather(
        *(
            ctx.call_sub_orchestrator(index_chunk, chunk, instance_id=f"{ctx.instance_id}-chunk-{number}")
            for number, chunk in enumerate(chunks)
        )
    )
    while len(parts) > 1:
        parts = await asyncio.gather(*(ctx.call_activity(merge, parts[first : first + 2]) for first in range(0, len(parts), 2)))
    return parts[0] if parts else Index()


@engine.orchestrator
async def index_chunk(ctx: OrchestrationContext, chunk: Chunk) -> Index:
    progress = ctx.entity(Progress, chunk.progress)

    async def index_file(path: str) -> Index:
        try:
            report = await ctx.call_activity(analyse_file, chunk.root, path)
        except TaskFailedError as error:  # one bad file is not the end of the others
            progress.signal(Progress.file_failed)
            return Index.of_failure(Failure(path, str(error.details)))
        progress.signal(Progress.file_done)
        return Index.of(report)

    parts = await asyncio.gather(*map(index_file, chunk.paths))
    await progress.call(Progress.chunk_done)  # operations of one sender keep their order: when this returns, the signals are counted
    return merged(parts)
