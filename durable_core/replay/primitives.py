"""The functions of asyncio in which CPythons differ, as the engine's own: ``wait_for``, ``gather``, ``as_completed``.

An orchestration that was begun on one Python may go on under another one, and its coroutines must run there in the same order. Until 3.11
``wait_for`` ran a coroutine in a task of its own; until 3.11 ``gather`` took one step of the loop to see a member that had ended before; until
3.12 ``as_completed`` did nothing before its first ``next``. What stands here does on every Python what the newest one does
(docs/decisions/0019). ``substitution.py`` puts it in place; the classes are in ``synchronisation.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from durable_core.replay.futures import DeterministicFuture


async def wait_for(awaitable: Any, timeout: float | None) -> Any:
    if timeout is None or timeout > 0:
        async with asyncio.timeout(timeout):
            return await awaitable
    # No time at all: what has ended gives its result, and a coroutine does not even begin.
    future: Any = asyncio.ensure_future(awaitable)
    if future.done():
        return future.result()
    future.cancel()
    await asyncio.wait([future])
    try:
        return future.result()
    except asyncio.CancelledError as error:
        raise TimeoutError from error


def gather(*awaitables: Any, return_exceptions: bool = False) -> Any:
    loop: Any = asyncio.get_running_loop()
    futures: dict[Any, Any] = {}  # what is given twice is awaited once
    for each in awaitables:
        if each not in futures:
            futures[each] = future = asyncio.ensure_future(each, loop=loop)
            if future is not each:
                future._log_destroy_pending = False  # nobody else can get at this task, so nobody can be told to await it
    return Gathering(loop, [futures[each] for each in awaitables], return_exceptions)


class Gathering(DeterministicFuture):
    """Ends with its last member, or with the first failure. To cancel it is to cancel its members."""

    __slots__ = ("_cancelled_with", "_left", "_members", "_return_exceptions")

    def __init__(self, loop: Any, members: Sequence[Any], return_exceptions: bool) -> None:
        super().__init__(loop=loop)
        self._members = members
        self._return_exceptions = return_exceptions
        self._cancelled_with: asyncio.CancelledError | None = None
        distinct = dict.fromkeys(members)
        self._left = len(distinct)
        early = [member for member in distinct if member.done()]
        ended = self._member_ended  # one object for all of them: a fan-out has thousands
        for member in distinct:
            if not member.done():
                member.add_done_callback(ended)
        for member in early:
            ended(member)
        if not members:
            self.set_result([])

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        cancelled = [member for member in self._members if member.cancel(msg=msg)]
        if cancelled:  # whatever the members make of it, this future ends cancelled
            self._cancelled_with = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        return bool(cancelled)

    def _member_ended(self, member: Any) -> None:
        self._left -= 1
        failure = _failure_of(member)  # also of one that nobody waits for any more: it counts as looked at
        if self.done():
            return
        if failure is not None and not self._return_exceptions:
            self.set_exception(failure)
        elif self._left == 0 and self._cancelled_with is not None:
            self.set_exception(self._cancelled_with)
        elif self._left == 0:
            self.set_result([_outcome_of(each) for each in self._members])


def _failure_of(future: Any) -> BaseException | None:
    if not future.cancelled():
        error: BaseException | None = future.exception()
        return error
    try:
        future.result()
    except asyncio.CancelledError as cancellation:
        return cancellation
    return None


def _outcome_of(future: Any) -> Any:
    failure = _failure_of(future)
    return future.result() if failure is None else failure


class AsCompleted:
    """``for`` gives awaitables of the results, ``async for`` (as since 3.13) the futures themselves."""

    def __init__(self, awaitables: Iterable[Any], timeout: float | None) -> None:
        loop: Any = asyncio.get_running_loop()
        unordered = isinstance(awaitables, set | frozenset)
        distinct = dict.fromkeys(awaitables)
        if unordered and not all(map(asyncio.isfuture, distinct)):
            loop.refuse_unordered(distinct)
        self._ended: asyncio.Queue[Any] = asyncio.Queue()
        self._open: dict[Any, None] = dict.fromkeys(asyncio.ensure_future(each, loop=loop) for each in distinct)
        self._not_given = len(self._open)
        self._timer: Any = None
        for future in self._open:
            future.add_done_callback(self._one_ended)
        if self._open and timeout is not None:
            self._timer = loop.call_later(timeout, self._time_is_over)

    def __iter__(self) -> AsCompleted:
        return self

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if self._not_given == 0:
            raise StopIteration
        self._not_given -= 1
        return self._next_result()

    def __aiter__(self) -> AsCompleted:
        return self

    async def __anext__(self) -> Any:
        if self._not_given == 0:
            raise StopAsyncIteration
        self._not_given -= 1
        return await self._next_future()

    def _one_ended(self, future: Any) -> None:
        if future not in self._open:  # time was over first
            return
        del self._open[future]
        self._ended.put_nowait(future)
        if not self._open and self._timer is not None:
            self._timer.cancel()

    def _time_is_over(self) -> None:
        for future in self._open:
            future.remove_done_callback(self._one_ended)
            self._ended.put_nowait(None)
        self._open.clear()

    async def _next_future(self) -> Any:
        future = await self._ended.get()
        if future is None:
            raise TimeoutError
        return future

    async def _next_result(self) -> Any:
        future = await self._next_future()
        return future.result()


def as_completed(awaitables: Any, *, timeout: float | None = None) -> AsCompleted:
    if asyncio.isfuture(awaitables) or asyncio.iscoroutine(awaitables):
        raise TypeError(f"as_completed takes an iterable of awaitables, not {type(awaitables).__name__}")
    return AsCompleted(awaitables, timeout)
