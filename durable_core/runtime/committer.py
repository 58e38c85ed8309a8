"""Group commit: one queue for every write of this process, one batch in flight.

While a batch is being made durable the next one accumulates, so batch size follows load and no timer is needed. Answers are given when their
command is durable and decided, in the order of submission. A transient failure repeats the very same commands: each is recognisable to the
store, except a ``Purge``. What is gone when its purge is repeated counts as purged by it, although somebody else may have been faster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from durable_core.backend import Backend, Command, Outcome, OutcomeStatus, Purge
from durable_core.errors import DurableError, EngineStateError, StoreError, StoreUnavailableError
from durable_core.runtime.clock import Clock

_logger = logging.getLogger("durable_core.engine")
_FIRST_RETRY_S = 0.02
_LAST_RETRY_S = 2.0
_CLIENT_PATIENCE_S = 10.0

Answer = Callable[[Outcome], None] | asyncio.Future[Outcome]
Entry = tuple[Command, Answer]


class Committer:
    """Commands of the worker (answered by a call) are retried until the store takes them. Those of clients (answered by a future) fail with
    the store's error, a transient one after some seconds of trying.

    ``draining``: the worker's are given up like those of clients, and what they say is done again one day.
    ``repeated``, while answers are given: they are those to a later submission, an earlier one may have taken effect."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._batch: list[Entry] = []
        self._closed = False
        self.repeated = self.draining = False
        self._task = asyncio.create_task(self._run(), name="durable-core committer")

    def submit(self, command: Command, answer: Answer) -> None:
        if self._closed:
            raise EngineStateError("the engine is closed")
        self._queue.put_nowait((command, answer))

    async def apply(self, command: Command) -> Outcome:
        """For clients."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(command, future)
        return await future

    async def flush(self) -> None:
        """Wait until everything that was submitted is decided.

        An event loop that is torn down (at the end of ``asyncio.run``) cancels every task, that of an open engine's committer too: it goes on
        here, with the batch that it had in hand.
        """
        if self._task.done() and not self._closed:
            self._task = asyncio.create_task(self._run())
        await self._queue.join()

    async def close(self) -> None:
        """Stop; clients whose commands are still queued are told so."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task])
        _fail_clients(self._waiting(self._queue.qsize()), EngineStateError("the engine was closed before this was written"))

    def _waiting(self, limit: int) -> list[Entry]:
        return [self._queue.get_nowait() for _ in range(min(limit, self._queue.qsize()))]

    async def _run(self) -> None:
        while True:
            if not self._batch:
                self._batch = [await self._queue.get(), *self._waiting(self._backend.capabilities.max_batch - 1)]
            await self._write(self._batch)
            for _ in self._batch:
                self._queue.task_done()
            self._batch = []

    async def _write(self, batch: list[Entry]) -> None:
        delay, waited = _FIRST_RETRY_S, 0.0
        while batch:
            try:
                outcomes = await self._backend.apply([command for command, _ in batch])
            except StoreError as error:
                if waited > _CLIENT_PATIENCE_S or not isinstance(error, StoreUnavailableError):
                    batch = _fail_clients(batch, error)
                    # And those behind it: the worker's commands are tried again and again, and what waits for them would never hear of it.
                    for entry in _fail_clients(queued := self._waiting(self._queue.qsize()), error):
                        self._queue.put_nowait(entry)
                    for _ in queued:
                        self._queue.task_done()
                    if self.draining:
                        batch = []
                if batch and waited == 0:
                    _logger.warning("the store does not take writes: %s; trying again", error)
                await self._clock.sleep(delay)
                delay, waited = min(delay * 2, _LAST_RETRY_S), waited + delay
                continue
            self.repeated = waited > 0
            for (command, answer), outcome in zip(batch, outcomes, strict=True):
                if self.repeated and isinstance(command, Purge) and outcome.status is OutcomeStatus.GONE:
                    outcome = Outcome(OutcomeStatus.ALREADY_APPLIED)  # by the submission whose reply was lost
                try:
                    _give(answer, outcome)
                except Exception:
                    _logger.exception("internal error while handling the outcome of %s", type(command).__name__)
            return


def _give(answer: Answer, outcome: Outcome) -> None:
    if not isinstance(answer, asyncio.Future):
        answer(outcome)
    elif not answer.done():
        answer.set_result(outcome)


def _fail_clients(batch: list[Entry], error: DurableError) -> list[Entry]:
    """What is left: the worker's commands."""
    for _, answer in batch:
        if isinstance(answer, asyncio.Future) and not answer.done():
            answer.set_exception(error)
    return [entry for entry in batch if not isinstance(entry[1], asyncio.Future)]
