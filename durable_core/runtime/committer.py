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

from durable_core.backend import Backend, ClaimedTurn, Command, CommitTurn, Outcome, OutcomeStatus, Purge
from durable_core.errors import DurableError, EngineStateError, StoreError, StoreUnavailableError
from durable_core.runtime.clock import Clock
from durable_core.runtime.outage import Outage
from durable_core.runtime.patience import FIRST_RETRY_S, LAST_RETRY_S, out_of_patience
from durable_core.runtime.supervisor import Supervisor

_logger = logging.getLogger("durable_core.engine")
_CANCELLED_WITHIN_S = 1.0
_TRIES_APART = 3

Answer = Callable[[Outcome], None] | asyncio.Future[Outcome]
Entry = tuple[Command, Answer]


class _UnexpectedError(StoreError):
    """Of a store that did not keep to its protocol."""


class Committer:
    """Commands of the worker (answered by a call) are retried until the store takes them. Those of clients (answered by a future) fail with
    the store's error, a transient one when the client's patience is over: they may take effect all the same.

    ``draining``: the worker's are given up, too, and what they say is done again one day.
    ``repeated``, while answers are given: they are those to a later submission, an earlier one may have taken effect.
    ``created`` gets the turn of an instance that was claimed as it was created: the caller may have gone, and nobody else will run it."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        outage: Outage,
        supervisor: Supervisor,
        patience_s: float,
        created: Callable[[Command, ClaimedTurn], None],
    ) -> None:
        self._backend = backend
        self._created = created
        self._clock = clock
        self._patience_s = patience_s
        self._outage = outage
        self._supervisor = supervisor
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._batch: list[Entry] = []
        self._apart: list[Entry] = []
        self._trouble: StoreError | None = None
        self._closed = False
        self._given_up: DurableError | None = None
        self._drained_by_s: float | None = None
        self.repeated = self.draining = False
        self._begin()

    def _begin(self) -> None:
        self._task = self._supervisor.start(self._run(), "the committer")

    def submit(self, command: Command, answer: Answer) -> None:
        if self._closed:
            raise EngineStateError("the engine is closed")
        if not self._given_up:
            self._queue.put_nowait((command, answer))

    async def apply(self, command: Command) -> Outcome:
        """For clients. Raises ``StoreUnavailableError`` at a deadline that begins now."""
        if self._given_up is not None:
            raise self._given_up
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
        if self._task.done() and not (self._closed or self._given_up):
            self._begin()
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
            _logger.warning("the store does not take what is left to write; what it says is done again by the next worker")
            self.give_up(self._out_of_patience("command"))

    def give_up(self, error: DurableError) -> None:
        """Write nothing any more: clients get the error, and what the worker's commands say is done again one day."""
        self._given_up = error
        self._task.cancel()
        _fail_clients([*self._batch, *self._apart, *self._waiting(self._queue.qsize())], error)

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
        if self._apart:
            return [self._apart.pop(0)]
        self._trouble = None
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
        pause_s, tries = FIRST_RETRY_S, 0
        while self._batch:
            try:
                outcomes = await self._apply()
            except _UnexpectedError as error:
                tries += 1
                self._after_the_unexpected(error, tries)
                await self._clock.sleep(pause_s)
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

    async def _apply(self) -> list[Outcome]:
        try:
            outcomes = await self._backend.apply([command for command, _ in self._batch])
            if len(outcomes) != len(self._batch):
                raise RuntimeError(f"{len(self._batch)} commands got {len(outcomes)} outcomes")
            return outcomes
        except StoreError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self._task.cancelling():
                raise  # it is this task that is cancelled
            raise _UnexpectedError(f"the store raised what no store may raise: {error!r}; look at its author's documentation") from error

    def _after_the_unexpected(self, error: StoreError, tries: int) -> None:
        """A mistake of the store, or a driver's error that it did not translate. Whatever a command provokes, only that command is to suffer."""
        if self._trouble is None:
            _logger.error("%s", error, exc_info=error.__cause__)
        self._trouble = error
        if len(self._batch) > 1:
            self._batch, self._apart = [], [*self._batch, *self._apart]
        elif tries >= _TRIES_APART:
            [(command, answer)], self._batch = self._batch, []
            if isinstance(answer, asyncio.Future) or isinstance(command, CommitTurn):
                self._give(command, answer, Outcome(OutcomeStatus.REJECTED, error=error))
            elif not self.draining:
                self._queue.put_nowait((command, answer))  # what a worker has to say is not lost, and nobody waits behind it
            self._settle(1)

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
            self._give(command, answer, outcome)
        self._settle(len(batch))

    def _give(self, command: Command, answer: Answer, outcome: Outcome) -> None:
        try:
            if outcome.turn is not None:
                self._created(command, outcome.turn)
            _give(answer, outcome)
        except Exception:
            _logger.exception("internal error while handling the outcome of %s", type(command).__name__)


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
