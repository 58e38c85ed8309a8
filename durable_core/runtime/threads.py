"""The engine's own threads for synchronous activities: daemon threads, so that one that hangs cannot keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any


class DaemonThreads:
    """A thread starts with each of the first ``size`` calls, and live until ``close``."""

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0

    def run(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Call it in a thread, with this context's variables. A cancelled future does not stop the thread; its result is dropped."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                setter(value)

        def job() -> None:
            try:
                result = context.run(function, *args)
            except BaseException as error:
                outcome: tuple[Callable[[Any], None], Any] = (future.set_exception, _storable(error))
            else:
                outcome = (future.set_result, result)
            try:
                loop.call_soon_threadsafe(settle, *outcome)
            except RuntimeError:  # the loop has closed meanwhile: nobody waits any more
                pass

        if self._threads < self.size:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name} {self._threads}", daemon=True).start()
        self._jobs.put(job)
        return future

    def close(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _storable(error: BaseException) -> BaseException:
    """A future refuses StopIteration."""
    if isinstance(error, StopIteration):
        wrapped = RuntimeError("StopIteration was raised")
        wrapped.__cause__ = error
        return wrapped
    return error
