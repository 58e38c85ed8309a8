"""The pool of processes for CPU-bound activities.

A child finds the function by module and name, as ``multiprocessing`` does for pickled functions, and answers with a result or a described
failure. It does not outlive its parent: a thread in each child waits on the parent's sentinel, so that ``kill -9`` of the parent ends the
children too.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import operator
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from durable_core.definitions.activity import Activity
from durable_core.errors import FailureDetails
from durable_core.failures import DescribedElsewhere, describe

_logger = logging.getLogger("durable_core.activity")
_DEATHS_MAX = 3

_PARENTS_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class ActivityProcesses:
    """Started at the first use; rebuilt after a child died. ``_alone`` are pools of one call each."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._places = asyncio.Semaphore(size)
        self._pool: ProcessPoolExecutor | None = None
        self._alone: list[ProcessPoolExecutor] = []

    async def run(self, activity: Activity[..., Any], *args: Any) -> Any:
        """The result, or ``DescribedElsewhere``.

        A pool ends with the first of its children that dies, and nobody knows whose call that was. So each call that was in there is run
        again in a process of its own, a few times: only deaths there are its own.
        """
        async with self._places:
            pool = self._pool = self._pool or _new_pool(self._size)
            try:
                return await _submit(pool, activity, args)
            except BrokenProcessPool:
                if self._pool is pool:
                    self._pool = None
                    pool.shutdown(wait=False, cancel_futures=True)
            for death in range(1, _DEATHS_MAX + 1):
                try:
                    return await self._run_alone(activity, args)
                except BrokenProcessPool:
                    _logger.warning("a process died while it ran activity %r (%d of %d times)", activity.name, death, _DEATHS_MAX)
        died = (
            f"the process that ran activity {activity.name!r} died {_DEATHS_MAX} times; does it run out of memory or crash the interpreter?"
        )
        raise DescribedElsewhere(FailureDetails("ProcessDied", died))

    async def _run_alone(self, activity: Activity[..., Any], args: tuple[Any, ...]) -> Any:
        pool = _new_pool(1)
        self._alone = [each for each in self._alone if _children(each)] + [pool]
        try:
            return await _submit(pool, activity, args)
        finally:
            pool.shutdown(wait=False)  # the child ends when the call has; one that nobody waits for any more may go on

    def close(self) -> None:
        """Ends the children at once."""
        pools = [*([self._pool] if self._pool is not None else []), *self._alone]
        self._pool, self._alone = None, []
        for pool in pools:
            children = _children(pool)
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.kill()


def _new_pool(size: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(size, mp_context=multiprocessing.get_context("spawn"), initializer=_die_with_parent)


async def _submit(pool: ProcessPoolExecutor, activity: Activity[..., Any], args: tuple[Any, ...]) -> Any:
    with _signals_held_back():  # here the pool starts its children
        call = asyncio.wrap_future(pool.submit(_call, activity.fn.__module__, activity.fn.__qualname__, args))
    return await call


def _children(pool: ProcessPoolExecutor) -> list[Any]:
    return list((getattr(pool, "_processes", None) or {}).values())


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A child inherits the mask: a signal in the tenths of a second before its ``_die_with_parent`` waits, instead of killing it amid its
    imports."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent() -> None:
    import threading
    from multiprocessing.connection import wait

    # Ctrl-C reaches the whole foreground group, a service manager's SIGTERM the whole service: the parent decides what becomes of
    # running activities. SIGTERM gets a handler: what is ignored stays ignored in programs that an activity starts, and these must be
    # able to be terminated.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENTS_SIGNALS)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, name="durable-core parent watch", daemon=True).start()


def _call(module: str, qualname: str, args: tuple[Any, ...]) -> Any:
    try:
        activity = operator.attrgetter(qualname)(importlib.import_module(module))
        return (activity.fn if isinstance(activity, Activity) else activity)(*args)
    except BaseException as error:
        raise DescribedElsewhere(describe(error)) from None
