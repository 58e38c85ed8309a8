"""The pool of processes for CPU-bound activities.

A child finds the function by module and name, as ``multiprocessing`` does for pickled functions, and answers with a result or a described failure. It does not outlive its parent: a thread in each
child waits on the parent's sentinel, so that ``kill -9`` of the parent ends the children too.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from durable_core.definitions import Activity
from durable_core.failures import describe

__all__ = ["ActivityProcesses", "BrokenProcessPool"]


class ActivityProcesses:
    """Started at the first use; rebuilt after a child died."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.size, mp_context=context, initializer=_die_with_parent)
        return self._pool

    async def run(self, activity: Activity[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
        """(True, result) or (False, FailureDetails). Raises ``BrokenProcessPool`` if the child died: the pool is then replaced."""
        import asyncio

        pool = self.start()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, _call, activity.fn.__module__, activity.fn.__qualname__, args)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
                pool.shutdown(wait=False, cancel_futures=True)
            raise

    def close(self) -> None:
        """Ends the children at once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            children = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()


def _die_with_parent() -> None:
    import signal
    import threading
    from multiprocessing.connection import wait

    # Ctrl-C reaches the whole foreground group: the parent decides what happens to running activities.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, name="durable-core parent watch", daemon=True).start()


def _call(module: str, qualname: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, _resolve(module, qualname)(*args)
    except BaseException as error:
        return False, describe(error)


def _resolve(module: str, qualname: str) -> Callable[..., Any]:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found.fn if isinstance(found, Activity) else found


