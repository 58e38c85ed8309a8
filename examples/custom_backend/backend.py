"""The nine methods.

Each call is one visit: get the lock, finish what a dead process has left, read, decide, write, let go. Calls of a handle run one after the
other in a thread of its own, so that the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import msgspec
from msgspec.structs import replace

from durable_core import backend as protocol
from durable_core.errors import EngineStateError, StoreFormatError, StoreUrlError, StoreVersionError, UsageError
from durable_core.hub import Beat, Grant, HubClock, Needs, eligible_tasks, eligible_turns, next_due, query, read_history, record_of
from examples.custom_backend.disk import DISK, Disk, Lock, translated
from examples.custom_backend.log import Log
from examples.custom_backend.part import Part

T = TypeVar("T")
Clock = Callable[[], int]
Visit = Callable[[Part, int], T]

_SCHEME = "files://"
_VERSION = 1
_POLL_S = 0.02
_OURS = {"FORMAT", "lock", "log", "counters", "instances", "tasks", "workers", "seen", "ready", "open", "held", "tasks_of", "expiry"}


class FilesBackend:
    """A handle on a store in a folder.

    ``clock_us`` and ``monotonic_us`` give microseconds (default: the system's; beside another clock no other time passes). ``lock_wait_s``: how long a call waits for other processes before it is ``StoreUnavailableError``.
    """

    capabilities = protocol.Capabilities(durability="disk", multi_process=True, proves_death=False, max_payload_bytes=16 << 20)

    def __init__(
        self,
        folder: Path,
        *,
        clock_us: Clock | None = None,
        monotonic_us: Clock | None = None,
        disk: Disk = DISK,
        lock_wait_s: float = 30.0,
    ) -> None:
        self._root, self._disk, self._lock_wait_s = folder, disk, lock_wait_s
        self._clock_us = clock_us or (lambda: time.time_ns() // 1_000)
        self._monotonic_us = monotonic_us or ((lambda: 0) if clock_us else (lambda: time.monotonic_ns() // 1_000))
        self._clock = HubClock()
        self._log = Log(folder, disk)
        self._lock: Lock | None = None
        self._thread: ThreadPoolExecutor | None = None

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self, *, create: bool = True) -> None:
        if self._thread is not None:
            raise EngineStateError("this handle is open already: close it first, or make another one")
        self._thread = ThreadPoolExecutor(1, "durable-core files")
        try:
            await self._in_thread(lambda: self._open(create))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.shutdown)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _open(self, create: bool) -> None:
        root = self._root
        if create:
            root.mkdir(parents=True, exist_ok=True)
        if not root.is_dir() or not (create or (root / "FORMAT").exists()):
            raise StoreFormatError(f"there is no store in {root}: open it with create=True")
        foreign = sorted({path.name for path in root.iterdir()} - _OURS)
        if foreign:
            raise StoreFormatError(f"{root} is no store of ours: it holds {foreign[0]}")
        self._lock = Lock(root / "lock", self._lock_wait_s)
        with self._lock.held():
            if not (root / "FORMAT").exists():
                self._lay_out()
            version = msgspec.json.decode((root / "FORMAT").read_bytes(), type=int)
            if version > _VERSION:
                raise StoreVersionError(f"{root} has version {version}; this program knows {_VERSION}: upgrade it")
            self._log.redo(everything=True)

    def _lay_out(self) -> None:
        """FORMAT comes last: a folder that has it has everything."""
        temporary = self._root / "log" / "temporary"
        for path, file in ((self._root / "counters", (0, 0, 0)), (temporary, _VERSION)):
            self._disk.write(path, msgspec.json.encode(file))
            self._disk.sync(path)
        for folder in (self._root / "log", self._root, self._root.parent):
            self._disk.sync(folder)
        self._disk.rename(temporary, self._root / "FORMAT")
        self._disk.sync(self._root)

    # ── visits ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            raise EngineStateError(f"the store in {self._root} is not open")

        def translating() -> T:
            try:
                return call()
            except (OSError, msgspec.DecodeError) as error:
                raise translated(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, translating)

    async def _visit(self, visit: Visit[T]) -> T:
        def locked() -> T:
            assert self._lock is not None
            with self._lock.held():
                self._log.redo()
                part = Part(self._root, self.capabilities)
                answer = visit(part, self._lock.not_before(self._clock.now_us(self._clock_us(), self._monotonic_us(), part.state.now_us)))
                changes = part.changes()
                if changes:
                    self._log.commit(changes)
                return answer

        return await self._in_thread(locked)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, commands: Sequence[protocol.Command]) -> list[protocol.Outcome]:
        def visit(part: Part, now_us: int) -> list[protocol.Outcome]:
            part.prepare(commands, now_us)
            return [_unstorable(command) or part.decide(command, now_us) for command in commands]

        return await self._visit(visit)

    async def claim(self, worker: str, *, claim_id: str, turns: int, tasks: int, selectors: protocol.Selectors) -> protocol.Claim:
        def visit(part: Part, now_us: int) -> protocol.Claim:
            ready = part.ready(now_us)
            part.load(Needs(workers={worker}), now_us)
            last = part.state.workers.get(worker)
            if last is not None and last.claim_id == claim_id:
                grant = Grant(worker, claim_id, selectors, last.turns, last.tasks)
            else:
                part.open_tasks(selectors, tasks)
                turn_ids = eligible_turns(part.state, worker, selectors, now_us, ready)[:turns]
                task_ids = eligible_tasks(part.state, worker, selectors)[:tasks]
                grant = Grant(worker, claim_id, selectors, tuple(turn_ids), tuple(task_ids))
            part.prepare([grant], now_us)
            return replace(cast(protocol.Claim, part.decide(grant, now_us)), next_due_us=next_due(part.state, now_us, ready))

        return await self._visit(visit)

    async def heartbeat(self, worker: str, *, ttl_us: int) -> protocol.Heartbeat:
        def visit(part: Part, now_us: int) -> protocol.Heartbeat:
            part.prepare([Beat(worker, ttl_us)], now_us)
            return cast(protocol.Heartbeat, part.decide(Beat(worker, ttl_us), now_us))

        return await self._visit(visit)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

    async def get_instances(self, ids: Sequence[str]) -> list[protocol.InstanceRecord | None]:
        def visit(part: Part, now_us: int) -> list[protocol.InstanceRecord | None]:
            part.record_parts(ids)
            return [record_of(part.state, id) for id in ids]

        return await self._visit(visit)

    async def query_instances(self, filter: protocol.InstanceFilter, *, limit: int, cursor: str | None = None) -> protocol.Page:
        def visit(part: Part, now_us: int) -> protocol.Page:
            part.rows()
            page = query(part.state, filter, limit=limit, cursor=cursor)
            ids = [record.instance for record in page.records]
            part.record_parts(ids)
            return protocol.Page(tuple(record for id in ids if (record := record_of(part.state, id)) is not None), page.cursor)

        return await self._visit(visit)

    async def read_history(self, ranges: Sequence[protocol.HistoryRange]) -> list[protocol.HistoryPage]:
        def visit(part: Part, now_us: int) -> list[protocol.HistoryPage]:
            pages: list[protocol.HistoryPage] = []
            for range in ranges:
                part.history(range)
                pages.append(read_history(part.state, range))
            return pages

        return await self._visit(visit)

    async def wakeups(self) -> AsyncIterator[protocol.Wakeup]:
        """Every commit renames something in ``log``. That may be missed when two happen within one tick of the file system's clock: these
        are hints."""
        seen = 0
        while self._thread is not None:
            changed = (self._root / "log").stat().st_mtime_ns
            if changed != seen:
                seen = changed
                yield protocol.Wakeup(ended=True)
            await asyncio.sleep(_POLL_S)


def _unstorable(command: protocol.Command) -> protocol.Outcome | None:
    """Rejected alone, so that it does not spoil its batch when files are written."""
    try:
        msgspec.msgpack.encode(command)
    except (UnicodeEncodeError, OverflowError) as error:
        return protocol.Outcome(protocol.OutcomeStatus.REJECTED, error=UsageError(f"a {type(command).__name__} cannot be stored: {error}"))
    return None


def open_backend(url: str) -> FilesBackend:
    """``files:///folder`` (relative) or ``files:////var/lib/hub`` (absolute); not open yet."""
    folder = url.removeprefix(f"{_SCHEME}/")
    if folder in (url, ""):
        raise StoreUrlError(f"{url!r} names no folder: write {_SCHEME}/orders or {_SCHEME}//var/lib/orders")
    return FilesBackend(Path(folder))
