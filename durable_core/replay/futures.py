"""Futures and tasks whose order in a set is the same on every run.

``asyncio.wait`` returns sets and ``TaskGroup`` cancels by iterating one. A set iterates by hash, and a default hash is an address, so the
order of wake-ups (and with it the history) would change from run to run. Ours hash to *digest of the execution id + a number per
execution*: the number gives the order, the digest keeps thousands of cached executions from colliding in asyncio's process-wide set of all
tasks. Equality stays identity. The hash must be there before ``super().__init__()``, which already puts a task into that set.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from durable_core.errors import FailureDetails, TaskFailedError
from durable_core.events import CommandKind

if TYPE_CHECKING:
    from durable_core.replay.loop import DeterministicLoop

R = TypeVar("R")
Decoder = Callable[[str | None], Any]
OnCancel = Callable[[Any], None] | None


def hash_salt(execution_id: str) -> int:
    """60 bits, the low ones included: a set looks at those first, and thousands of executions share asyncio's set of all tasks."""
    return int.from_bytes(hashlib.blake2b(execution_id.encode(), digest_size=8).digest()) >> 4


def orchestrators_loop() -> Any:
    """The running loop, if an orchestrator runs on it; else None."""
    loop = asyncio._get_running_loop()
    return loop if hasattr(loop, "is_orchestrator_loop") else None


class DeterministicFuture(asyncio.Future[Any]):
    __slots__ = ("_order",)

    def __init__(self, *, loop: DeterministicLoop) -> None:
        self._order = loop.next_order()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._order

    __eq__ = object.__eq__


class DeterministicTask(asyncio.Task[Any]):
    """``wraps`` is the future that the task was made to await, if it was made of one. ``collectors`` counts the gathers, waits and groups
    that will look at how it ended. ``context`` is that in which its code runs.

    It counts itself how often it was cancelled: since 3.13 ``uncancel`` also takes back a cancellation that was not delivered yet, which older
    ones cannot, so it is done on none.
    """

    __slots__ = ("_cancels", "_order", "collectors", "context", "wraps")

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: DeterministicLoop, context: Context) -> None:
        self._order = loop.next_order()
        self._cancels = 0
        self.collectors = 0
        self.context = context
        self.wraps: asyncio.Future[Any] | None = None
        super().__init__(coro, loop=loop, context=context)

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = asyncio.Task.cancel(self, msg=msg)
        self._cancels += cancelled
        return cancelled

    def cancelling(self) -> int:
        return self._cancels

    def uncancel(self) -> int:
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def cancel_again(self) -> None:
        """Deliver a cancellation that something has hidden, unless it was taken back meanwhile."""
        if self._cancels:
            asyncio.Task.cancel(self)

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        self.collectors += _is_collector(fn)
        asyncio.Task.add_done_callback(self, fn, context=context)

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        removed = asyncio.Task.remove_done_callback(self, fn)
        self.collectors -= removed * _is_collector(fn)
        return removed

    def __hash__(self) -> int:
        return self._order

    __eq__ = object.__eq__


def _is_collector(callback: Any) -> bool:
    """A callback of asyncio's or ours, not one of the user's (``background.discard``), who may never look."""
    return (getattr(callback, "__module__", None) or "").startswith(("asyncio.", "durable_core."))


if TYPE_CHECKING:

    class _DurableTaskBase(asyncio.Future[R], Coroutine[Any, Any, R]):
        """To type checkers a future that is also a coroutine, so that ``TaskGroup.create_task`` takes it: our loop's ``create_task``
        does."""

        def __await__(self) -> Generator[Any, None, R]: ...
        def send(self, value: Any, /) -> Any: ...
        def throw(self, *args: Any) -> Any: ...
else:
    _DurableTaskBase = DeterministicFuture


class DurableTask(_DurableTaskBase[R]):
    """What every ``ctx.call_…`` returns: an awaitable that can be awaited again, gathered, put into a ``TaskGroup``, and cancelled.

    ``name`` is what was called and ``task_id`` its number among the calls of its kind (with retries: of the last attempt; 0 for waits that
    leave no command).
    """

    __slots__ = ("_decode", "kind", "name", "on_cancel", "task_id")

    def __init__(
        self, loop: DeterministicLoop, name: str, kind: CommandKind | None = None, decode: Decoder | None = None, on_cancel: OnCancel = None
    ) -> None:
        self.name = name
        self.kind: CommandKind | None = kind
        self.task_id = 0
        self._decode = decode
        self.on_cancel = on_cancel
        super().__init__(loop=loop)

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the call up: an activity that has not started is removed, a running one is told, a child is terminated."""
        if self.done():
            return False
        self.give_up()
        return super().cancel(msg=msg)

    def give_up(self) -> None:
        """Take back what is outstanding for this call: its one command, unless ``on_cancel`` knows better."""
        if self.on_cancel is not None:
            self.on_cancel(self)
        elif self.kind is not None:
            loop: Any = self.get_loop()
            loop.host.cancel_command(self.kind, self.task_id)

    def close(self) -> None:
        """A ``TaskGroup`` that takes no more tasks does this to what it was given, taking it for a coroutine."""
        self.cancel()

    # What the machine does when the reply is there. A cancelled call may still get one: it is dropped.

    def succeed(self, text: Any) -> None:
        """``text`` is given as it is if there is nothing to decode it."""
        if not self.done():
            try:
                self.set_result(self._decode(text) if self._decode is not None else text)
            except Exception as error:  # a result that does not fit the hint is the awaiting code's to see
                self.fail_with(error)

    def fail_with(self, error: Exception) -> None:
        """What a converter or a retry handler of the user's raised: the awaiting code's to see, but for a process without memory."""
        if isinstance(error, MemoryError):
            raise error
        if isinstance(error, StopIteration):  # which no future can carry
            error = RuntimeError(f"{self.name}: {error!r} was raised where a value was expected")
        if not self.done():
            self.set_exception(error)

    def fire(self) -> None:
        """The timer that this task stands for has fired."""
        self.succeed(None)

    def fail(self, details: FailureDetails) -> None:
        if not self.done():
            self.set_exception(TaskFailedError(self.name, self.task_id, details))
