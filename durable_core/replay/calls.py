"""What an orchestrator waits for beyond one command and its reply: retries and timeouts, as callback state machines, and external events.

They react to a message synchronously, while it is applied, so the next attempt's command directly follows the failure in the history,
whatever else the orchestrator does. Each attempt has a new id: a late result of an earlier attempt finds nobody waiting under its id and is
dropped. External events are buffered in order of arrival until somebody waits, and handed to waiters first come, first served.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from durable_core.errors import FailureDetails, TaskTimeoutError
from durable_core.events import CommandKind, EventRaised
from durable_core.moments import microseconds
from durable_core.replay.futures import DurableTask
from durable_core.retry import RetryPolicy

if TYPE_CHECKING:
    from durable_core.replay.machine import Execution


class Waiter(Protocol):
    """Who gets the reply to a task, child or entity command."""

    def succeed(self, text: str | None) -> None: ...
    def fail(self, details: FailureDetails) -> None: ...


class TimerWaiter(Protocol):
    """Who is told that a timer fired."""

    def fire(self) -> None: ...


Schedule = Callable[[int, Waiter], int]


class RetryingCall:
    """``schedule(attempt, waiter)`` issues the command of one attempt and returns its id.

    ``task`` is what the orchestrator awaits; it outlives the attempts.
    """

    def __init__(self, execution: Execution, kind: CommandKind, policy: RetryPolicy, task: DurableTask[Any], schedule: Schedule) -> None:
        self._execution = execution
        self._kind: CommandKind = kind
        self._policy = policy
        self._task = task
        self._schedule = schedule
        self._started_us = execution.loop.now_us
        self._attempt = 0
        self._outstanding: tuple[CommandKind, int] = (kind, 0)
        self.fire()

    def succeed(self, text: str | None) -> None:
        self._task.succeed(text)

    def fail(self, details: FailureDetails) -> None:
        try:
            delay_us = self._policy.delay_us(details, self._attempt, self._execution.loop.now_us - self._started_us)
        except Exception as error:  # the user's handler: its failure is the call's
            self._task.fail_with(error)
            return
        self._tell(delay_us)
        if delay_us is None:
            self._task.fail(details)
        elif delay_us == 0:
            self.fire()
        else:
            self._outstanding = ("timer", self._execution.start_timer(self._execution.loop.now_us + delay_us, self))

    def _tell(self, delay_us: int | None) -> None:
        """Of the decision, once: not while replaying."""
        execution, task = self._execution, self._task
        if not execution.replaying:
            then = "its last: the call fails" if delay_us is None else f"it is tried again in {delay_us / 1e6:g} s"
            logger = logging.getLogger(f"durable_core.orchestrator.{execution.name}")
            extra = {"instance_id": execution.instance_id, "orchestrator": execution.name, "attempt": self._attempt}
            logger.warning("%r: attempt %d of %r has failed; %s", execution.instance_id, self._attempt, task.name, then, extra=extra)

    def fire(self) -> None:
        """The next attempt: at once, or when the back-off is over."""
        self._attempt += 1
        number = self._task.task_id = self._schedule(self._attempt, self)
        self._outstanding = (self._kind, number)

    def cancel(self, _task: DurableTask[Any]) -> None:
        self._execution.cancel_command(*self._outstanding)


class _Deadline(Struct, eq=False):
    task: DurableTask[Any]
    message: str

    def fire(self) -> None:
        if not self.task.done():
            self.task.give_up()
            self.task.set_exception(TaskTimeoutError(self.message))


def limit_duration(execution: Execution, task: DurableTask[Any], timeout: timedelta | None, what: str) -> None:
    """Fail ``task`` with ``TaskTimeoutError`` after this time, giving up whatever it has outstanding. A task that ends in time takes the
    timer back."""
    if timeout is not None and not task.done():
        deadline = _Deadline(task, f"{what} did not end within {timeout.total_seconds():g} s")
        number = execution.start_timer(execution.loop.now_us + max(1, microseconds(timeout)), deadline)
        task.add_done_callback(lambda _task: execution.cancel_command("timer", number))


class ExternalEvents:
    """Names are compared case-insensitively."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[DurableTask[Any]]] = {}
        self.buffered: list[EventRaised] = []

    def raised(self, event: EventRaised) -> None:
        queue = self._waiting.get(event.name.casefold())
        if queue:
            queue.popleft().succeed(event.input)
        else:
            self.buffered.append(event)

    def wait(self, task: DurableTask[Any]) -> None:
        """``task.name`` is the event's name."""
        name = task.name.casefold()
        for index, event in enumerate(self.buffered):
            if event.name.casefold() == name:
                del self.buffered[index]
                task.succeed(event.input)
                return
        self._waiting.setdefault(name, deque()).append(task)

    def give_up(self, task: DurableTask[Any]) -> None:
        """A cancelled wait consumes nothing."""
        queue = self._waiting.get(task.name.casefold())
        if queue and task in queue:
            queue.remove(task)

    @property
    def awaited(self) -> list[str]:
        """The names, as they were given."""
        return [task.name for queue in self._waiting.values() for task in queue]
