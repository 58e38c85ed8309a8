"""The classes of asyncio in which CPythons differ, as the engine's own: ``TaskGroup``, ``Semaphore``, ``Condition``.

They do on every Python what those of 3.13 do, and override only what differs. ``Lock``, ``Event``, ``Barrier``, ``Queue`` and ``Timeout`` run
in the same order everywhere (docs/decisions/0019).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class TaskGroup(asyncio.TaskGroup):
    """Until 3.12 a group whose member failed while its body had ended left its task counted as cancelled, so that an ``asyncio.timeout`` around
    it raised ``CancelledError``; a group that refuses a coroutine closes it since 3.13 only."""

    _loop: Any
    _parent_task: Any
    _tasks: set[Any]
    _errors: list[BaseException]
    _base_error: BaseException | None
    _on_completed_fut: Any

    def create_task(self, coro: Any, **options: Any) -> Any:
        refusal = self._refusal()
        if refusal:
            coro.close()
            raise RuntimeError(f"TaskGroup {self!r} {refusal}")
        task = self._loop.create_task(coro, **options)
        self._tasks.add(task)
        group: Any = self
        task.add_done_callback(group._on_task_done)
        return task

    def _refusal(self) -> str:
        group: Any = self
        if not group._entered:
            return "has not been entered"
        if group._exiting and not self._tasks:
            return "is finished"
        return "is shutting down" if group._aborting else ""

    async def __aexit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        group: Any = self
        group._exiting = True
        cancellation = error if isinstance(error, asyncio.CancelledError) else None
        if error is not None:
            if group._is_base_error(error) and self._base_error is None:
                self._base_error = error
            if not group._aborting:
                group._abort()
        cancellation = await self._all_ended() or cancellation
        if self._base_error is not None:
            raise self._base_error
        # Only now: until here a member that failed may have cancelled the task around the group.
        if group._parent_cancel_requested and self._parent_task.uncancel() == 0:
            cancellation = None
        if cancellation is not None and not self._errors:
            raise cancellation
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self._errors.append(error)
        if self._errors:
            if self._parent_task.cancelling():  # somebody else wants it cancelled, and the group's failure must not hide that
                self._loop.call_soon(self._parent_task.cancel_again)
            errors, self._errors = self._errors, []
            raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors) from None

    async def _all_ended(self) -> asyncio.CancelledError | None:
        """The cancellation that came while the group waited, if one came from outside."""
        group: Any = self
        cancellation = None
        while self._tasks:
            self._on_completed_fut = self._loop.create_future()
            try:
                await self._on_completed_fut
            except asyncio.CancelledError as asked:
                if not group._aborting:
                    cancellation = asked
                    group._abort()
            self._on_completed_fut = None
        return cancellation


class Semaphore(asyncio.Semaphore):
    """Since 3.13 whoever is cancelled while it waits lets as many others through as there is room for, not only one."""

    _waiters: deque[Any] | None
    _value: int

    def locked(self) -> bool:
        """Also if somebody waits already: nobody is passed over."""
        return self._value == 0 or any(not waiter.cancelled() for waiter in self._waiters or ())

    async def acquire(self) -> Any:
        if not self.locked():
            self._value -= 1
            return True
        if self._waiters is None:
            self._waiters = deque()
        turn: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            try:
                await turn
            finally:
                self._waiters.remove(turn)
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn already: it is given back
                self._value += 1
            raise
        finally:
            self._wake_up()
        return True

    def release(self) -> None:
        self._value += 1
        self._wake_up(1)

    def _wake_up(self, most: int | None = None) -> None:
        for waiter in self._waiters or ():
            if self._value <= 0 or most == 0:
                return
            if not waiter.done():
                self._value -= 1
                waiter.set_result(True)
                most = None if most is None else most - 1


class Condition(asyncio.Condition):
    """Since 3.13 a notification that reached somebody who was cancelled is passed on, and a cancellation keeps its message."""

    _waiters: deque[Any]

    async def wait(self) -> Any:
        if not self.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        notified: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.release()
        try:
            self._waiters.append(notified)
            try:
                await notified
            finally:
                self._waiters.remove(notified)
                await self._lock_again()
        except BaseException:
            self._wake_up(1)
            raise
        return True

    async def _lock_again(self) -> None:
        """Also for somebody who is cancelled, however often."""
        cancellation = None
        while True:
            try:
                await self.acquire()
                break
            except asyncio.CancelledError as asked:
                cancellation = asked
        if cancellation is not None:
            raise cancellation

    def notify(self, n: int = 1) -> None:
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._wake_up(n)

    def _wake_up(self, most: int) -> None:
        for waiter in self._waiters:
            if most <= 0:
                return
            if not waiter.done():
                most -= 1
                waiter.set_result(False)
