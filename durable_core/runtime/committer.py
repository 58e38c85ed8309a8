"""Group commit: one queue for every write of this process, one batch in flight.

While a batch is being made durable the next one accumulates, so batch size follows load and no timer is needed. Callbacks run when their
command is durable and decided, in the order of submission. A transient failure repeats the very same commands: each is recognisable to the
store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from durable_core.backend import Backend, Command, Outcome
from durable_core.errors import DurableError, EngineStateError, StoreError, StoreUnavailableError

_logger = logging.getLogger("durable_core.engine")
_FIRST_RETRY_S = 0.02
_LAST_RETRY_S = 2.0

Done = Callable[[Outcome], None]
Failed = Callable[[DurableError], None]


class Committer:
    """Commands of the worker (turns, completions, releases) are retried until the store takes them. Those of clients fail with the store's
    error, except that a transient one is retried for ``client_patience_s``."""

    def __init__(self, backend: Backend, *, client_patience_s: float = 10.0) -> None:
        self._backend = backend
        self._max_batch = backend.capabilities.max_batch
        self._client_patience_s = client_patience_s
        self._queue: list[tuple[Command, Done, Failed | None]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="durable-core committer")
        self.batches = 0

    def submit(self, command: Command, done: Done, failed: Failed | None = None) -> None:
        """``done`` gets the outcome. ``failed`` is for clients: it gets a store's error that retrying does not mend."""
        if self._closed:
            raise EngineStateError("the engine is closed")
        self._queue.append((command, done, failed))
        self._wake.set()

    def apply(self, command: Command) -> asyncio.Future[Outcome]:
        """For clients."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def failed(error: DurableError) -> None:
            if not future.done():
                future.set_exception(error)

        self.submit(command, done, failed)
        return future

    async def flush(self) -> None:
        """Wait until everything that was submitted is decided."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop; what is still queued is told so."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        error = EngineStateError("the engine was closed before this was written")
        for _, _, failed in self._queue:
            if failed is not None:
                failed(error)
        self._queue.clear()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                self._idle.clear()
            batch, self._queue = self._queue[: self._max_batch], self._queue[self._max_batch :]
            await self._write(batch)

    async def _write(self, batch: list[tuple[Command, Done, Failed | None]]) -> None:
        delay, waited = _FIRST_RETRY_S, 0.0
        while batch:
            try:
                outcomes = await self._backend.apply([command for command, _, _ in batch])
            except StoreError as error:
                transient = isinstance(error, StoreUnavailableError)
                if not transient or waited > self._client_patience_s:
                    batch = _drop_clients(batch, error)
                if batch and waited == 0:
                    _logger.warning("the store does not take writes: %s; trying again", error)
                await asyncio.sleep(delay)
                waited += delay
                delay = min(delay * 2, _LAST_RETRY_S)
                continue
            self.batches += 1
            for (command, done, _), outcome in zip(batch, outcomes, strict=True):
                try:
                    done(outcome)
                except Exception:
                    _logger.exception("internal error while handling the outcome of %s", type(command).__name__)
            return


def _drop_clients(batch: list[tuple[Command, Done, Failed | None]], error: StoreError) -> list[tuple[Command, Done, Failed | None]]:
    kept = []
    for entry in batch:
        if entry[2] is not None:
            entry[2](error)
        else:
            kept.append(entry)
    return kept
