"""Turns of orchestrations.

An instance is loaded (started afresh, or replayed from its history), then again and again: what has arrived is applied in one turn, the
turn's commit is queued, and when it is durable the activities it scheduled start and the next turn may begin.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from durable_core import backend as store
from durable_core import events as ev
from durable_core.actions import Turn
from durable_core.backend import ClaimedTask, ClaimedTurn, CommitTurn, Outcome, ReleaseTask
from durable_core.codec import decode_event, decode_events
from durable_core.errors import FailureDetails, NotRegisteredError, ReplayError, StoreError
from durable_core.failures import describe
from durable_core.ids import task_key
from durable_core.replay.locks import outstanding_locks
from durable_core.replay.machine import LOGIC_VERSION, Execution
from durable_core.runtime.session import LocalWorker, Session
from durable_core.runtime.worker.activities import ActivityRunner
from durable_core.runtime.worker.commits import TurnTranslator, termination
from durable_core.runtime.worker.control import Standing, control_event, terminates
from durable_core.runtime.worker.guard import TurnGuard
from durable_core.runtime.worker.live import Arrival, LiveInstance, TaskLease
from durable_core.runtime.worker.reports import report_delivery, report_end
from durable_core.runtime.worker.runner import HELD_BACK_S, Runner, host_dies

_logger = logging.getLogger("durable_core.engine")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_REPLAY_SLICE_S = 0.005
_UNTIL_RELEASED_US = 10_000_000
_NOT_ENDED = frozenset(store.InstanceStatus) - store.ENDED

T = TypeVar("T")


class LiveOrchestration(LiveInstance, eq=False, kw_only=True):
    """``machine`` None: not loaded (yet), or never, since what is to be done needs no code. ``terminating``: that is under way."""

    standing: Standing
    machine: Execution | None = None
    terminating: bool = False


class OrchestrationRunner(Runner[LiveOrchestration]):
    def __init__(self, session: Session, worker: LocalWorker) -> None:
        super().__init__(session, worker)
        self._guard = TurnGuard.install()
        self.activities = ActivityRunner(session, self.task_ended, self._give_task_back)

    # ── loading ───────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, claimed: ClaimedTurn) -> LiveOrchestration:
        fence = claimed.instance, claimed.execution, claimed.epoch, claimed.version
        live = LiveOrchestration(*fence, claimed.name, standing=Standing(claimed))
        if self.needs_no_code(claimed):
            pass  # ``turn`` does without
        elif claimed.start is not None:
            self._start(live, claimed.start)
        else:
            live.busy = True
            self.background(self._load(live))
        return live

    def needs_no_code(self, claimed: ClaimedTurn) -> bool:
        return claimed.control_only or any(terminates(message) for message in claimed.messages)

    def _start(self, live: LiveOrchestration, start: bytes) -> None:
        event: ev.ExecutionStarted = decode_event(start, self.session.clock.now_us())
        live.machine = self._new_machine(live)
        live.queue.append(Arrival(event=replace(event, python=_PYTHON, logic=LOGIC_VERSION)))

    def _new_machine(self, live: LiveOrchestration) -> Execution:
        registry, limits = self.session.registry, self.session.options.limits
        return Execution(registry.orchestrators[live.name], registry, live.instance, live.execution, python=_PYTHON, limits=limits)

    async def _load(self, live: LiveOrchestration) -> None:
        """Read the history and replay it, a few milliseconds at a time."""
        events: list[ev.Event] = []
        try:
            async for row in self.session.reader.history(live.instance, live.execution):
                self.grown(live, len(row))
                events += decode_events(row)
        except Exception as error:
            self.give_up(live, error)
        else:
            if not live.dead:
                live.machine = self._new_machine(live)
                self.loop.call_soon(self._replay_slice, live, live.machine, live.machine.replay(events))

    def _replay_slice(self, live: LiveOrchestration, machine: Execution, replay: Iterator[None]) -> None:
        def is_over() -> bool:
            now = self.loop.time
            until = now() + _REPLAY_SLICE_S
            return all(now() <= until for _ in replay)

        over = self._guarded(live, is_over) if not live.dead else None
        if over is False:
            self.loop.call_soon(self._replay_slice, live, machine, replay)
        elif over and machine.problem is not None:
            self.give_up(live, machine.problem)
        elif over:
            self.rest(live)

    def _guarded(self, live: LiveOrchestration, step: Callable[[], T]) -> T | None:
        """Run the orchestrator's code. None, and the instance is given up, if something comes out that is neither a result nor a failure of
        the orchestration."""
        self._guard.enter(live.name)
        try:
            return step()
        except BaseException as error:
            self.give_up(live, error)
            if isinstance(error, KeyboardInterrupt):
                raise
            return None
        finally:
            self._guard.leave()

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, live: LiveOrchestration) -> None:
        if live.machine is None:
            self._turn_without_code(live)
            return
        turn = self._guarded(live, lambda: self._run_turn(live))
        if turn is None:
            pass  # it is given up
        elif isinstance(turn.ending, ev.ExecutionTerminated):
            self._end(live, turn, turn.ending)
        elif live.in_flight:
            self.submit(live, **self._translate(live, live.machine.started, turn))
        else:
            self.rest(live)

    def _translate(self, live: LiveOrchestration, started: ev.ExecutionStarted | None, turn: Turn) -> dict[str, Any]:
        translator = TurnTranslator(live, started, self.activities.reserve)
        try:
            return translator.translate(turn)
        except BaseException:
            self._give_back_places(translator.tasks)
            raise

    def _turn_without_code(self, live: LiveOrchestration) -> None:
        """Control messages alone. The others, and the start, wait in the store."""
        now_us = self.session.clock.now_us()
        arrivals, live.queue = [*live.in_flight, *live.queue], deque()
        live.in_flight = [arrival for arrival in arrivals if arrival.message is not None and arrival.message.control]
        messages = _control_messages(live)
        for event in (control_event(message, now_us) for message in messages):
            if isinstance(event, ev.ExecutionTerminated):
                self._end(live, Turn((event,), ending=event), event)
                return
        if not messages:
            raise NotRegisteredError(f"no orchestrator named {live.name!r} is known to this worker")
        for message in messages:
            decode_event(message.payload, now_us)  # what cannot be read is a problem of this instance
        self.submit(live, hold=False, **live.standing.after(messages, now_us, now_us))

    def before_release(self, live: LiveOrchestration, delay_us: int) -> bool:
        """To suspend and to resume is done although the code cannot be run, and a termination comes at once, or again if it failed."""
        messages, now_us = _control_messages(live), self.session.clock.now_us()
        if messages and (live.terminating or not any(map(terminates, messages))):
            # Not for long: another worker may know better.
            fields = live.standing.after(messages, now_us, now_us + min(delay_us, round(HELD_BACK_S * 1e6)))
            ids = tuple(message.id for message in messages)
            commit = self.commit_of(live, {**fields, "consumes": ids, "hold_us": _UNTIL_RELEASED_US})
            self.session.committer.submit(commit, lambda _outcome: self.session.waiters.changed(live.instance, commit.record))
        return False

    def _run_turn(self, live: LiveOrchestration) -> Turn:
        """What has arrived is applied in order and becomes ``in_flight``. A suspended execution takes control messages only, one that has
        ended nothing more: other messages stay in the store's inbox (for when it is resumed, or for the next generation), results go
        there. A turn ends early when its events grow large, since they are stored as one."""
        machine, now_us = live.machine, self.session.clock.now_us()
        assert machine is not None
        room = self.session.registry.max_payload_bytes // 4
        for _ in range(min(len(live.queue), self.session.options.max_messages_per_turn)):
            if room <= 0:
                break
            arrival = live.queue.popleft()
            room -= arrival.size
            message, event, lease = arrival
            if machine.ending is not None or (machine.suspended and not (message is not None and message.control)):
                if message is not None:
                    live.forget([message.id])
                elif lease is not None:
                    self.complete_through_inbox(lease, event)
            else:
                live.in_flight.append(arrival)
                machine.apply(decode_event(message.payload, now_us) if message is not None else _stamped(event, now_us))
        return machine.take_turn()

    def give_up(self, live: LiveOrchestration, problem: BaseException | str) -> None:
        machine = live.machine
        if machine is not None and isinstance(problem, ReplayError) and self.session.options.on_mismatch == "fail":
            live.busy = True
            ending = ev.ExecutionFailed(describe(problem))
            self.submit(
                live, hold=False, **TurnTranslator(live, machine.started, lambda _: False).translate(Turn((ending,), ending=ending))
            )
        else:
            super().give_up(live, problem)

    def _end(self, live: LiveOrchestration, turn: Turn, ending: ev.ExecutionTerminated) -> None:
        live.terminating = True
        self.background(self._terminate(live, turn, ending.recursive))

    async def _terminate(self, live: LiveOrchestration, turn: Turn, recursive: bool) -> None:
        """The children are told in the same commit, and the parent too. What is outstanding the history says, whether the code is there or
        not; activities are cancelled by name: a worker that runs one is told."""
        reader, children = self.session.reader, list[store.Message]()
        try:
            record = await reader.record(live.instance)
            [started] = _readable([record.start] if record is not None else [], lambda start: [decode_event(start, 0)]) or [None]
            rows = [row async for row in reader.history(live.instance, live.execution)]
            history: list[ev.Event] = _readable(rows, decode_events)
            turn = Turn(turn.events, ending=turn.ending, locks=outstanding_locks((*history, *turn.events)))
            if recursive:
                async for child in reader.records(store.InstanceFilter(_NOT_ENDED, parent=live.instance)):
                    children.append(termination(child.instance, f"{live.execution}>terminate:{child.execution}", live.instance))
            if not live.dead:
                fields = TurnTranslator(live, started, lambda _name: False).translate(turn)
                fields["messages"] = (*fields.get("messages", ()), *children)
                scheduled = (task.id for task in fields.get("tasks", ()))
                fields["cancel_tasks"] = (*fields.get("cancel_tasks", ()), *_unanswered(live.execution, history), *scheduled)
                self.submit(live, hold=False, **fields)
        except Exception as error:
            self.give_up(live, error)

    # ── outcomes ──────────────────────────────────────────────────────────────────────────────────────────────

    def accepted(self, live: LiveOrchestration, commit: CommitTurn, outcome: Outcome) -> None:
        self._start_tasks(live, commit)
        self.session.waiters.changed(live.instance, commit.record)
        if live.dead:
            return
        if commit.next_execution is not None:
            self.detach(live)
            self._next_generation(live, commit.next_execution, outcome)
        elif commit.record is not None and commit.record.status in store.ENDED:
            started = live.machine.started if live.machine is not None else None
            report_end(live, commit, is_child=started is not None and started.parent is not None)
            self.detach(live)
        elif live.machine is None:
            self._drop(live)  # whether more than control messages may be applied, the next claim says
        else:
            live.standing.begun = True
            self.grown(live, len(commit.append or b""))

    def _next_generation(self, old: LiveOrchestration, next: store.NextExecution, outcome: Outcome) -> None:
        """Still ours, under the fence that the commit left behind."""
        live = LiveOrchestration(old.instance, next.execution, old.epoch, old.version, old.name, standing=Standing())
        self._start(live, next.start)
        self.adopt(live, outcome.messages)

    def let_go(self, live: LiveOrchestration) -> None:
        if live.machine is not None:
            live.machine.close()

    # ── activities ────────────────────────────────────────────────────────────────────────────────────────────

    def _start_tasks(self, live: LiveOrchestration, commit: CommitTurn) -> None:
        """What was claimed with the commit starts at once; the rest is left to whoever claims it."""
        for task in commit.tasks:
            if task.claim:
                claimed = ClaimedTask(task.id, live.instance, live.execution, task.name, task.payload, 1)
                self.activities.start(claimed, live, reserved=True)
            else:
                self.worker.wake()
        for id in commit.cancel_tasks:
            self.activities.cancel(id)

    def refused(self, commit: CommitTurn) -> None:
        self._give_back_places(commit.tasks)

    def _give_back_places(self, tasks: Iterable[store.NewTask]) -> None:
        for task in tasks:
            if task.claim:
                self.activities.give_back(task.name)

    def accept_task(self, task: ClaimedTask) -> None:
        """Run a claimed task, unless it was delivered so often in vain that it must be what kills its workers."""
        if task.attempt <= self.session.options.max_deliveries:
            report_delivery(task)
            self.activities.start(task, self.find(task.instance, task.execution), reserved=False)
            return
        scheduled = decode_event(task.payload, 0)
        failure = _killed_its_workers(task)
        _logger.error("%s of %r: %s", task.id, task.instance, failure.message)
        lease = TaskLease(task, scheduled, self.session.registry.activities[task.name], None)
        self.task_ended(lease, ev.TaskFailed(scheduled.id, failure))

    def task_ended(self, lease: TaskLease, event: ev.TaskCompleted | ev.TaskFailed) -> None:
        """It ran: its place is free. Its result goes into the next turn's commit if the instance is in hand, else through the inbox."""
        live = self.find(lease.task.instance, lease.task.execution)
        if lease.cancelled:
            pass  # nobody waits for it
        elif live is not None and live.machine is not None and not live.machine.suspended:
            live.queue.append(Arrival(event=event, lease=lease))
            self.schedule(live)
        else:
            self.complete_through_inbox(lease, event)
        if isinstance(lease.holder, LiveOrchestration):
            self.settle(lease.holder)
        self.worker.freed()

    def refuse_task(self, task: ClaimedTask, problem: StoreError) -> None:
        """It cannot be read here; another worker may be able to."""
        _logger.error("activity %r of %r cannot be run here: %s", task.name, task.instance, problem)
        self.give_back_late(ReleaseTask(task.id, self.worker_id, task.attempt, uncount=True), HELD_BACK_S)

    def _give_task_back(self, lease: TaskLease) -> None:
        self._submit_and_wake(ReleaseTask(lease.task.id, self.worker_id, lease.task.attempt, uncount=not host_dies()))

    async def close(self) -> None:
        await super().close()
        self.activities.close()


