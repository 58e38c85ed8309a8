"""Turns of orchestrations, from a claim to the commit and on to the next turn.

An instance in hand is a ``LiveInstance``. Its life here: *loaded* (started afresh, or replayed from its history), then again and again: what has arrived is applied in one turn, the turn's commit
is queued, and when it is durable the activities it scheduled start and the next turn may begin. **At most one commit per instance is queued or in flight.** Everything runs in plain callbacks of the
host's event loop: no task per turn, no lock, and CPython 3.14 refuses to step a task inside another one's step.

An instance stays in the cache between turns, held by this worker, until the cache is full. The fence alone makes that safe: whoever loses it learns so from its next commit.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from durable_core.actions import Turn
from durable_core.backend import ENDED, Backend, ClaimedTask, ClaimedTurn, CommitTurn, CompleteTask, HistoryRange, Message, NextExecution, Outcome, OutcomeStatus, Release
from durable_core.codec import decode_event, decode_events, encode_event
from durable_core.definitions import Registry
from durable_core.errors import ReplayError
from durable_core.events import Event, ExecutionStarted, ExecutionTerminated, TaskCompleted, TaskFailed
from durable_core.replay.machine import LOGIC_VERSION, Execution
from durable_core.runtime.activities import ActivityRunner, TaskLease
from durable_core.runtime.clock import HubClock
from durable_core.runtime.commits import Fence, build_commit
from durable_core.runtime.committer import Committer
from durable_core.runtime.guard import TurnGuard
from durable_core.runtime.live import Arrival, LiveInstance
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.terminations import build_termination

__all__ = ["TurnRunner"]

_logger = logging.getLogger("durable_core.engine")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_REPLAY_SLICE_S = 0.005


class TurnRunner:
    """``wake`` asks the worker to claim; ``ended(instance_id, commit)`` tells local waiters."""

    def __init__(
        self,
        worker: str,
        backend: Backend,
        registry: Registry,
        committer: Committer,
        clock: HubClock,
        options: WorkerOptions,
        wake: Callable[[], None],
        ended: Callable[[str, CommitTurn], None],
    ) -> None:
        self._worker = worker
        self._backend = backend
        self._registry = registry
        self._committer = committer
        self._clock = clock
        self._options = options
        self._wake = wake
        self._ended = ended
        self._guard = TurnGuard.install()
        self._loop = asyncio.get_running_loop()
        self._hold_us = round(options.hold_s * 1e6)
        self._live: OrderedDict[str, LiveInstance] = OrderedDict()
        self._cached_bytes = 0
        self._active: set[LiveInstance] = set()
        self._failures: dict[str, int] = {}
        self._loading: set[asyncio.Task[None]] = set()
        self.suspect: LiveInstance | None = None
        self.activities = ActivityRunner(registry, options, self.task_done, self.task_over)

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def room(self) -> int:
        """How many more instances may be claimed now. A suspect (an instance whose last claim ended without a commit) runs without new company."""
        if self.suspect is not None:
            return 0
        return max(0, self._options.max_active_instances - len(self._active))

    def holds(self, instance_id: str) -> bool:
        return instance_id in self._live

    def accept(self, claimed: ClaimedTurn) -> None:
        """Take a claimed instance in hand."""
        live = self._live.get(claimed.instance)
        if live is not None and not self._is_same(live, claimed):
            self._detach(live)
            live = None
        if live is None:
            live = self._new(claimed)
        else:
            live.fence.epoch = claimed.epoch
            live.deliver(claimed.messages)
        if not live.dead:
            self._active.add(live)
            if claimed.attempt > 1:
                self.suspect = live
            self._schedule(live)

    def _is_same(self, live: LiveInstance, claimed: ClaimedTurn) -> bool:
        if live.fence.execution != claimed.execution:
            return False
        # Under the same epoch we are still the holder, whatever is in flight. Otherwise somebody else had it meanwhile: fine if nothing has changed.
        return live.fence.epoch == claimed.epoch or (not live.busy and live.fence.version == claimed.version)

    def _new(self, claimed: ClaimedTurn) -> LiveInstance:
        live = LiveInstance(Fence(claimed.instance, claimed.execution, claimed.epoch, claimed.version), claimed.name, claimed.attempt)
        live.started = claimed.history_length > 0
        self._live[claimed.instance] = live
        live.deliver(claimed.messages)
        if any(message.control and b'"ExecutionTerminated"' in message.payload for message in claimed.messages):
            self._background(self._terminate(live, claimed))
        elif claimed.attempt > self._options.max_attempts:
            self._park(live, claimed)
        elif claimed.name not in self._registry.orchestrators:
            self._give_up(live, f"no orchestrator named {claimed.name!r} is known to the worker that got a control message for it")
        elif claimed.start is not None and not live.started:
            live.queue.appendleft(Arrival(event=self._stamped_start(claimed.start)))
            live.execution = self._new_execution(live)
        else:
            live.busy = True
            self._background(self._load(live))
        return live

    def _stamped_start(self, start: bytes) -> ExecutionStarted:
        event: Any = decode_event(start, self._clock.now_us())
        return ExecutionStarted(event.name, event.input, event.arity, event.at_us, event.parent, event.tags, event.carried, _PYTHON, LOGIC_VERSION)

    def _new_execution(self, live: LiveInstance) -> Execution:
        return Execution(
            self._registry.orchestrators[live.name], self._registry, live.fence.instance, live.fence.execution, python=_PYTHON, limits=self._options.limits
        )

    def _background(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    # ── loading ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _load(self, live: LiveInstance) -> None:
        """Read the history and replay it, a few milliseconds at a time."""
        try:
            events, size = await self._read_history(live.fence)
        except Exception as error:
            _logger.exception("the history of %r could not be read", live.fence.instance)
            self._give_up(live, f"its history could not be read: {error}")
            return
        if live.dead:
            return
        live.size = size
        self._cached_bytes += size
        live.execution = self._new_execution(live)
        self._loop.call_soon(self._replay_slice, live, live.execution.replay(events))

    async def _read_history(self, fence: Fence) -> tuple[list[Event], int]:
        events: list[Event] = []
        size, first = 0, 0
        while True:
            [page] = await self._backend.read_history([HistoryRange(fence.instance, fence.execution, first)])
            for row in page.rows:
                size += len(row.payload)
                events.extend(decode_events(row.payload))
            if page.next is None:
                return events, size
            first = page.next

    def _replay_slice(self, live: LiveInstance, replay: Iterator[None]) -> None:
        if live.dead:
            return
        until = time.monotonic() + _REPLAY_SLICE_S
        self._guard.enter(live.name)
        try:
            for _ in replay:
                if time.monotonic() > until:
                    self._loop.call_soon(self._replay_slice, live, replay)
                    return
        except BaseException as error:
            self._broken_turn(live, error)
            return
        finally:
            self._guard.leave()
        assert live.execution is not None
        if live.execution.problem is not None:
            self._give_up(live, live.execution.problem)
            return
        live.busy = False
        self._schedule(live)

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def task_done(self, lease: TaskLease, event: TaskCompleted | TaskFailed) -> None:
        """A result: into the next turn's commit if the instance is in hand, else through the inbox."""
        live = self._live.get(lease.instance)
        if live is not None and live.fence.execution == lease.execution and live.execution is not None and not live.execution.suspended:
            live.queue.append(Arrival(event=event, lease=lease))
            self._active.add(live)
            self._schedule(live)
        else:
            self._complete_through_inbox(lease, event)

    def accept_task(self, task: ClaimedTask) -> None:
        """Run a claimed task."""
        live = self._live.get(task.instance)
        if live is not None:
            live.local_tasks += 1
        self.activities.start(task, live)

    def task_over(self, lease: TaskLease) -> None:
        """It ran, or was cancelled: its place is free."""
        live = lease.holder
        if isinstance(live, LiveInstance):
            live.local_tasks -= 1
            if live.idle:
                self._rest(live)
        self._wake()

    def _complete_through_inbox(self, lease: TaskLease, event: TaskCompleted | TaskFailed) -> None:
        message = Message(lease.id, lease.instance, encode_event(event), lease.execution, lease.id)
        self._committer.submit(CompleteTask(lease.id, message), lambda _outcome: self._wake())

    def _schedule(self, live: LiveInstance) -> None:
        if live.queue and not (live.busy or live.scheduled or live.dead or live.execution is None):
            live.scheduled = True
            self._loop.call_soon(self._turn, live)

    def _turn(self, live: LiveInstance) -> None:
        live.scheduled = False
        if live.busy or live.dead or not live.queue:
            return
        execution = live.execution
        assert execution is not None
        self._guard.enter(live.name)
        try:
            arrivals = self._apply_arrivals(live, execution)
            turn = execution.take_turn()
        except BaseException as error:
            self._broken_turn(live, error)
            return
        finally:
            self._guard.leave()
        if isinstance(turn.ending, ExecutionTerminated):
            self._background(self._commit_termination(live, arrivals, turn.ending))
        elif turn.events or arrivals:
            self._commit(live, arrivals, turn)
        else:
            self._rest(live)

    def _apply_arrivals(self, live: LiveInstance, execution: Execution) -> list[Arrival]:
        """Apply what has arrived, in order; what is applied becomes ``in_flight``. A suspended execution takes control messages only: other messages stay in the store's
        inbox until it is resumed, results go there."""
        now_us = self._clock.now_us()
        taken = live.in_flight = []
        queue = live.queue
        for _ in range(min(len(queue), self._options.max_messages_per_turn)):
            arrival = queue.popleft()
            message = arrival.message
            if execution.suspended and not (message is not None and message.control):
                if message is not None:
                    live.known.discard(message.id)
                elif arrival.lease is not None:
                    self._complete_through_inbox(arrival.lease, arrival.event)  # type: ignore[arg-type]
                continue
            taken.append(arrival)
            if message is not None:
                execution.apply(decode_event(message.payload, now_us))
            else:
                execution.apply(_stamp(arrival.event, now_us))
        return taken

    def _commit(self, live: LiveInstance, arrivals: list[Arrival], turn: Turn) -> None:
        execution = live.execution
        assert execution is not None
        commit = build_commit(
            turn,
            live.fence,
            worker=self._worker,
            name=live.name,
            started=execution.started,
            first=not live.started,
            consumes=[a.message.id for a in arrivals if a.message is not None],
            settles=[a.lease.id for a in arrivals if a.lease is not None],
            claims_task=self.activities.reserve,
            problem=_unknown_problem(turn),
            hold_us=self._hold_us,
        )
        self._submit(live, commit)

    def _submit(self, live: LiveInstance, commit: CommitTurn) -> None:
        live.busy = True
        self._committer.submit(commit, lambda outcome: self._committed(live, commit, outcome))

    # ── outcomes ──────────────────────────────────────────────────────────────────────────────────────────────

    def _committed(self, live: LiveInstance, commit: CommitTurn, outcome: Outcome) -> None:
        if outcome.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED):
            self._accepted(live, commit, outcome)
            return
        for task in commit.tasks:
            if task.claim:
                self.activities.give_back(task.name)
        if outcome.status is OutcomeStatus.REJECTED:
            self._give_up(live, f"the store refuses this turn: {outcome.error}")
            return
        self._salvage(live)
        self._detach(live)
        # If the fence was current and only a settled task was missing, the lease is still ours and must not be forgotten.
        self._release(live)

    def _accepted(self, live: LiveInstance, commit: CommitTurn, outcome: Outcome) -> None:
        live.fence.version += 1
        live.started = True
        live.attempt = 0
        live.busy = False
        live.in_flight = []
        live.known.difference_update(commit.consumes)
        if self.suspect is live:
            self.suspect = None
            self._wake()
        if self._failures:
            self._failures.pop(live.fence.instance, None)
        open_tasks = self._start_tasks(live, commit)
        if open_tasks or commit.creates or commit.messages:
            self._wake()
        if commit.record is not None and commit.record.status in ENDED:
            self._detach(live)
            self._ended(live.fence.instance, commit)
        elif live.dead:
            self._detach(live)
        elif commit.next_execution is not None:
            self._detach(live)
            self._next_generation(live, commit.next_execution, outcome)
        elif outcome.status is OutcomeStatus.ALREADY_APPLIED:
            # The reply that said which messages are left was lost; a fresh claim says it again.
            self._detach(live)
            self._release(live)
        else:
            if commit.append is not None:
                live.size += len(commit.append)
                self._cached_bytes += len(commit.append)
            live.deliver(outcome.messages)
            self._rest(live)

    def _next_generation(self, old: LiveInstance, next: NextExecution, outcome: Outcome) -> None:
        """Still ours, under the fence that the commit left behind."""
        fence = Fence(old.fence.instance, next.execution, old.fence.epoch, old.fence.version)
        live = self._live[fence.instance] = LiveInstance(fence, old.name, 0)
        live.execution = self._new_execution(live)
        live.queue.append(Arrival(event=self._stamped_start(next.start)))
        live.deliver(outcome.messages)
        self._active.add(live)
        self._schedule(live)

    def _start_tasks(self, live: LiveInstance, commit: CommitTurn) -> bool:
        """Start what was claimed with the commit. True if tasks were left for whoever claims them."""
        left = False
        fence = live.fence
        for task in commit.tasks:
            if task.claim:
                self.activities.start(ClaimedTask(task.id, fence.instance, fence.execution, task.name, task.payload, 1), live, reserved=True)
                live.local_tasks += 1
            else:
                left = True
        for id in commit.cancel_tasks:
            self.activities.cancel(id)
        return left

    def _rest(self, live: LiveInstance) -> None:
        if live.queue:
            self._schedule(live)
            return
        if live.local_tasks == 0:
            self._active.discard(live)
        if not live.dead:
            self._live.move_to_end(live.fence.instance)
            self._trim()

    def _trim(self) -> None:
        """Drop the least recently used executions that wait for something from outside."""
        options = self._options
        excess = len(self._live) - options.max_cached_instances
        if excess <= 0 and self._cached_bytes <= options.max_cached_bytes:
            return
        for live in [live for live in self._live.values() if live.idle][: max(excess, 1)]:
            self._detach(live)
            self._release(live)

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    def _detach(self, live: LiveInstance) -> None:
        """Out of the cache, its code ended in memory."""
        if not live.dead:
            live.dead = True
            self._cached_bytes -= live.size
            if live.execution is not None:
                live.execution.close()
        self._active.discard(live)
        if self.suspect is live:
            self.suspect = None
        if self._live.get(live.fence.instance) is live:
            del self._live[live.fence.instance]

    def _salvage(self, live: LiveInstance) -> None:
        """Results of activities that ran here and whose turn was not committed: through the inbox, lest the work be done again."""
        for lease, event in live.results():
            self._complete_through_inbox(lease, event)
        live.in_flight = []
        live.queue.clear()

    def _release(self, live: LiveInstance, *, problem: str | None = None, delay_us: int = 0, park: bool = False, uncount: bool = False) -> None:
        fence = live.fence
        self._committer.submit(Release(fence.instance, fence.execution, fence.epoch, problem, delay_us, park, uncount), lambda _outcome: self._wake())

    def _give_up(self, live: LiveInstance, problem: ReplayError | str) -> None:
        """This turn cannot be. The instance is kept, tried again with back-off, and its problem shown. A problem between code and history is nobody's crash: it does not count towards parking."""
        instance = live.fence.instance
        failures = self._failures[instance] = self._failures.get(instance, 0) + 1
        backoff_s = min(self._options.first_backoff_s * 2 ** min(failures - 1, 30), self._options.last_backoff_s)
        if failures == 1:
            _logger.error("%s (tried again in %.0f s)", problem, backoff_s)
        self._salvage(live)
        self._detach(live)
        text = f"{type(problem).__name__}: {problem}" if isinstance(problem, ReplayError) else problem
        self._release(live, problem=text, delay_us=round(backoff_s * 1e6), uncount=isinstance(problem, ReplayError))

    def _broken_turn(self, live: LiveInstance, error: BaseException) -> None:
        """Something came out of a turn that is neither a result nor a failure of the orchestration."""
        if isinstance(error, ReplayError):
            self._give_up(live, error)
            return
        _logger.error("a turn of %r broke off: %r", live.fence.instance, error, exc_info=error)
        self._give_up(live, f"a turn broke off: {error!r}")
        if isinstance(error, KeyboardInterrupt):
            raise error

    def _park(self, live: LiveInstance, claimed: ClaimedTurn) -> None:
        problem = f"its turn was started {claimed.attempt - 1} times and never came to an end (does it kill its process?). It is parked: terminate or purge it, or restart it after a fix"
        _logger.error("%r: %s", claimed.instance, problem)
        self._detach(live)
        self._release(live, problem=problem, park=True)

    # ── termination ───────────────────────────────────────────────────────────────────────────────────────────

    async def _terminate(self, live: LiveInstance, claimed: ClaimedTurn) -> None:
        """Needs neither the history nor the code."""
        live.busy = True
        [message] = [m for m in claimed.messages if m.control and b'"ExecutionTerminated"' in m.payload][:1]
        event: Any = decode_event(message.payload, self._clock.now_us())
        await self._commit_termination(live, [Arrival(message)], event)

    async def _commit_termination(self, live: LiveInstance, arrivals: list[Arrival], event: ExecutionTerminated) -> None:
        live.busy = True
        live.in_flight = arrivals
        started = live.execution.started if live.execution is not None else None
        try:
            commit = await build_termination(self._backend, event, live, started, worker=self._worker, arrivals=arrivals)
        except Exception as error:
            _logger.exception("%r could not be terminated", live.fence.instance)
            self._give_up(live, f"it could not be terminated: {error}")
            return
        if not live.dead:
            self._submit(live, commit)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    async def close(self) -> None:
        """Results that wait for a turn are saved; executions end in memory. Leases are given back by ``AbandonWorker``."""
        for task in list(self._loading):
            task.cancel()
        for live in list(self._live.values()):
            self._salvage(live)
            self._detach(live)
        await self._committer.flush()
        self.activities.close()


def _stamp(event: Any, now_us: int) -> Any:
    """The hub time at which it is applied."""
    if type(event) is TaskCompleted:
        return TaskCompleted(event.id, event.result, now_us)
    if type(event) is TaskFailed:
        return TaskFailed(event.id, event.failure, now_us)
    return event


def _unknown_problem(turn: Turn) -> str | None:
    if not turn.unknown_activities:
        return None
    names = ", ".join(repr(name) for name in turn.unknown_activities)
    return f"waits for activity {names}, which the worker that runs this orchestration does not know; it stays queued until a worker that registers it takes part"
