"""The floor: the bare hot path without an engine, as a yardstick.

A deterministic loop of 30 lines, JSON events, one history row a turn, at most one commit an instance in flight,
the fence checked before every write, tasks claimed in the commit, results settled in the next one, at most ``window``
activities running, group commit to SQLite (WAL, synchronous=FULL). No inbox, no claims, no deduplication, no typed
payloads: an upper bound for an engine in the same process. The engine's target is half of its speed.

Keep it as it is: figures of different months are compared through it.
"""

from __future__ import annotations

import asyncio
import collections
import sqlite3
import time
from asyncio import events
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

Orchestrator = Callable[["Execution", int], Coroutine[Any, Any, int]]

WINDOW = 500

SCHEMA = """
create table instance(id text primary key, version int, length int, status int, output blob) without rowid;
create table history(id text, seq int, events blob, primary key(id, seq)) without rowid;
create table task(id text, n int, payload blob, worker text, until real, primary key(id, n)) without rowid;
"""


class Loop(asyncio.AbstractEventLoop):
    """Just enough of an event loop for C-accelerated tasks and futures."""

    def __init__(self) -> None:
        self.ready: collections.deque[asyncio.Handle] = collections.deque()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, **kwargs)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]

    def drain(self) -> None:
        while self.ready:
            self.ready.popleft()._run()


class Execution:
    """One orchestration in memory: its loop, what it waits for and what has arrived for it."""

    def __init__(self, instance: str, orchestrator: Orchestrator, value: int) -> None:
        self.id, self.loop = instance, Loop()  # type: ignore[abstract]
        self.version = self.length = self.sequence = 0
        self.pending: dict[int, asyncio.Future[int]] = {}
        self.new: list[tuple[int, str, int]] = []
        self.arrived: list[tuple[int, int]] = []
        self.busy = False
        self.task = self.loop.create_task(orchestrator(self, value))

    def call_activity(self, name: str, value: int) -> asyncio.Future[int]:
        future = self.loop.create_future()
        self.sequence += 1
        self.pending[self.sequence] = future
        self.new.append((self.sequence, name, value))
        return future


class Turn(NamedTuple):
    """What one turn wants written, and what to do when it is."""

    fence: tuple[str, int]
    record: tuple[int, int, bytes | None, str]
    row: tuple[str, int, bytes]
    settles: list[tuple[str, int]]
    tasks: list[tuple[str, int, bytes, float]]
    execution: Execution
    calls: list[tuple[int, str, int]]
    ended: bool


class Store:
    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.executescript(SCHEMA)

    def create(self, ids: Sequence[str]) -> None:
        self.db.execute("begin immediate")
        self.db.executemany("insert into instance values(?, 0, 0, 0, null)", [(i,) for i in ids])
        self.db.execute("commit")

    def commit(self, batch: list[Turn]) -> None:
        db = self.db
        db.execute("begin immediate")
        for turn in batch:
            assert db.execute("select 1 from instance where id = ? and version = ?", turn.fence).fetchone()
        db.executemany(
            "update instance set version = version + 1, length = ?, status = ?, output = ? where id = ?", [t.record for t in batch]
        )
        db.executemany("insert into history values(?, ?, ?)", [t.row for t in batch])
        db.executemany("delete from task where id = ? and n = ?", [s for t in batch for s in t.settles])
        db.executemany("insert into task values(?, ?, ?, 'w', ?)", [n for t in batch for n in t.tasks])
        db.execute("commit")

    def close(self) -> None:
        self.db.close()


async def noop(value: int) -> int:
    return value


class Floor:
    """Runs orchestrations on a store; counts its commits."""

    def __init__(self, store: Store, window: int = WINDOW) -> None:
        self.store = store
        self.commits = 0
        self.started = 0
        self.gate = asyncio.Semaphore(window)
        self.queue: list[Turn] = []
        self.wake = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()

    async def run(self, orchestrator: Orchestrator, values: Sequence[int]) -> list[int]:
        """Start one orchestration for each value, all together, and wait for all results."""
        loop = asyncio.get_running_loop()
        ids = [f"i{self.started + k}" for k in range(len(values))]
        self.started += len(values)
        self.store.create(ids)
        executions = [Execution(instance, orchestrator, value) for instance, value in zip(ids, values, strict=True)]
        for execution in executions:
            loop.call_soon(self.turn, execution)
        done = 0
        while done < len(values):
            done += await self.commit()
        return [execution.task.result() for execution in executions]

    async def commit(self) -> int:
        """Commit what has queued up, start what that allows; returns how many orchestrations ended."""
        loop = asyncio.get_running_loop()
        await self.wake.wait()
        self.wake.clear()
        batch, self.queue = self.queue, []
        await loop.run_in_executor(None, self.store.commit, batch)
        self.commits += 1
        for turn in batch:
            execution = turn.execution
            execution.version, execution.busy = execution.version + 1, False
            for number, _, value in turn.calls:
                task = asyncio.create_task(self.activity(execution, number, value))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            if execution.arrived:
                execution.busy = True
                loop.call_soon(self.turn, execution)
        return sum(turn.ended for turn in batch)

    async def activity(self, execution: Execution, number: int, value: int) -> None:
        async with self.gate:
            result = await noop(value)
        execution.arrived.append((number, result))
        if not execution.busy:
            execution.busy = True
            asyncio.get_running_loop().call_soon(self.turn, execution)

    def turn(self, execution: Execution) -> None:
        results, execution.arrived, execution.busy = execution.arrived, [], True
        new_events: list[dict[str, Any]] = []
        previous = events._get_running_loop()
        events._set_running_loop(execution.loop)
        try:
            if not execution.version:
                new_events.append({"type": "ExecutionStarted", "timestamp": time.time()})
                execution.loop.drain()
            for number, result in results:
                new_events.append({"type": "TaskCompleted", "id": number, "result": orjson.dumps(result).decode()})
                execution.pending.pop(number).set_result(result)
                execution.loop.drain()
        finally:
            events._set_running_loop(previous)
        calls, execution.new = execution.new, []
        tasks: list[tuple[str, int, bytes, float]] = []
        for number, name, value in calls:
            event = {"type": "TaskScheduled", "id": number, "name": name, "input": orjson.dumps(value).decode()}
            new_events.append(event)
            tasks.append((execution.id, number, orjson.dumps(event), time.time() + 30))
        start, execution.length = execution.length, execution.length + len(new_events)
        ended = execution.task.done()
        output = orjson.dumps(execution.task.result()) if ended else None
        self.queue.append(
            Turn(
                fence=(execution.id, execution.version),
                record=(execution.length, int(ended), output, execution.id),
                row=(execution.id, start, orjson.dumps(new_events)),
                settles=[(execution.id, number) for number, _ in results],
                tasks=tasks,
                execution=execution,
                calls=calls,
                ended=ended,
            )
        )
        self.wake.set()


async def hello5(execution: Execution, value: int) -> int:
    for _ in range(5):
        value = await execution.call_activity("noop", value)
    return value


async def fanout(execution: Execution, n: int) -> int:
    return sum(await asyncio.gather(*[execution.call_activity("noop", k) for k in range(n)]))


async def hello1(execution: Execution, value: int) -> int:
    return await execution.call_activity("noop", value)


async def empty(execution: Execution, value: int) -> int:
    return value
