"""The part of the hub that one call has in hand.

``load`` reads the rows that ``hub.needs`` names. They lie in two states: ``_before``, as they were read, and ``state``, which the hub's
effects change. What has to be written is the difference between the files of the one and the files of the other; nothing is written
before, so the disk stands still meanwhile and may be read at any time.

An effect may replace or delete rows that no rule had to read, and that ``needs`` therefore did not name (an inbox that is dropped, a timer
that is cancelled unread). So whatever an effect reaches is read before it is carried out: every file that goes away has been in ``_before``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import json

from durable_core.backend import Capabilities, HistoryRange, HistoryRow, Message, Selectors
from durable_core.hub import DETAIL_KINDS, InstanceRow, MessageRow, Needs, State, TaskRow, WorkerRow, decide, needs, needs_of_obituaries
from durable_core.hub import effects as fx
from durable_core.hub.rows import DetailKind
from examples.custom_backend.layout import MINUTE_US, encoded, files_of, home, key
from examples.custom_backend.log import Changes

T = TypeVar("T")


class Part:
    """Must be made, used and written under the store's lock."""

    def __init__(self, root: Path, limits: Capabilities) -> None:
        self._root = root
        epoch, position, now_us = json.decode((root / "counters").read_bytes(), type=tuple[int, int, int])
        self._before = State(now_us, epoch, position)
        self.state = State(now_us, epoch, position, limits=limits)
        self._asked: set[str] = set()
        self._names: dict[str, dict[str, str]] = {}
        self._gone: list[str] = []

    # ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, commands: Iterable[Any], now_us: int) -> None:
        """Read what must be known to decide these commands."""
        self.load(needs(commands, self.state.limits.messages_per_claim), now_us)
        self.load(needs_of_obituaries(self.state), now_us)

    def decide(self, command: Any, now_us: int) -> Any:
        """Of a command that was prepared for; its effects are seen by the next one."""
        answer, effects = decide(self.state, command, now_us)
        for effect in effects:
            self._reach(effect)
            effect.absorb(self.state)
        return answer

    def changes(self) -> Changes:
        """What has to be written; empty if nothing was changed."""
        before, after = files_of(self._before, self._has_unread), files_of(self.state, self._has_unread)
        gone = [*self._gone, *(home(id) for id in self._before.instances if id not in self.state.instances)]
        changes: Changes = [(path, None) for path in (*gone, *(path for path in before if path not in after))]
        changes += ((path, encoded(file)) for path, file in after.items() if before.get(path) != file)
        return changes

    # ── reading rows ─────────────────────────────────────────────────────────────────────────────────────────

    def load(self, wanted: Needs, now_us: int) -> None:
        for id in wanted.instances:
            self._instance(key(id))
        for id, count in wanted.inboxes.items():
            self._inbox(id, now_us, count)
        for id in wanted.inbox_heads:
            self._messages(id, sorted(self._inbox_names(id).values())[:1])
        for target, id in wanted.messages:
            self._message(target, id)
        for id in wanted.tasks:
            self._task(key(id))
        for id in wanted.seen:
            self._remembered(key(id))
        for id, kind in wanted.details:
            self._detail(id, kind)
        for name in self._list("workers") if wanted.all_workers else map(key, wanted.workers):
            self._worker(name)
        for worker in wanted.cancelled_tasks_of:
            self._held(worker, "t-")

    def ready(self, now_us: int) -> list[str]:
        """The ids of all instances that may be claimable, now or later, loaded with the messages that say since when or from when on: the
        first due one, the first due control message, and the first that is still to come."""
        keys = set(self._list("ready"))
        for name in keys:
            self._instance(name)
        ids = [row.instance for row in self.state.instances.values() if key(row.instance) in keys]
        for id in ids:
            names = sorted(self._inbox_names(id).values())
            due = [name for name in names if int(name[:20]) <= now_us]
            control = [name for name in due if "-control-" in name]
            self._messages(id, (*due[:1], *control[:1], *names[len(due) : len(due) + 1]))
        return ids

    def open_tasks(self, selectors: Selectors, limit: int) -> None:
        """The oldest open tasks of the given names."""
        known = set(map(key, selectors.activities))
        parts = [name.split("-") for name in sorted(self._list("open"))]
        for _, _, task in [part for part in parts if part[1] in known][:limit]:
            self._task(task)

    def rows(self) -> None:
        """The row of every instance."""
        for name in self._list("instances"):
            self._instance(name)

    def record_parts(self, ids: Iterable[str]) -> None:
        """What a record shows beside the row."""
        self.load(Needs(instances=set(ids), details={(id, kind) for id in ids for kind in DETAIL_KINDS if kind != "obituaries"}), 0)

    def history(self, range: HistoryRange) -> None:
        """One page of rows from the given event on, and one row more."""
        self._instance(key(range.instance))
        size, rows, folder = 0, self.state.history.setdefault(range.instance, []), f"{home(range.instance)}/history"
        rows.clear()
        for name in sorted(self._list(folder)):
            first, count = map(int, name.split("-"))
            if first >= range.first and size <= range.max_bytes:
                rows.append(HistoryRow(first, count, (self._root / folder / name).read_bytes()))
                size += len(rows[-1].payload)

    # ── what an effect reaches ───────────────────────────────────────────────────────────────────────────────

    def _reach(self, effect: fx.Effect) -> None:
        match effect:
            case fx.DropInstance(id):
                for kind in DETAIL_KINDS:
                    self._detail(id, kind)
            case fx.PutDetail(id, kind):
                self._detail(id, kind)
            case fx.PutMessage(MessageRow(message=Message(id, target))) | fx.DropMessage(target, id):
                self._message(target, id)
            case fx.DropInbox(target):
                self._messages(target, self._inbox_names(target).values())
            case fx.PutTask(TaskRow(id)) | fx.DropTask(id):
                self._task(key(id))
            case fx.DropTasks(instance):
                for name in self._list(f"tasks_of/{key(instance)}"):
                    self._task(name)
            case fx.DropHistory(instance):
                self._gone.append(f"{home(instance)}/history")
            case fx.Remember(id):
                self._remembered(key(id))
            case fx.Forget(now_us):
                self._forgettable(now_us)
            case fx.DropWorker(id):
                self._held(id, "")
            case _:  # no rule puts an instance or a worker that it has not read; AppendHistory and Advance replace nothing
                pass

    # ── reading files ────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, path: str) -> bytes | None:
        """A file's bytes, the first time that they are asked for: later, the rows in ``state`` are ahead of the disk."""
        if path in self._asked:
            return None
        self._asked.add(path)
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def _list(self, folder: str) -> list[str]:
        path = self._root / folder
        return [file.name for file in path.iterdir()] if path.exists() else []

    def _decoded(self, path: str, kind: type[T]) -> T | None:
        data = self._read(path)
        return None if data is None else json.decode(data, type=kind)

    def _instance(self, name: str) -> None:
        if (row := self._decoded(f"instances/{name}/row", InstanceRow)) is not None:
            assert key(row.instance) == name, f"{row.instance!r} lies in a file of another name"
            self._before.instances[row.instance] = self.state.instances[row.instance] = row

    def _detail(self, id: str, kind: DetailKind) -> None:
        if (data := self._read(f"{home(id)}/{kind}")) is not None:
            self._before.details[id, kind] = self.state.details[id, kind] = data

    def _task(self, name: str) -> None:
        if (row := self._decoded(f"tasks/{name}", TaskRow)) is not None:
            self._before.tasks[row.id] = self.state.tasks[row.id] = row

    def _worker(self, name: str) -> None:
        if (row := self._decoded(f"workers/{name}", WorkerRow)) is not None:
            self._before.workers[row.id] = self.state.workers[row.id] = row

    def _held(self, worker: str, prefix: str) -> None:
        for name in self._list(f"held/{key(worker)}"):
            if name.startswith(prefix):
                (self._instance if name.startswith("i-") else self._task)(name[2:])

    def _remembered(self, name: str) -> None:
        if (entry := self._decoded(f"seen/{name}", tuple[str, int])) is not None:
            self._before.seen[entry[0]] = self.state.seen[entry[0]] = entry[1]

    def _forgettable(self, now_us: int) -> None:
        """Whole minutes that are over. ``Forget`` expects ids in the order in which they expire."""
        for minute in [name for name in self._list("expiry") if int(name) < now_us // MINUTE_US]:
            for name in self._list(f"expiry/{minute}"):
                self._remembered(name)
            self._gone.append(f"expiry/{minute}")
        self.state.seen = dict(sorted(self.state.seen.items(), key=lambda entry: entry[1]))

    def _inbox_names(self, id: str) -> dict[str, str]:
        """The names of an inbox's files, by the hash of the message's id."""
        if id not in self._names:
            self._names[id] = {name.rpartition("-")[2]: name for name in self._list(f"{home(id)}/inbox")}
        return self._names[id]

    def _inbox(self, id: str, now_us: int, count: int) -> None:
        due = sorted(name for name in self._inbox_names(id).values() if int(name[:20]) <= now_us)
        self._messages(id, (*due[:count], *(name for name in due[count:] if "-control-" in name)))

    def _message(self, target: str, id: str) -> None:
        name = self._inbox_names(target).get(key(id))
        self._messages(target, [] if name is None else [name])

    def _messages(self, target: str, names: Iterable[str]) -> None:
        for name in names:
            if (row := self._decoded(f"{home(target)}/inbox/{name}", MessageRow)) is not None:
                for state in (self._before, self.state):
                    state.inbox.setdefault(target, {})[row.message.id] = row

    def _has_unread(self, id: str) -> bool:
        return len(self._inbox_names(id)) > len(self._before.inbox.get(id, ()))
