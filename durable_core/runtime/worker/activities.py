"""Running activities: on the event loop, in a thread, or in a process, each kind within its own bound.

A task is leased to this worker when it gets here: claimed in the commit that scheduled it, or by a claim. It runs, and its result goes to
``OrchestrationRunner.task_ended``, which commits it. Nobody may rely on a result before that: a killed process runs the task again
elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from durable_core.backend import ClaimedTask
from durable_core.codec import decode_event
from durable_core.definitions.activity import Activity, ActivityContext
from durable_core.events import TaskCompleted, TaskFailed
from durable_core.failures import describe
from durable_core.ids import task_key
from durable_core.runtime.session import Session
from durable_core.runtime.worker.isolation import Isolation
from durable_core.runtime.worker.live import LiveInstance, TaskLease
from durable_core.runtime.worker.reports import FailureReports

if TYPE_CHECKING:
    from durable_core.runtime.worker.processes import ActivityProcesses


class _Lane(Struct):
    """One way to run activities: ``run(activity, *args)``; how many more there is room for, and the names of those that run so. A claim that
    was under way may bring more than there is room for by now: they wait for their ``turn``."""

    run: Callable[..., Awaitable[Any]]
    free: int
    turn: asyncio.Semaphore
    names: set[str] = set()


class ActivityRunner:
    """``ended`` gets every task that ran, with its result; nobody wants that of one that was cancelled. ``cut_off`` gets those that are to
    run again elsewhere."""

    def __init__(
        self, session: Session, ended: Callable[[TaskLease, TaskCompleted | TaskFailed], None], cut_off: Callable[[TaskLease], None]
    ) -> None:
        self._session = session
        self._ended = ended
        self._cut_off = cut_off
        self._reports = FailureReports()
        self._leases: dict[str, TaskLease] = {}
        self.isolation = Isolation(session.clock, session.wake)
        options, activities = session.options, session.registry.activities
        self.threads = session.new_threads(options.activity_threads, "durable-core activity")
        # Threads and processes get a few tasks ahead, so that none idles during a claim, but not so many that another worker starves.
        lanes = {
            "async": _Lane(lambda activity, *args: activity(*args), tasks := options.max_async_activities, asyncio.Semaphore(tasks)),
            "thread": _Lane(self.threads.run, threads := 2 * options.activity_threads, asyncio.Semaphore(threads)),
            "process": _Lane(lambda *call: self._processes.run(*call), calls := 2 * options.activity_processes, asyncio.Semaphore(calls)),
        }
        self._lanes = {name: lanes[_kind(bound.definition)] for name, bound in activities.items()}
        for name, lane in self._lanes.items():
            lane.names.add(name)
        self._used = [lane for lane in lanes.values() if lane.names]

    # ── capacity ──────────────────────────────────────────────────────────────────────────────────────────────

    def reserve(self, name: str) -> bool:
        """Take a place for one more task of this name, if there is one and the name is known."""
        lane = self._lanes.get(name)
        if lane is None or lane.free <= 0 or self._session.draining or self.isolation.active:
            return False
        lane.free -= 1
        return True

    def give_back(self, name: str) -> None:
        """A reserved place that came to nothing."""
        self._lanes[name].free += 1

    def claimable(self) -> list[tuple[frozenset[str], int]]:
        """For each kind with room: the names of its activities, and how many more may run."""
        closed = self._session.draining or self.isolation.active
        return [] if closed else [(frozenset(lane.names), lane.free) for lane in self._used if lane.free > 0]

    @property
    def full(self) -> bool:
        """Whether some kind has no room."""
        return any(lane.free <= 0 for lane in self._used)

    @property
    def running(self) -> dict[asyncio.Task[Any] | None, str]:
        """Task → the activity's name."""
        return {lease.running: lease.bound.name for lease in self._leases.values()}

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, task: ClaimedTask, holder: LiveInstance | None, *, reserved: bool) -> None:
        """Run a leased task. ``reserved``: its place was taken before."""
        scheduled = decode_event(task.payload, 0)
        if not reserved:
            self._lanes[task.name].free -= 1
        if holder is not None:
            holder.local_tasks += 1
        bound = self._session.registry.activities[task.name]
        lease = TaskLease(task, scheduled, bound, holder)
        self._leases[task.id] = lease
        self.isolation.begin(task)
        lease.running = asyncio.get_running_loop().create_task(self._run(lease))

    def cancel(self, id: str) -> None:
        """Nobody waits for this task any more: an async activity is cancelled, a sync one sees ``ctx.cancelled``."""
        lease = self._leases.get(id)
        if lease is not None:
            lease.cancelled = True
            if lease.context is not None:
                lease.context.cancelled = True
            if lease.begun and lease.running is not None:
                lease.running.cancel()

    async def drain(self, seconds: float) -> None:
        """Let what runs end, within a limit; then cut it off."""
        await self._wait(seconds)
        self.stop()
        await self._wait(1)
        for lease in list(self._leases.values()):
            self._give_back(lease)  # it does not end, but this worker does

    async def _wait(self, seconds: float) -> None:
        running = [lease.running for lease in self._leases.values() if lease.running is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)

    def stop(self) -> None:
        """Cut off what runs: it is given back, and runs again later. An end in order counts no delivery."""
        for id, lease in list(self._leases.items()):
            lease.cut_off = lease.cut_off or not lease.cancelled
            self.cancel(id)

    def _give_back(self, lease: TaskLease) -> None:
        if lease.cut_off:
            lease.cut_off = False
            self._cut_off(lease)

    def close(self) -> None:
        self.threads.close()
        if "_processes" in self.__dict__:
            self._processes.close()

    @cached_property
    def _processes(self) -> ActivityProcesses:
        from durable_core.runtime.worker.processes import ActivityProcesses  # not at import: multiprocessing is large

        return ActivityProcesses(self._session.options.activity_processes)

    async def _run(self, lease: TaskLease) -> None:
        bound, scheduled, lane = lease.bound, lease.scheduled, self._lanes[lease.bound.name]
        event: TaskCompleted | TaskFailed
        try:
            async with lane.turn:
                lease.begun = True
                if lease.cancelled:
                    raise asyncio.CancelledError
                args = bound.decode(scheduled.input, scheduled.arity)
                if bound.definition.takes_context:
                    lease.context = _context(lease)
                    args = (lease.context, *args)
                result = bound.encode_result(await lane.run(bound.definition, *args))
            event = TaskCompleted(scheduled.id, self._session.registry.check_size(result, f"the result of activity {bound.name!r}"))
        except BaseException as error:  # SystemExit and a cancellation of its own making are failures like any other
            # Not so what cuts it off from outside: it runs again.
            if not lease.cancelled and self._was_cut_off(lease, error):
                lease.cancelled = lease.cut_off = True
            failure = describe(error)
            event = TaskFailed(scheduled.id, failure)
            if not lease.cancelled:
                self._reports.failed(lease, error, failure)
            if isinstance(error, KeyboardInterrupt) and lease.cut_off:
                self._forget(lease)
                raise
        self._forget(lease)
        self._ended(lease, event)

    def _forget(self, lease: TaskLease) -> None:
        del self._leases[lease.task.id]
        self.isolation.end(lease.task)
        self._give_back(lease)
        self._lanes[lease.bound.name].free += 1
        if lease.holder is not None:
            lease.holder.local_tasks -= 1

    def _was_cut_off(self, lease: TaskLease, error: BaseException) -> bool:
        return lease.bound.definition.is_async and self._session.cuts_off(error, lease.running)


def _kind(activity: Activity[..., Any]) -> str:
    return "async" if activity.is_async else activity.executor


def _context(lease: TaskLease) -> ActivityContext:
    task, scheduled, name = lease.task, lease.scheduled, lease.bound.name
    call_key = task_key(task.execution, scheduled.first or scheduled.id)
    extra = {"instance_id": task.instance, "activity": name, "attempt": scheduled.attempt, "delivery": task.attempt}
    logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.activity.{name}"), extra)
    return ActivityContext(task.instance, name, call_key, task.id, scheduled.attempt, task.attempt, logger)
