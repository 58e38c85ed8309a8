"""One event loop for several simulated processes: virtual time, and an order that a seed decides.

``asyncio`` promises that callbacks run in the order in which they were asked for, so that holds here too, within one process. Between
processes nothing is promised: of those that have something to run, the seed chooses one for each step. When nobody has anything to run, time
jumps to the next moment at which something is due.

Whose a callback is, its context says (``PROCESS``): tasks and callbacks inherit it, as do those that wait for another process' future. A process
that is dead runs no further step, not even a ``finally``; one that is frozen catches up when it thaws. There are no threads, no sockets, and
nothing real to wait for; ``asyncio.to_thread`` runs its function at once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from attrs import define, field

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class NothingIsDueError(Exception):
    """Everybody waits for somebody else."""


@define(eq=False)
class Process:
    """``on_step`` is called after its step number ``next_event``."""

    name: str
    ready: deque[asyncio.Handle] = field(factory=deque, repr=False)
    dead: bool = False
    frozen: bool = False
    steps: int = 0
    next_event: float = float("inf")
    on_step: Callable[[], None] = field(default=lambda: None, repr=False)


PROCESS: ContextVar[Process] = ContextVar("PROCESS")


class SimulatedLoop(asyncio.AbstractEventLoop):
    """``errors`` are those that nobody caught."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now = 0.0
        self._awake: list[Process] = []
        self._timers: list[tuple[float, int, Process, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._closed = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._generators: list[AsyncGenerator[Any, Any]] = []  # held, so that none is finalised by the garbage collector
        self.world = Process("world")
        self.steps = 0
        self.errors: list[str] = []

    # ── scheduling ────────────────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        context = context if context is not None else copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(context.get(PROCESS, self.world), handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _enqueue(self, process: Process, handle: asyncio.Handle) -> None:
        if process.dead:
            return
        process.ready.append(handle)
        if len(process.ready) == 1 and not process.frozen:
            self._awake.append(process)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.TimerHandle:
        context = context if context is not None else copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), context.get(PROCESS, self.world), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_kwargs: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=name, context=context
        )  # in ``_tasks``, also when all of these are being dropped
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # ── processes ─────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, process: Process) -> None:
        process.dead = True
        process.ready.clear()
        self._sleeps(process)

    def freeze(self, process: Process) -> None:
        process.frozen = True
        self._sleeps(process)

    def thaw(self, process: Process) -> None:
        process.frozen = False
        if process.ready:
            self._awake.append(process)

    def _sleeps(self, process: Process) -> None:
        if process in self._awake:
            self._awake.remove(process)

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Until ``main`` is over; everything else is then dropped where it stands."""
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generators.append, lambda _generator: None)
        try:
            task: asyncio.Task[T] = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._drop_everything()
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        while not self._awake:
            self._advance()
        at = int(self._random.random() * len(self._awake)) if len(self._awake) > 1 else 0
        process = self._awake[at]
        handle = process.ready.popleft()
        if not process.ready:
            del self._awake[at]
        if handle.cancelled():
            return
        process.steps += 1
        self.steps += 1
        handle._run()
        if process.steps >= process.next_event and not process.dead:
            process.on_step()

    def _advance(self) -> None:
        """To the next moment at which something is due."""
        while self._timers and self._timers[0][3].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise NothingIsDueError
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, process, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._enqueue(process, handle)

    def _drop_everything(self) -> None:
        """Close what is left, so that nothing is finalised later and elsewhere; whatever that does goes nowhere."""
        self._closed = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine: Any = task.get_coro()
                try:
                    coroutine.close()
                except BaseException:  # it wanted to go on
                    pass
            elif not task.cancelled():
                task.exception()  # otherwise it would be complained of
        self._tasks.clear()
        self._timers.clear()
        self._awake.clear()
        self._generators.clear()

    # ── what asyncio asks a loop ──────────────────────────────────────────────────────────────────────────────

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            error = context.get("exception")
            self.errors.append(f"{context.get('message')}: {error!r}")

    default_exception_handler = call_exception_handler


def new_loop(random: Random) -> SimulatedLoop:
    kind: Any = SimulatedLoop  # its abstract methods are filled in below
    loop: SimulatedLoop = kind(random)
    return loop


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise NotImplementedError("a simulation has no threads, sockets, processes or signals: pass fakes for activities that need them")


# All else that a loop offers, now or in a later Python, is real.
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(SimulatedLoop):
        setattr(SimulatedLoop, _name, _refuse)
