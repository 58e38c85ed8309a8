"""What is seen of a run: messages and the bar on stderr, the table on stdout."""

from __future__ import annotations

import asyncio

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table

from durable_core import DurableClient
from examples.index_stdlib.records import Index
from examples.index_stdlib.workflow import Progress

__all__ = ["say", "show_index", "show_progress"]

_REFRESH_S = 0.1


def say(message: str) -> None:
    Console(stderr=True).print(message, highlight=False)


async def show_progress(client: DurableClient, instance_id: str) -> None:
    """A bar that follows the entity's stored state until this coroutine is cancelled. It reads beside the engine and disturbs nothing."""
    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeElapsedColumn())
    progress = await client.get_entity(Progress, instance_id)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("indexing", total=None)
        while True:
            if progress is not None and progress.total:
                bar.update(task, total=progress.total, completed=progress.done)
            await asyncio.sleep(_REFRESH_S)
            progress = await client.get_entity(Progress, instance_id)


def show_index(index: Index, title: str) -> None:
    largest = Table("largest modules", _number("lines"), _number("functions"), _number("classes"), title=title, title_justify="left")
    for size in index.largest:
        largest.add_row(size.path, f"{size.lines:,}", f"{size.functions:,}", f"{size.classes:,}")
    largest.add_section()
    largest.add_row(f"all {index.files:,} files", f"{index.lines:,}", f"{index.functions:,}", f"{index.classes:,}")
    imports = Table("most imported modules", _number("by files"))
    for module, files in index.most_imported():
        imports.add_row(module, f"{files:,}")
    tables = [largest, imports]
    if index.failed:
        failed = Table(Column(f"{index.failed:,} could not be indexed", overflow="fold"), Column("why", overflow="fold"))
        for failure in index.failures:
            failed.add_row(failure.path, failure.reason)
        tables.append(failed)
    Console().print(Group(*tables), markup=False)


def _number(header: str) -> Column:
    return Column(header, justify="right")