def _killed_its_workers(task: ClaimedTask) -> FailureDetails:
    """Not to be retried: each attempt would cost as many workers again."""
    lives = f"activity {task.name!r} was given to a worker {task.attempt - 1} times, and each died or was lost before it had a result"
    advice = "does it crash the interpreter or run out of memory? With executor='process' it would take down a process of its own only"
    return FailureDetails("ProcessDied", f"{lives}; {advice}", non_retriable=True)


def _control_messages(live: LiveOrchestration) -> list[store.Message]:
    """That it was handed and that are not committed."""
    return [message for message, _, _ in (*live.in_flight, *live.queue) if message is not None and message.control]


def _readable(rows: Iterable[bytes], decode: Callable[[bytes], list[Any]]) -> list[Any]:
    """What can be read of them: for whoever is to end, what is damaged is no reason to go on."""
    found: list[Any] = []
    for row in rows:
        with suppress(StoreError):
            found += decode(row)
    return found


def _stamped(event: Any, now_us: int) -> Any:
    """With the hub time at which it is applied."""
    return replace(event, at_us=now_us)


def _unanswered(execution: str, history: Iterable[ev.Event]) -> list[str]:
    """The activities that were scheduled and neither ended nor cancelled."""
    found: dict[int, None] = {}
    for event in history:
        if isinstance(event, ev.TaskScheduled):
            found[event.id] = None
        elif isinstance(event, ev.TaskCompleted | ev.TaskFailed) or (isinstance(event, ev.CommandCancelled) and event.kind == "task"):
            found.pop(event.id, None)
    return [task_key(execution, id) for id in found]
