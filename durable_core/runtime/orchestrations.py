"""Turns of orchestrations.

An instance is loaded (started afresh, or replayed from its history), then again and again: what has arrived is applied in one turn, the
turn's commit is queued, and when it is durable the activities it scheduled start and the next turn may begin.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from attrs import define
from msgspec.structs import replace

from durable_core.actions import Turn
from durable_core.backend import ENDED, ClaimedTask, ClaimedTurn, CommitTurn, HistoryRange, Message, NextExecution, Outcome
from durable_core.codec import decode_event, decode_events
from durable_core.errors import NotRegisteredError
from durable_core.events import Event, ExecutionStarted, ExecutionTerminated, TaskCompleted, TaskFailed
from durable_core.replay.machine import LOGIC_VERSION, Execution
from durable_core.runtime.activities import ActivityRunner, TaskLease
from durable_core.runtime.commits import build_commit
from durable_core.runtime.guard import TurnGuard
from durable_core.runtime.live import Arrival, Fence, LiveInstance
from durable_core.runtime.runner import Claimer, Runner
from durable_core.runtime.session import Session
from durable_core.runtime.terminations import children_to_terminate, started_event

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_REPLAY_SLICE_S = 0.005


@define(eq=False)
class LiveOrchestration(LiveInstance):
    """``execution`` None: not loaded (yet)."""

    execution: Execution | None = None


class OrchestrationRunner(Runner[LiveOrchestration]):
    def __init__(self, session: Session, worker: Claimer) -> None:
        super().__init__(session, worker)
        self._guard = TurnGuard.install()
        self.activities = ActivityRunner(session.registry, session.options, self.task_done, self.task_over)

    # ── loading ───────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, claimed: ClaimedTurn) -> LiveOrchestration:
        live = LiveOrchestration(Fence(claimed.instance, claimed.execution, claimed.epoch, claimed.version), claimed.name)
        live.pending = claimed.history_length == 0
        if claimed.name not in self.session.registry.orchestrators or any(map(_terminates, claimed.messages)):
            pass  # ``turn`` does without the code (a control message goes to any worker; a parked instance may be unable to run)
        elif claimed.start is not None and live.pending:
            self._start(live, claimed.start)
        else:
            live.busy = True
            self.background(self._load(live))
        return live

    def _start(self, live: LiveOrchestration, start: bytes) -> None:
        live.execution = self._new_execution(live)
        event: Any = decode_event(start, self.session.clock.now_us())
        live.queue.append(Arrival(event=replace(event, python=_PYTHON, logic=LOGIC_VERSION)))

    def _new_execution(self, live: LiveOrchestration) -> Execution:
        registry, fence = self.session.registry, live.fence
        return Execution(
            registry.orchestrators[live.name], registry, fence.instance, fence.execution, python=_PYTHON, limits=self.session.options.limits
        )

    async def _load(self, live: LiveOrchestration) -> None:
        """Read the history and replay it, a few milliseconds at a time."""
        try:
            events = await self._read_history(live)
        except Exception as error:
            self.give_up(live, error)
            return
        if not live.dead:
            live.execution = self._new_execution(live)
            self.loop.call_soon(self._replay_slice, live, live.execution, live.execution.replay(events))

    async def _read_history(self, live: LiveOrchestration) -> list[Event]:
        events: list[Event] = []
        first: int | None = 0
        while first is not None:
            [page] = await self.session.backend.read_history([HistoryRange(live.fence.instance, live.fence.execution, first)])
            for row in page.rows:
                self.grown(live, len(row.payload))
                events += decode_events(row.payload)
            first = page.next
        return events

    def _replay_slice(self, live: LiveOrchestration, execution: Execution, replay: Iterator[None]) -> None:
        if live.dead:
            return
        until = time.monotonic() + _REPLAY_SLICE_S
        self._guard.enter(live.name)
        try:
            for _ in replay:
                if time.monotonic() > until:
                    self.loop.call_soon(self._replay_slice, live, execution, replay)
                    return
        except BaseException as error:
            self._broken_off(live, error)
            return
        finally:
            self._guard.leave()
        live.busy = False
        if execution.problem is not None:
            self.give_up(live, execution.problem)
        else:
            self.rest(live)

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, live: LiveOrchestration) -> None:
        execution = live.execution
        if execution is None:
            self._turn_without_code(live)
            return
        self._guard.enter(live.name)
        try:
            self._apply_arrivals(live, execution)
            turn = execution.take_turn()
        except BaseException as error:
            self._broken_off(live, error)
            return
        finally:
            self._guard.leave()
        if isinstance(turn.ending, ExecutionTerminated):
            live.busy = True
            self.background(self._terminate(live, turn))
        elif live.in_flight:
            self._commit(live, turn, execution.started)
        else:
            self.rest(live)

    def _apply_arrivals(self, live: LiveOrchestration, execution: Execution) -> None:
        """In order; what is applied becomes ``in_flight``. A suspended execution takes control messages only, one that has ended nothing more:
        other messages stay in the store's inbox (for when it is resumed, or for the next generation), results go there."""
        now_us = self.session.clock.now_us()
        for _ in range(min(len(live.queue), self.session.options.max_messages_per_turn)):
            arrival = live.queue.popleft()
            message, event, lease = arrival
            if execution.ending is not None or (execution.suspended and not (message is not None and message.control)):
                if message is not None:
                    live.forget([message.id])
                elif lease is not None:
                    self.complete_through_inbox(lease, event)  # type: ignore[arg-type]
                continue
            live.in_flight.append(arrival)
            execution.apply(decode_event(message.payload, now_us) if message is not None else _stamped(event, now_us))

    def _broken_off(self, live: LiveOrchestration, error: BaseException) -> None:
        """Something came out of a turn that is neither a result nor a failure of the orchestration."""
        self.give_up(live, error)
        if isinstance(error, KeyboardInterrupt):
            raise error

    def _commit(self, live: LiveOrchestration, turn: Turn, started: ExecutionStarted | None) -> None:
        self.submit(
            live, build_commit(turn, live, started, worker=self.worker_id, claims_task=self.activities.reserve, hold_us=self.hold_us)
        )

    # ── termination ───────────────────────────────────────────────────────────────────────────────────────────

    def _turn_without_code(self, live: LiveOrchestration) -> None:
        """Termination needs neither the code nor the history."""
        now_us = self.session.clock.now_us()
        live.in_flight, events = list(live.queue), [decode_event(a.message.payload, now_us) for a in live.queue if a.message is not None]
        live.queue.clear()
        ending = next((event for event in events if isinstance(event, ExecutionTerminated)), None)
        if ending is None:
            self.give_up(
                live, NotRegisteredError(f"no orchestrator named {live.name!r} is known to the worker that got a control message for it")
            )
            return
        live.busy = True
        self.background(self._terminate(live, Turn((ending,), ending=ending)))

    async def _terminate(self, live: LiveOrchestration, turn: Turn) -> None:
        """The children are told in the same commit, and the parent too."""
        fence, ending = live.fence, turn.ending
        assert isinstance(ending, ExecutionTerminated)
        try:
            started = live.execution.started if live.execution is not None else await started_event(self.session.backend, fence.instance)
            commit = build_commit(turn, live, started, worker=self.worker_id, claims_task=self.activities.reserve, hold_us=0)
            children = await children_to_terminate(self.session.backend, fence) if ending.recursive else []
        except Exception as error:
            self.give_up(live, error)
            return
        if not live.dead:
            self.submit(live, replace(commit, messages=(*commit.messages, *children)))

    # ── outcomes ──────────────────────────────────────────────────────────────────────────────────────────────

    def accepted(self, live: LiveOrchestration, commit: CommitTurn, outcome: Outcome) -> bool:
        live.pending = False
        self._start_tasks(live, commit)
        if commit.record is not None:
            self.session.waiters.changed(live.fence.instance, commit)
        if commit.next_execution is not None:
            if not live.dead:
                self.detach(live)
                self._next_generation(live.fence, live.name, commit.next_execution, outcome)
            return False
        if commit.record is not None and commit.record.status in ENDED:
            return False
        self.grown(live, len(commit.append or b""))
        return not live.dead

    def _next_generation(self, fence: Fence, name: str, next: NextExecution, outcome: Outcome) -> None:
        """Still ours, under the fence that the commit left behind."""
        live = LiveOrchestration(Fence(fence.instance, next.execution, fence.epoch, fence.version), name, pending=True)
        self._start(live, next.start)
        live.deliver(outcome.messages)
        self.adopt(live)
        self.schedule(live)

    def let_go(self, live: LiveOrchestration) -> None:
        if live.execution is not None:
            live.execution.close()

    # ── activities ────────────────────────────────────────────────────────────────────────────────────────────

    def _start_tasks(self, live: LiveOrchestration, commit: CommitTurn) -> None:
        """What was claimed with the commit starts at once; the rest is left to whoever claims it."""
        fence = live.fence
        for task in commit.tasks:
            if task.claim:
                self._run_task(live, ClaimedTask(task.id, fence.instance, fence.execution, task.name, task.payload, 1), reserved=True)
            else:
                self.worker.wake()
        for id in commit.cancel_tasks:
            self.activities.cancel(id)

    def refused(self, commit: CommitTurn) -> None:
        for task in commit.tasks:
            if task.claim:
                self.activities.give_back(task.name)

    def accept_task(self, task: ClaimedTask) -> None:
        """Run a claimed task."""
        self._run_task(self.find(task.instance, task.execution), task, reserved=False)

    def _run_task(self, live: LiveOrchestration | None, task: ClaimedTask, *, reserved: bool) -> None:
        if live is not None:
            live.local_tasks += 1
        self.activities.start(task, live, reserved=reserved)

    def task_done(self, lease: TaskLease, event: TaskCompleted | TaskFailed) -> None:
        """A result: into the next turn's commit if the instance is in hand, else through the inbox."""
        live = self.find(lease.instance, lease.execution)
        if live is not None and live.execution is not None and not live.execution.suspended:
            live.queue.append(Arrival(event=event, lease=lease))
            self.schedule(live)
        else:
            self.complete_through_inbox(lease, event)

    def task_over(self, lease: TaskLease) -> None:
        """It ran, or was cancelled: its place is free."""
        if isinstance(lease.holder, LiveOrchestration):
            lease.holder.local_tasks -= 1
            self.rest(lease.holder)
        self.worker.freed()

    async def close(self) -> None:
        await super().close()
        self.activities.close()


def _terminates(message: Message) -> bool:
    return message.control and isinstance(decode_event(message.payload, 0), ExecutionTerminated)


def _stamped(event: Any, now_us: int) -> Any:
    """With the hub time at which it is applied."""
    if type(event) is TaskCompleted:
        return TaskCompleted(event.id, event.result, at_us=now_us)
    return TaskFailed(event.id, event.failure, at_us=now_us) if type(event) is TaskFailed else event
