"""The deterministic event loop: a real ``asyncio.AbstractEventLoop`` without I/O, threads or a clock of its own.

An orchestrator runs on one of these, one loop per execution. ``asyncio``'s own machinery (tasks, ``gather``, ``timeout``, ``TaskGroup``,
locks, queues) does the rest, since it needs only ``call_soon``, ``call_at``, ``create_future`` and ``create_task``. Determinism comes from
four facts:

* ready handles run strictly first in, first out;
* time is the recorded time of the message being applied, and ``call_later`` creates a durable timer;
* whatever leaves the loop (sockets, executors, subprocesses, other threads) raises at once;
* futures and tasks have an order of their own (``futures.py``).

``drain`` runs until nothing is ready. It must be called from a plain callback or a thread, not from within another task's step (CPython
3.14 refuses that).
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from functools import partialmethod
from typing import TYPE_CHECKING, Any, NoReturn, TypeVarTuple

from durable_core.errors import ForbiddenInOrchestratorError
from durable_core.replay.futures import DeterministicFuture, DeterministicTask
from durable_core.replay.generators import Generators
from durable_core.replay.libraries import adapt_libraries
from durable_core.replay.source import user_line
from durable_core.replay.substitution import substitute

if TYPE_CHECKING:
    from durable_core.replay.machine import Execution

Ts = TypeVarTuple("Ts")

_LONGEST_S = 1e12  # more than all time that a datetime knows; beyond it floats overflow on the way to microseconds


class TimerHandle(asyncio.TimerHandle):
    """A durable timer that asyncio asked for; ``timer_id`` ties it to its ``TimerFired``."""

    __slots__ = ("timer_id",)
    timer_id: int
    _loop: DeterministicLoop

    def fire(self) -> None:
        self._loop.ready.append(self)


async def _await(future: asyncio.Future[Any]) -> Any:
    return await future


class DeterministicLoop(asyncio.AbstractEventLoop):
    """``salt`` is the digest of the execution id that spreads hashes; see ``futures.py``."""

    is_orchestrator_loop = True

    def __init__(self, host: Execution, salt: int) -> None:
        substitute()
        adapt_libraries()
        self.host = host
        self._salt = salt
        self._ordered = 0
        self.ready: deque[asyncio.Handle] = deque()
        self._closed = False
        self._outer: tuple[Any, Any] = (None, ())
        self.now_us = 0
        self.start_us = 0
        self.tasks: dict[DeterministicTask, None] = {}  # insertion-ordered: the newest is closed first
        self.generators = Generators(self._run_cleanup)
        self.failed: list[DeterministicTask] = []

    # ── order, time ───────────────────────────────────────────────────────────────────────────────────────────

    def next_order(self) -> int:
        self._ordered += 1
        return self._salt + self._ordered

    def time(self) -> float:
        """Seconds of recorded time since the execution started."""
        return (self.now_us - self.start_us) / 1e6

    # ── scheduling ────────────────────────────────────────────────────────────────────────────────────────────

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        if math.isnan(delay):
            raise ValueError(f"a delay must be a number, got {delay}")
        if delay <= 0:
            return self.call_soon(callback, *args, context=context)
        due_us = self.now_us + max(1, round(min(delay, _LONGEST_S) * 1e6))
        handle = TimerHandle((due_us - self.start_us) / 1e6, callback, args, self, context)
        handle.timer_id = self.host.start_timer(due_us, handle)
        return handle

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        self.host.cancel_command("timer", handle.timer_id)

    def create_future(self) -> Any:
        return DeterministicFuture(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_kwargs: Any) -> Any:
        # **_kwargs: 3.12+ passes eager_start and whatever comes; tasks here are never eager.
        wraps: asyncio.Future[Any] | None = None
        if isinstance(coro, asyncio.Future):
            wraps, coro = coro, _await(coro)
        task = DeterministicTask(coro, loop=self, context=copy_context() if context is None else context)
        task.wraps = wraps
        task.set_name(name or f"task-{self._ordered}")
        self.tasks[task] = None
        asyncio.Task.add_done_callback(task, self._task_done)
        return task

    def refuse_unordered(self, awaitables: Iterable[Any]) -> NoReturn:
        self._close(awaitables)
        self._forbid(
            "asyncio.as_completed over a set of coroutines",
            "their order would be random: give a list, or wrap each in asyncio.create_task first",
        )

    def _task_done(self, task: Any) -> None:
        self.tasks.pop(task, None)
        if task.cancelled():
            if task.wraps is not None:  # cancelled before its first step, it never got to await the call: pass the cancellation on
                task.wraps.cancel()
        elif task._exception is not None:  # .exception() would count as having been looked at
            self.failed.append(task)

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self, max_steps: int) -> bool:
        """Run what is ready until nothing is, or the host has stopped us. False if ``max_steps`` did not suffice.

        The bound is for one drain, that is for one message: a bound for several would depend on how they were batched.
        """
        ready, host, steps = self.ready, self.host, 0
        with self:
            while ready and not host.stopped:
                handle = ready.popleft()
                if not handle._cancelled:
                    if steps == max_steps:
                        return False
                    steps += 1
                    handle._run()
        return True

    def __enter__(self) -> None:
        """User code may run from here: this is the running loop, and async generators are ours, until ``__exit__`` gives both back to the
        host."""
        self._outer = (asyncio._get_running_loop(), sys.get_asyncgen_hooks())
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self.generators.begun, self.generators.dropped)

    def __exit__(self, *_error: object) -> None:
        loop, hooks = self._outer
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(loop)

    def _run_cleanup(self, cleanup: Coroutine[Any, Any, None]) -> bool:
        """Have a dropped generator clean up. False where that would follow no order: outside a drain."""
        if self._closed or self.host.closing or asyncio._get_running_loop() is not self:
            return False
        self.create_task(cleanup)
        return True

    # ── what asyncio asks a loop ──────────────────────────────────────────────────────────────────────────────

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.host.report(context)

    default_exception_handler = call_exception_handler

    def _forbid(self, what: str, instead: str) -> NoReturn:
        raise ForbiddenInOrchestratorError(f"{what} is not possible in orchestrator {self.host.name!r} ({user_line()}): {instead}")

    def _close(self, refused: Iterable[Any]) -> None:
        for each in refused:
            if asyncio.iscoroutine(each):
                each.close()

    def get_task_factory(self) -> None:
        """There is none: ``create_task`` is all. anyio asks."""
        adapt_libraries()  # it may have been imported in this turn

    def refuse(self, what: str, *args: Any, **kwargs: Any) -> NoReturn:
        self._close((*args, *kwargs.values()))
        instead = "an orchestrator only decides, and is run again on replay; put I/O, threads and processes into an activity and await ctx.call_activity(...)"
        self._forbid(what, instead)


# All else that a loop offers, now or in a later Python, leaves the orchestrator: threads, sockets, processes, signals.
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(DeterministicLoop):
        setattr(DeterministicLoop, _name, partialmethod(DeterministicLoop.refuse, f"loop.{_name}()"))
