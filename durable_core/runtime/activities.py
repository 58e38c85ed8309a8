"""Running activities: on the event loop, in a thread, or in a process, each kind within its own bound.

A task is leased to this worker when it gets here: claimed in the commit that scheduled it, or by a claim. It runs, and its result goes to
``OrchestrationRunner.task_done``, which commits it. Nobody may rely on a result before that: a killed process runs the task again
elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from durable_core.backend import ClaimedTask
from durable_core.codec import decode_event
from durable_core.definitions.activity import Activity, ActivityContext
from durable_core.definitions.registry import Callee, Registry
from durable_core.errors import FailureDetails
from durable_core.events import TaskCompleted, TaskFailed, TaskScheduled
from durable_core.failures import describe
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.threads import DaemonThreads

if TYPE_CHECKING:
    from durable_core.runtime.processes import ActivityProcesses

Kind = Literal["async", "thread", "process"]

Done = Callable[["TaskLease", TaskCompleted | TaskFailed], None]
Over = Callable[["TaskLease"], None]


class TaskLease(Struct, eq=False):
    """A task that is leased to this worker. ``cancelled``: nobody waits for it any more. ``holder`` is the caller's own note."""

    id: str
    instance: str
    execution: str
    attempt: int
    scheduled: TaskScheduled
    bound: Callee[Activity[..., Any]]
    holder: object
    cancelled: bool = False
    running: asyncio.Task[None] | None = None
    context: ActivityContext | None = None


class ActivityRunner:
    """``done`` gets a result, unless the task was cancelled; ``over`` is told in any case, afterwards."""

    def __init__(self, registry: Registry, options: WorkerOptions, done: Done, over: Over) -> None:
        self._registry = registry
        self._done = done
        self._over = over
        self._leases: dict[str, TaskLease] = {}
        self.threads = DaemonThreads(options.activity_threads, "durable-core activity")
        self._process_count = options.activity_processes
        # Threads and processes get a few tasks ahead, so that none idles during a claim, but not so many that another worker starves.
        self._free: dict[Kind, int] = {
            "async": options.max_async_activities,
            "thread": 2 * options.activity_threads,
            "process": 2 * options.activity_processes,
        }
        self._kinds: dict[str, Kind] = {name: _kind(bound) for name, bound in registry.activities.items()}
        self.draining = False

    # ── capacity ──────────────────────────────────────────────────────────────────────────────────────────────

    def reserve(self, name: str) -> bool:
        """Take a place for one more task of this name, if there is one and the name is known."""
        kind = self._kinds.get(name)
        if kind is None or self._free[kind] <= 0 or self.draining:
            return False
        self._free[kind] -= 1
        return True

    def give_back(self, name: str) -> None:
        """A reserved place that came to nothing."""
        self._free[self._kinds[name]] += 1

    def claimable(self) -> list[tuple[frozenset[str], int]]:
        """For each kind with room: the names of its activities, and how many more may run."""
        if self.draining:
            return []
        names: dict[Kind, set[str]] = {}
        for name, kind in self._kinds.items():
            if self._free[kind] > 0:
                names.setdefault(kind, set()).add(name)
        return [(frozenset(names[kind]), self._free[kind]) for kind in names]

    @property
    def full(self) -> bool:
        """Whether some kind has no room."""
        return any(self._free[kind] <= 0 for kind in set(self._kinds.values()))

    @property
    def running(self) -> int:
        return len(self._leases)

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, task: ClaimedTask, holder: object = None, *, reserved: bool = False) -> None:
        """Run a leased task. ``reserved``: its place was taken before."""
        scheduled: Any = decode_event(task.payload, 0)
        bound = self._registry.activities[task.name]
        if not reserved:
            self._free[self._kinds[task.name]] -= 1
        lease = TaskLease(task.id, task.instance, task.execution, task.attempt, scheduled, bound, holder)
        self._leases[task.id] = lease
        lease.running = asyncio.get_running_loop().create_task(self._run(lease))

    def cancel(self, id: str) -> None:
        """Nobody waits for this task any more: an async activity is cancelled, a sync one sees ``ctx.cancelled``."""
        lease = self._leases.get(id)
        if lease is not None:
            lease.cancelled = True
            if lease.context is not None:
                lease.context.cancelled = True
            if lease.running is not None:
                lease.running.cancel()

    async def drain(self, seconds: float) -> None:
        """Let what runs end, within a limit; then cancel it. What was cancelled stays leased and runs again later."""
        self.draining = True
        running = [lease.running for lease in self._leases.values() if lease.running is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)
        self.stop()
        running = [task for task in running if not task.done()]
        if running:
            await asyncio.wait(running, timeout=1)

    def stop(self) -> None:
        for lease in list(self._leases.values()):
            self.cancel(lease.id)

    def close(self) -> None:
        self.threads.close()
        if "_processes" in self.__dict__:
            self._processes.close()

    @cached_property
    def _processes(self) -> ActivityProcesses:
        from durable_core.runtime.processes import ActivityProcesses  # not at import: multiprocessing is large

        return ActivityProcesses(self._process_count)

    async def _run(self, lease: TaskLease) -> None:
        kind = self._kinds[lease.bound.name]
        event: TaskCompleted | TaskFailed | None = None
        try:
            result = self._registry.check_size(await self._call(lease, kind), f"the result of activity {lease.bound.name!r}")
            event = TaskCompleted(lease.scheduled.id, result)
        except BaseException as error:  # SystemExit and a cancellation of its own making are failures like any other
            event = TaskFailed(lease.scheduled.id, error.details if isinstance(error, _ChildFailed) else describe(error))
        del self._leases[lease.id]
        self._free[kind] += 1
        if event is not None and not lease.cancelled:
            self._done(lease, event)
        self._over(lease)

    async def _call(self, lease: TaskLease, kind: Kind) -> str:
        bound, scheduled = lease.bound, lease.scheduled
        args = bound.decode(scheduled.input, scheduled.arity)
        if bound.definition.takes_context:
            args = (self._context(lease), *args)
        if kind == "async":
            return bound.encode_result(await bound.fn(*args))
        if kind == "thread":
            return bound.encode_result(await self.threads.run(bound.fn, *args))
        succeeded, value = await self._processes.run(bound.definition, args)
        if not succeeded:
            raise _ChildFailed(value)
        return bound.encode_result(value)

    def _context(self, lease: TaskLease) -> ActivityContext:
        extra = {"instance_id": lease.instance, "activity": lease.bound.name, "attempt": lease.attempt}
        logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.activity.{lease.bound.name}"), extra)
        lease.context = ActivityContext(lease.instance, lease.id, lease.bound.name, lease.attempt, logger)
        return lease.context


class _ChildFailed(Exception):
    def __init__(self, details: FailureDetails) -> None:
        super().__init__(str(details))
        self.details = details


def _kind(bound: Callee[Activity[..., Any]]) -> Kind:
    return "async" if bound.definition.is_async else bound.definition.executor
