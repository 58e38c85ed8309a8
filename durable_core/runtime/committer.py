"""Group commit: one queue for every write of this process, one batch in flight.

While a batch is being made durable the next one accumulates, so batch size follows load and no timer is needed. Answers are given when their
command is durable and decided, in the order of submission. A transient failure repeats the very same commands: each is recognisable to the
store, except a ``Purge``. What is gone when its purge is repeated counts as purged by it, although somebody else may have been faster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from durable_core.backend import Backend, ClaimedTurn, Command, Outcome, OutcomeStatus, Purge
from durable_core.errors import DurableError, EngineStateError, StoreError, StoreUnavailableError
from durable_core.runtime.clock import Clock
from durable_core.runtime.outage import Outage
from durable_core.runtime.patience import FIRST_RETRY_S, LAST_RETRY_S, out_of_patience

_logger = logging.getLogger("durable_core.engine")
_CANCELLED_WITHIN_S = 1.0

Answer = Callable[[Outcome], None] | asyncio.Future[Outcome]
Entry = tuple[Command, Answer]


class Committer:
    """Commands of the worker (answered by a call) are retried until the store takes them. Those of clients (answered by a future) fail with
    the store's error, a transient one when the client's patience is over: they may take effect all the same.

    ``draining``: the worker's are given up, too, and what they say is done again one day.
    ``repeated``, while answers are given: they are those to a later submission, an earlier one may have taken effect.
    ``created`` gets the turn of an instance that was claimed as it was created: the caller may have gone, and nobody else will run it."""

    def __init__(
        self, backend: Backend, clock: Clock, outage: Outage, patience_s: float, created: Callable[[Command, ClaimedTurn], None]
    ) -> None:
        self._backend = backend
        self._created = created
        self._clock = clock
        self._patience_s = patience_s
        self._outage = outage
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._batch: list[Entry] = []
        self._trouble: StoreError | None = None
        self._closed = self._given_up = False
        self._drained_by_s: float | None = None
        self.repeated = self.draining = False
        self._task = asyncio.create_task(self._run(), name="durable-core committer")

    def submit(self, command: Command, answer: Answer) -> None:
        if self._closed:
            raise EngineStateError("the engine is closed")
        if not self._given_up:
            self._queue.put_nowait((command, answer))

    async def apply(self, command: Command) -> Outcome:
        """For clients. Raises ``StoreUnavailableError`` at a deadline that begins now."""
        if self._given_up:
            raise self._out_of_patience(type(command).__name__)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(command, future)
        timer = self._clock.call_later(self._patience_s, partial(self._time_is_over, command, future))
        try:
            return await future
        finally:
            timer.cancel()

    def _time_is_over(self, command: Command, future: asyncio.Future[Outcome]) -> None:
        if not future.done():
            error = self._out_of_patience(type(command).__name__)
            self._outage.failed("writes", error)
            future.set_exception(error)

    def _out_of_patience(self, what: str) -> StoreUnavailableError:
        unknown = f"has not taken this {what}, which may still take effect (look before you send it again),"
        return out_of_patience(unknown, self._patience_s, self._trouble)

    async def flush(self) -> None:
        """Wait until everything that was submitted is decided. Once ``draining``, for as long as a client would wait, and then give it up.

        An event loop that is torn down (at the end of ``asyncio.run``) cancels every task, that of an open engine's committer too: it goes on
        here, with the batch that it had in hand.
        """
        if self._task.done() and not self._closed:
            self._task = asyncio.create_task(self._run())
        if self._given_up:
            return
        if not self.draining:
            await self._queue.join()
            return
        now_s = self._clock.time()
        if self._drained_by_s is None:
            self._drained_by_s = now_s + self._patience_s
        try:
            async with self._clock.limit(self._drained_by_s - now_s):
                await self._queue.join()
        except TimeoutError:
            await self._give_up()

    async def _give_up(self) -> None:
        """Of a closing engine: the store does not take what is left."""
        _logger.warning("the store does not take what is left to write; what it says is done again by the next worker")
        self._given_up = True
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_CANCELLED_WITHIN_S)
        _fail_clients([*self._batch, *self._waiting(self._queue.qsize())], self._out_of_patience("command"))

    async def close(self) -> None:
        """Stop; clients whose commands are still queued are told so."""
        self._closed = True
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_CANCELLED_WITHIN_S)
        unheard = [*self._batch, *self._waiting(self._queue.qsize())]
        _fail_clients(unheard, EngineStateError("the engine was closed before it heard that this was written"))

    # ── the queue ─────────────────────────────────────────────────────────────────────────────────────────────

    def _waiting(self, limit: int) -> list[Entry]:
        return [self._queue.get_nowait() for _ in range(min(limit, self._queue.qsize()))]

    async def _run(self) -> None:
        while True:
            if not self._batch:
                self._batch = await self._next_batch()
            await self._write()

    async def _next_batch(self) -> list[Entry]:
        """Without those whose client has gone before they were submitted once: nobody counts on them."""
        while True:
            entries = [await self._queue.get(), *self._waiting(self._backend.capabilities.max_batch - 1)]
            wanted = [entry for entry in entries if not _is_deserted(entry)]
            self._settle(len(entries) - len(wanted))
            if wanted:
                return wanted

    def _settle(self, count: int) -> None:
        for _ in range(count):
            self._queue.task_done()

    def _keep(self, kept: Callable[[list[Entry]], list[Entry]]) -> None:
        """Only these of what is queued."""
        queued = self._waiting(self._queue.qsize())
        for entry in kept(queued):
            self._queue.put_nowait(entry)
        self._settle(len(queued))

    # ── a batch ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self) -> None:
        pause_s, self._trouble = FIRST_RETRY_S, None
        while self._batch:
            try:
                outcomes = await self._backend.apply([command for command, _ in self._batch])
            except StoreError as error:
                self._trouble = error
                self._outage.failed("writes", error)
                self._after_failure(error)
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_RETRY_S)
            else:
                self._outage.worked("writes")
                self._answer(outcomes)
                return

    def _after_failure(self, error: StoreError) -> None:
        """Which will be submitted again: those of a transient failure as they are, since each may have taken effect unheard."""
        if isinstance(error, StoreUnavailableError):
            self._keep(lambda queued: [entry for entry in queued if not _is_deserted(entry)])
        else:
            # Those behind it, too: the worker's commands are tried again and again, and what waits for them would never hear of it.
            self._keep(lambda queued: _fail_clients(queued, error))
            left = _fail_clients(self._batch, error)
            if self.draining:
                left = []
            self._settle(len(self._batch) - len(left))
            self._batch = left

    def _answer(self, outcomes: list[Outcome]) -> None:
        batch, self._batch, self.repeated = self._batch, [], self._trouble is not None
        for (command, answer), outcome in zip(batch, outcomes, strict=True):
            if self.repeated and isinstance(command, Purge) and outcome.status is OutcomeStatus.GONE:
                outcome = Outcome(OutcomeStatus.ALREADY_APPLIED)  # by the submission whose reply was lost
            try:
                if outcome.turn is not None:
                    self._created(command, outcome.turn)
                _give(answer, outcome)
            except Exception:
                _logger.exception("internal error while handling the outcome of %s", type(command).__name__)
        self._settle(len(batch))


def _give(answer: Answer, outcome: Outcome) -> None:
    if not isinstance(answer, asyncio.Future):
        answer(outcome)
    elif not answer.done():
        answer.set_result(outcome)


def _is_deserted(entry: Entry) -> bool:
    return isinstance(entry[1], asyncio.Future) and entry[1].done()


def _fail_clients(batch: list[Entry], error: DurableError) -> list[Entry]:
    """What is left: the worker's commands."""
    for _, answer in batch:
        if isinstance(answer, asyncio.Future) and not answer.done():
            answer.set_exception(error)
    return [entry for entry in batch if not isinstance(entry[1], asyncio.Future)]
