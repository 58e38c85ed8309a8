"""Background loops are watched. One that ends by an unexpected error takes the engine with it, loudly: a worker that beats on and does nothing
else would keep its leases from everybody who could work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from durable_core.errors import EngineFailedError

_logger = logging.getLogger("durable_core.engine")


class Supervisor:
    """``failure`` is what the first loop died of. ``on_failure`` are called then. ``closing``: loops are ended on purpose."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.closing = False
        self.on_failure: list[Callable[[], object]] = []
        self._loop = ""

    def start(self, loop: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(loop, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
        elif task.cancelling() == 0:  # by nobody: something that it awaited was cancelled
            error = asyncio.CancelledError("what it waited for was cancelled")
        else:
            error = None
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):  # these end the process
            self._died(task.get_name(), error)

    def _died(self, loop: str, error: BaseException) -> None:
        if self.closing or self.failure is not None:
            _logger.error("%s died, too: %r", loop, error, exc_info=error)
            return
        self.failure, self._loop = error, loop
        _logger.critical("%s. This engine stops; its work is free for others", self._text(), exc_info=error)
        for call in self.on_failure:
            call()

    def error(self) -> EngineFailedError:
        """A new one each time: it is raised in many places."""
        error = EngineFailedError(f"{self._text()}. The engine has stopped and has to be opened again")
        error.__cause__ = self.failure
        return error

    def check(self) -> None:
        """Raises ``EngineFailedError`` once a loop has died."""
        if self.failure is not None:
            raise self.error()

    def _text(self) -> str:
        return f"{self._loop} died of an unexpected error: {type(self.failure).__name__}: {self.failure}"

    @contextmanager
    def cancels_opener(self) -> Iterator[None]:
        """As a task group does: when a loop dies the body is cancelled, and the failure is raised at its end."""
        opener = asyncio.current_task()
        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            if opener is not None:
                cancelled = opener.cancel()

        self.on_failure.append(cancel)
        try:
            yield
        except asyncio.CancelledError:
            if not cancelled or opener is None or opener.uncancel() > 0:
                raise  # somebody else cancels, too
        else:
            if cancelled and opener is not None:
                opener.uncancel()  # the body has ended in spite of it
        finally:
            self.on_failure.remove(cancel)
        self.check()
