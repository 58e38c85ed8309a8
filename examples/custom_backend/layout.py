"""Which row lies in which file.

    FORMAT                               what this folder is, and the version of this layout
    lock, log/                           see disk.py and log.py
    counters                             epoch, position, clock
    instances/I/row                      an ``InstanceRow``
    instances/I/start, output, …         its details, as they are
    instances/I/inbox/VISIBLE-POSITION-KIND-M   a ``MessageRow``; names are in the order in which they are handed out
    instances/I/history/FIRST-COUNT      a turn's events, as they are
    tasks/T                              a ``TaskRow``
    workers/W                            a ``WorkerRow``
    seen/S                               a remembered id and when it may be forgotten

I, T, M, W and S are hashes of ids: ids may hold any character, be longer than a file name, and differ in case alone.

Empty files are indexes, and follow from the rows:

    ready/I                              neither ended nor claimed, and has a message (due or not) or its start to come
    open/POSITION-NAME-T                 a task that nobody runs
    held/W/i-I, held/W/t-T               what a worker has
    tasks_of/I/T                         an instance's tasks
    expiry/MINUTE/S                      what may be forgotten after this minute
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from msgspec import Struct, json

from durable_core.backend import ENDED
from durable_core.hub import InstanceRow, MessageRow, State, TaskRow

File = Struct | tuple[object, ...] | bytes
MINUTE_US = 60_000_000


def key(id: str) -> str:
    return sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def home(instance: str) -> str:
    return f"instances/{key(instance)}"


def message_name(row: MessageRow) -> str:
    kind = "control" if row.message.control else "message"
    return f"{row.visible_us:020}-{row.position:020}-{kind}-{key(row.message.id)}"


def open_name(row: TaskRow) -> str:
    return f"{row.position:020}-{key(row.name)}-{key(row.id)}"


def encoded(file: File) -> bytes:
    return file if isinstance(file, bytes) else json.encode(file)


def files_of(state: State, has_unread_messages: Callable[[str], bool]) -> dict[str, File]:
    """Where all the rows of a (partial) state lie, with the indexes that follow from them."""
    files: dict[str, File] = {"counters": (state.epoch, state.position, state.now_us)}
    for instance in state.instances.values():
        files |= _instance(instance, bool(state.inbox.get(instance.instance)) or has_unread_messages(instance.instance))
    for (id, kind), data in state.details.items():
        files[f"{home(id)}/{kind}"] = data
    for id, inbox in state.inbox.items():
        files |= {f"{home(id)}/inbox/{message_name(message)}": message for message in inbox.values()}
    for id, rows in state.history.items():
        files |= {f"{home(id)}/history/{row.first:012}-{row.count}": row.payload for row in rows}
    for task in state.tasks.values():
        files |= _task(task)
    for id, until_us in state.seen.items():
        files |= {f"seen/{key(id)}": (id, until_us), f"expiry/{until_us // MINUTE_US:012}/{key(id)}": b""}
    return files | {f"workers/{key(worker.id)}": worker for worker in state.workers.values()}


def _instance(row: InstanceRow, has_messages: bool) -> dict[str, File]:
    files: dict[str, File] = {f"{home(row.instance)}/row": row}
    if row.holder is not None:
        files[f"held/{key(row.holder)}/i-{key(row.instance)}"] = b""
    if row.status not in ENDED and not row.claimed and (has_messages or row.awaits_start):
        files[f"ready/{key(row.instance)}"] = b""
    return files


def _task(row: TaskRow) -> dict[str, File]:
    files: dict[str, File] = {f"tasks/{key(row.id)}": row, f"tasks_of/{key(row.instance)}/{key(row.id)}": b""}
    files[f"open/{open_name(row)}" if row.worker is None else f"held/{key(row.worker)}/t-{key(row.id)}"] = b""
    return files
