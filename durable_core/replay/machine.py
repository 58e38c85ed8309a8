"""The replay machine: (history, new messages, orchestrator) → what a turn appends and asks for.

An ``Execution`` is one run of one orchestrator function, live or replayed. Messages are applied **one at a time, and the loop is drained
after each**; so what the code does never depends on how messages were batched when they first arrived. While the history is replayed, the
commands that the code issues are held against the recorded ones (``matching.py``); after that they are new.

Three states matter besides "running":

* a **problem**: code and history do not fit, the code is stuck, or a turn is too long. It is never raised into user code, which could
  swallow it and go on for ever; instead commands record nothing from then on, the drain stops after the current step, and whoever runs the
  turn finds ``problem``.
* an **ending**: the last event of this execution. Later messages are ignored.
* **closing**: ``close`` ends the code in memory. Commands record nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, get_args

from attrs import define, field
from msgspec import Struct

from durable_core import events as ev
from durable_core.actions import Ending, Turn
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.definitions.registry import Callee, Registry
from durable_core.errors import LockingRulesViolationError, NonDeterminismError, OrchestrationStuckError, ReplayError, TurnTooLongError
from durable_core.failures import describe
from durable_core.moments import LATEST_US
from durable_core.replay import calls, closing, matching, source
from durable_core.replay.arguments import Arguments
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.futures import hash_salt
from durable_core.replay.locks import CriticalSection
from durable_core.replay.loop import DeterministicLoop

LOGIC_VERSION = 2
"""Raised when a change of the engine makes the same code issue its commands in another order."""

_KINDS: tuple[ev.CommandKind, ...] = get_args(ev.CommandKind)
_logger = logging.getLogger("durable_core.orchestrator")


class Limits(Struct, frozen=True):
    """Bounds of one turn."""

    steps_per_turn: int = 1_000_000
    commands_per_turn: int = 200_000
    suggest_continue_as_new: int = 10_000
    """``ctx.continue_as_new_suggested`` turns True at a history of this many events."""


@define(eq=False, repr=False)
class Execution:
    """``python`` is the running interpreter's ``major.minor``; it is recorded with a history's first event (see ``ExecutionStarted``)."""

    orchestrator: Callee[Orchestrator[..., Any]]
    registry: Registry
    instance_id: str
    execution_id: str
    python: str = field(default="", kw_only=True)
    limits: Limits = field(factory=Limits, kw_only=True)
    name: str = field(init=False)
    loop: DeterministicLoop = field(init=False)
    context: OrchestrationContext = field(init=False)
    external_events: calls.ExternalEvents = field(init=False, factory=calls.ExternalEvents)
    started: ev.ExecutionStarted | None = field(init=False, default=None)
    problem: ReplayError | None = field(init=False, default=None)
    ending: Ending | None = field(init=False, default=None)
    suspended: bool = field(init=False, default=False)
    closing: bool = field(init=False, default=False)
    history_length: int = field(init=False, default=0)
    section: CriticalSection | None = field(init=False, default=None)
    bound_children: set[int] = field(init=False, factory=set)
    _root: Any = field(init=False, default=None)
    _base_context: contextvars.Context = field(init=False, factory=contextvars.Context)
    # While a message of the history is applied again: the commands that followed it.
    _expected: matching.Expected | None = field(init=False, default=None)
    _arguments: Arguments | None = field(init=False, default=None)
    _warned_of_arguments: bool = field(init=False, default=False)
    # What the next turn says.
    _events: list[ev.Event] = field(init=False, factory=list)
    _turn_commands: int = field(init=False, default=0)
    _custom_status: str | None = field(init=False, default=None)
    _next_input: tuple[str | None, int] | None = field(init=False, default=None)
    # By kind: the last number, and by number what is outstanding: who is told of its end, and what is to be remembered of it until then.
    _numbers: dict[ev.CommandKind, int] = field(init=False, factory=lambda: dict.fromkeys(_KINDS, 0))
    _waiters: dict[ev.CommandKind, dict[int, Any]] = field(init=False, factory=lambda: {kind: {} for kind in _KINDS})
    _notes: dict[ev.CommandKind, dict[int, str]] = field(init=False, factory=lambda: {kind: {} for kind in _KINDS})
    _locks: dict[int, str] = field(init=False, factory=dict)
    _unawaited: list[Any] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.name = self.orchestrator.name
        self.loop = DeterministicLoop(self, hash_salt(self.execution_id))  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
        self.context = OrchestrationContext(self)

    # ── what the world does to it ─────────────────────────────────────────────────────────────────────────────

    def replay(self, history: Iterable[ev.Event]) -> Iterator[None]:
        """Apply a recorded history, holding the code against it. Yields after each message, so that the caller can let others run; stops at
        a problem."""
        history = history if isinstance(history, list) else list(history)
        self._arguments = arguments = Arguments(history, self.registry.decoder(Any))
        for message, expected in matching.recorded_turns(history):
            self._expected = expected
            self.history_length += 1
            self._base_context.run(self._apply, message)
            if self.problem is None and (left := expected.first()):
                self._mismatch(*left, None)
            yield
            if self.problem is not None:
                return
        self._warn_of_unawaited()  # before the turn in which it was said already is forgotten
        self._expected = None
        self._arguments = arguments.after_the_history()

    def apply(self, message: ev.MessageEvent) -> None:
        """Apply one new message: it and the commands that it causes become part of the next ``take_turn``."""
        if self.ending is None and self.problem is None:
            self.history_length += 1
            self._events.append(message)
            self._base_context.run(self._apply, message)

    def take_turn(self) -> Turn:
        """What the messages applied since the last call have caused. Raises the ``problem`` if there is one."""
        self._check_stuck()
        if self.problem is not None:
            raise self.problem
        self._warn_of_unawaited()
        unknown = tuple(dict.fromkeys(self._notes["task"].values()))
        bound = [id for number, id in self._notes["child"].items() if number in self.bound_children] if self.ending is not None else ()
        turn = Turn(tuple(self._events), self._custom_status, self.ending, unknown, tuple(self._locks.items()), tuple(bound))
        self._events.clear()
        self._custom_status = None
        self._turn_commands = 0
        return turn

    def close(self) -> None:
        """End the code in memory, as a coroutine that is closed: ``finally`` blocks run, and nothing is recorded. Idempotent."""
        self._base_context.run(self._end_code)

    def _end_code(self) -> None:
        self.closing = True
        closing.close_loop(self.loop, self._who)

    # ── messages ──────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, message: ev.MessageEvent) -> None:
        loop = self.loop
        if message.at_us > loop.now_us:
            loop.now_us = message.at_us
        self._deliver(message)
        if self.ending is not None:
            return
        if not loop.drain(self.limits.steps_per_turn):
            text = f"one turn of {self._who} ran more than {self.limits.steps_per_turn} steps"
            advice = "does a loop in it await nothing that takes time (asyncio.sleep(0))?"
            self.problem = TurnTooLongError(self.instance_id, f"{text}; {advice}")
        root = self._root
        if root is not None and root.done() and self.problem is None:
            ending = self._ending_of(root)
            if self.command(ending):
                self.ending = ending
                self._end_code()

    def _deliver(self, message: ev.MessageEvent) -> None:
        """To whoever waits for it. Nobody waits for a late answer to a call that was given up."""
        match message:
            case ev.Completion():
                if waiter := self._settled(message.kind, message.id):
                    waiter.succeed(message.result)
            case ev.Failure():
                if waiter := self._settled(message.kind, message.id):
                    waiter.fail(message.failure)
            case ev.TimerFired():
                self.loop.now_us = max(self.loop.now_us, message.due_us)
                if waiter := self._settled("timer", message.id):
                    waiter.fire()
            case ev.EventRaised():
                self.external_events.raised(message)
            case ev.ExecutionStarted():
                self.started = message
                self.loop.start_us = self.loop.now_us
                for event in message.carried:
                    self.external_events.raised(event)
                self._root = self.loop.create_task(self._run(message), name="orchestrator")
            case ev.ExecutionSuspended() | ev.ExecutionResumed():
                self.suspended = isinstance(message, ev.ExecutionSuspended)
            case ev.ExecutionTerminated():
                self.ending = message
                self._end_code()

    async def _run(self, message: ev.ExecutionStarted) -> Any:
        """Arguments that cannot be decoded fail the orchestrator."""
        return await self.orchestrator.fn(self.context, *self.orchestrator.decode(message.input, message.arity))

    def _settled(self, kind: ev.CommandKind, id: int) -> Any:
        self._notes[kind].pop(id, None)
        return self._waiters[kind].pop(id, None)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stopped(self) -> bool:
        return self.problem is not None and not self.closing

    @property
    def replaying(self) -> bool:
        return self._expected is not None

    def next_number(self, kind: ev.CommandKind) -> int:
        """The id of the next command of this kind. Taken only after the command's arguments were encoded: a call that raises uses none."""
        number = self._numbers[kind] = self._numbers[kind] + 1
        return number

    def command(self, command: ev.CommandEvent) -> bool:
        """Record a command, or hold it against the history. False: nothing was recorded and nothing will ever answer it."""
        if self.closing or self.problem is not None or self.ending is not None:
            return False
        if self._expected is not None:
            position, recorded = self._expected.take(command)
            if recorded != command and not self._fits(position, recorded, command):
                return False
        elif self._arguments is not None and (owner := self._arguments.displaced(command)):
            self._problem(matching.places_message(self._sides, None, owner, command, owner))
            return False
        else:
            self._events.append(command)
            self._turn_commands += 1
            if self._turn_commands > self.limits.commands_per_turn:
                text = f"{self._who} asked for more than {self.limits.commands_per_turn} things in one turn ({source.user_line()})"
                self.problem = TurnTooLongError(
                    self.instance_id, f"{text}; split the work into sub-orchestrations of a thousand items each"
                )
                return False
        self.history_length += 1
        return True

    def call(self, kind: ev.CommandKind, command: Any, waiter: calls.Waiter | calls.TimerWaiter, note: str = "") -> int:
        """Issue a command whose answer ``waiter`` is told, and give its number. ``note``: of a child its instance id, of an activity its name
        if this engine does not know it."""
        number: int = command.id
        if self.command(command):
            self._waiters[kind][number] = waiter
            if note:
                self._notes[kind][number] = note
        return number

    def start_timer(self, due_us: int, waiter: calls.TimerWaiter) -> int:
        return self.call("timer", ev.TimerCreated(self.next_number("timer"), min(due_us, LATEST_US)), waiter)

    def cancel_command(self, kind: ev.CommandKind, id: int) -> None:
        """At most one cancel a command, none for one that was answered."""
        note = self._notes[kind].get(id, "")
        if self._settled(kind, id) is not None:
            self.command(ev.CommandCancelled(kind, id, note if kind == "child" else ""))

    def request_lock(self, entity: str, waiter: calls.Waiter) -> int:
        number = self.call("entity", ev.EntityLockRequested(self.next_number("entity"), entity), waiter)
        self._locks[number] = entity
        return number

    def release_lock(self, number: int) -> None:
        """Nothing if the execution is over: its last commit does it."""
        if self.command(ev.EntityUnlocked(number, self._locks[number])):
            del self._locks[number]

    def forbid_in_section(self, what: str) -> None:
        if self.section is not None:
            held = ", ".join(self.section.entities)
            raise LockingRulesViolationError(f"{what} is not allowed while {self._who} is inside lock_entities({held}): it could deadlock")

    def set_custom_status(self, text: str | None) -> None:
        if self._expected is None and not self.closing:
            self._custom_status = text

    def continue_as_new(self, input: str | None, arity: int) -> None:
        if not self.closing:
            self._next_input = (input, arity)

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────

    def _ending_of(self, root: Any) -> ev.ExecutionCompleted | ev.ExecutionFailed | ev.ExecutionContinuedAsNew:
        text = "the orchestrator ended with CancelledError, although nobody terminated it"
        error: BaseException | None = asyncio.CancelledError(text) if root.cancelled() else root.exception()
        result = None
        if error is None and self._next_input is None:
            try:
                result = self.orchestrator.encode_result(root.result())
                self.registry.check_size(result, f"the result of orchestrator {self.name!r}")
            except Exception as unencodable:
                error = unencodable
        if error is not None and _is_out_of_memory(error):  # the process's trouble, not the orchestration's: the turn is given up
            raise error
        self._warn_of_unawaited()
        unawaited = tuple(describe(task._exception) for task in islice((task for task in self._unawaited if task._log_traceback), 100))
        if error is not None:
            return ev.ExecutionFailed(describe(error), unawaited)
        if self._next_input is not None:
            return ev.ExecutionContinuedAsNew(*self._next_input, tuple(self.external_events.buffered))
        return ev.ExecutionCompleted(result, unawaited)

    # ── problems ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _who(self) -> str:
        return f"orchestrator {self.name!r} of {self.instance_id!r}"

    @property
    def _sides(self) -> matching.Sides:
        recorded_on = (self.started.python, self.started.logic) if self.started is not None else ("", 0)
        who = f"orchestrator {self.name!r} of instance {self.instance_id!r}"
        return matching.Sides(who, recorded_on, (self.python, LOGIC_VERSION))

    def _mismatch(self, position: int | None, recorded: ev.CommandEvent | None, asked: ev.CommandEvent | None) -> None:
        self._problem(matching.mismatch_message(self._sides, position, recorded, asked))

    def _problem(self, text: str) -> None:
        self.problem = NonDeterminismError(self.instance_id, text)

    def _fits(self, position: int | None, recorded: ev.CommandEvent | None, asked: ev.CommandEvent) -> bool:
        """Of two that are not equal. Arguments that were merely changed are warned of, once."""
        if recorded is None or position is None or not matching.is_same(recorded, asked):
            self._mismatch(position, recorded, asked)
            return False
        arguments = self._arguments
        if arguments is None or not arguments.differ(recorded, asked):
            return True
        owner = arguments.owner(position, recorded, asked)
        if owner is not None:
            self._problem(matching.places_message(self._sides, position, recorded, asked, owner))
            return False
        if not self._warned_of_arguments:
            self._warned_of_arguments = True
            _logger.warning("%s", matching.arguments_message(self._who, recorded, asked))
        return True

    def _check_stuck(self) -> None:
        if self.problem is not None or self.ending is not None or self.closing or self._root is None:
            return
        if any(self._waiters.values()) or self.external_events.awaited:
            return
        lines = "; ".join(f"{task.get_name()} at {source.await_line(task.get_coro())}" for task in self.loop.tasks if not task.done())
        text = "waits for something that can never come: no activity, timer, sub-orchestration, entity call or event is outstanding"
        advice = "Await what ctx.call_…() returned, or set the future, event or queue it waits for. The instance is kept and tried again, so a corrected version goes on."
        self.problem = OrchestrationStuckError(self.instance_id, f"{self._who} {text}. Waiting: {lines}. {advice}")

    def _warn_of_unawaited(self) -> None:
        """Once a turn: tasks that failed and that nobody has looked at. ``await task`` may still come, so it is no more than a warning,
        until the end records it."""
        failed, self.loop.failed = self.loop.failed, []
        for task in failed:
            if task is not self._root and task._log_traceback:
                self._unawaited.append(task)
                if task.collectors == 0:  # a gather(return_exceptions=True) that waits for others has not looked yet, but will
                    text = f"task {task.get_name()!r} failed and nobody has awaited it (yet)"
                    self.report({"message": text, "exception": task._exception})

    def report(self, context: dict[str, Any]) -> None:
        if not self.replaying:
            error = context.get("exception")
            cause = error if isinstance(error, BaseException) else None
            _logger.warning("orchestrator %r of %r: %s", self.name, self.instance_id, context.get("message"), exc_info=cause)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, BaseExceptionGroup) and error.subgroup(MemoryError) is not None)
