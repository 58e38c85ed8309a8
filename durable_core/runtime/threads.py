"""The engine's own threads for synchronous activities: daemon threads, so that one that hangs cannot keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class DaemonThreads:
    """A thread starts with each of the first ``size`` calls, and lives until ``close``."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call it in a thread, with this context's variables. Cancellation does not stop the thread; its result is dropped."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        ended: asyncio.Future[tuple[BaseException | None, Any]] = loop.create_future()

        def tell(outcome: tuple[BaseException | None, Any]) -> None:
            if not ended.done():
                ended.set_result(outcome)

        def job() -> None:
            outcome: tuple[BaseException | None, Any]
            try:
                outcome = None, context.run(function, *args)
            except BaseException as raised:
                outcome = raised, None
            with suppress(RuntimeError):  # the loop has closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(tell, outcome)

        if self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name} {self._threads}", daemon=True).start()
        self._jobs.put(job)
        error, result = await ended
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
