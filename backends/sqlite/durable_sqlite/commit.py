"""One transaction for many requests, and what becomes of a batch that fails.

Consecutive commands form one step, claims and heartbeats each one of their own; all of them share one COMMIT. When something fails:

* The store is in trouble (``errors.py``): the transaction is rolled back and every call in it raises. Nothing was written.
* COMMIT itself failed: unless the disk was full, nobody knows whether it took effect. The connection is opened anew (SQLite
  then reads the log from the disk) and the calls raise ``StoreUnavailableError``; the engine submits them again, and what took
  effect says ``ALREADY_APPLIED``.
* Anything else is about one of the commands: the batch is halved until it is alone, and that one is ``REJECTED``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from durable_core.backend import Outcome, OutcomeStatus
from durable_core.errors import DurableError, StoreError, StoreFullError, StoreUnavailableError
from durable_sqlite.claims import ClaimRequest
from durable_sqlite.errors import translate
from durable_sqlite.locks import WriterQueue
from durable_sqlite.steps import BeatRequest, Steps

__all__ = ["Committer", "Job", "Place"]


class Job:
    """One call of a backend method: commands, a ``ClaimRequest`` or a ``BeatRequest``; one answer each, or an error for all.

    ``read`` is run on the connection instead, outside transactions.
    """

    def __init__(
        self, requests: Sequence[Any], loop: asyncio.AbstractEventLoop, read: Callable[[sqlite3.Connection], Any] | None = None
    ) -> None:
        self.requests = requests
        self.loop = loop
        self.read = read
        self.future: asyncio.Future[list[Any]] = loop.create_future()
        self.answers: list[Any] = [None] * len(requests)
        self.error: BaseException | None = None

    def deliver(self) -> None:
        """To be called in the loop."""
        if self.future.done():
            return  # nobody waits any more; what was written stays
        if self.error is None:
            self.future.set_result(self.answers)
        else:
            self.future.set_exception(self.error)


Place = tuple[Job, int]
"""One request of a job, and where its answer goes."""


class Committer:
    """Owns the writing connection.

    ``connect`` opens it anew after an error in COMMIT; None: a store in memory, which would be another one. ``queue`` keeps
    other processes' writers out. ``commits`` counts transactions that wrote something: each is one sync of the disk.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        where: str,
        connect: Callable[[], sqlite3.Connection] | None,
        new_steps: Callable[[sqlite3.Connection], Steps],
        queue: WriterQueue | None,
    ) -> None:
        self.commits = 0
        self.work = False
        self.ended = False
        self._open: sqlite3.Connection | None = connection
        self._where = where
        self._connect = connect
        self._new_steps = new_steps
        self._queue = queue

    @property
    def connection(self) -> sqlite3.Connection:
        if self._open is None:
            assert self._connect is not None
            self._open = self._connect()
        return self._open

    def close(self) -> None:
        """The last connection to a file clears its log away: a write, hence in the queue like others."""
        try:
            if self._queue is not None:
                self._queue.acquire()
        except StoreError:
            self._close_connection()
        else:
            self._close_connection()
            if self._queue is not None:
                self._queue.release()

    def _close_connection(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def take_news(self) -> tuple[bool, bool]:
        """(work, ended): whether there is something new to claim, or a waiting over, since the last call."""
        news = self.work, self.ended
        self.work = self.ended = False
        return news

    def read(self, job: Job) -> None:
        assert job.read is not None
        try:
            job.answers = [job.read(self.connection)]
        except sqlite3.Error as error:
            job.error = _caused_by(translate(error, self._where) or StoreError(f"{self._where} cannot be read: {error}"), error)
        except Exception as error:  # the reader's own (UsageError): it is raised where it belongs
            job.error = error

    def run(self, places: list[Place]) -> None:
        """Answer every request, or give its job an error. Never raises."""
        try:
            if all(isinstance(job.requests[index], ClaimRequest) for job, index in places):
                places = self._without_empty_claims(places)
            if places:
                self._transaction(places)
        except StoreError as error:
            _fail(places, error)
        except MemoryError as error:
            _fail(places, _caused_by(StoreUnavailableError("no memory left; try again"), error))
        except Exception as error:  # whatever a command provokes, only that command is to suffer
            trouble = translate(error, self._where) if isinstance(error, sqlite3.Error) else None
            if trouble is not None:
                _fail(places, _caused_by(trouble, error))
            else:
                self._isolate(places, error)

    def _without_empty_claims(self, places: list[Place]) -> list[Place]:
        """Answer the claims that find nothing. No lock is taken, so idle workers neither write nor wait for those who do."""
        steps = self._new_steps(self.connection)
        left: list[Place] = []
        for job, index in places:
            answer = steps.nothing_to_claim(job.requests[index])
            if answer is None:
                left.append((job, index))
            else:
                job.answers[index] = answer
        return left

    def _transaction(self, places: list[Place]) -> None:
        connection = self.connection
        steps = self._new_steps(connection)
        if self._queue is not None:
            self._queue.acquire()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                answers = _take_steps(steps, places)
            except BaseException:
                self._roll_back(connection)
                raise
            self._commit(connection, steps)
        finally:
            if self._queue is not None:
                self._queue.release()
        for (job, index), answer in zip(places, answers, strict=True):
            job.answers[index] = answer
        self.work |= steps.work
        self.ended |= steps.ended
        for do in steps.after:
            do()

    def _commit(self, connection: sqlite3.Connection, steps: Steps) -> None:
        if not steps.wrote:
            connection.execute("ROLLBACK")
            return
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            trouble = translate(error, self._where)
            if isinstance(trouble, StoreFullError):
                raise trouble from error
            self._give_up_connection()
            text = f"COMMIT to {self._where} failed, and nobody knows whether it took effect: submit the same commands again"
            raise StoreUnavailableError(f"{text} (SQLite says: {error})") from error
        self.commits += 1

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """SQLite has done it by itself after some errors (a full disk, for one)."""
        if not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._give_up_connection()

    def _give_up_connection(self) -> None:
        if self._connect is not None:
            self._close_connection()

    def _isolate(self, places: list[Place], error: Exception) -> None:
        if len(places) > 1:
            middle = len(places) // 2
            self.run(places[:middle])
            self.run(places[middle:])
            return
        (job, index) = places[0]
        request = job.requests[index]
        culprit = (
            error
            if isinstance(error, DurableError)
            else _caused_by(StoreError(f"{self._where} cannot carry out {_name(request)}: {error}"), error)
        )
        if isinstance(request, ClaimRequest | BeatRequest):
            job.error = culprit
        else:
            job.answers[index] = Outcome(OutcomeStatus.REJECTED, error=culprit)


def _take_steps(steps: Steps, places: list[Place]) -> list[Any]:
    answers: list[Any] = []
    requests = [job.requests[index] for job, index in places]
    for kind, group in groupby(requests, _kind):
        if kind is ClaimRequest:
            answers += map(steps.claim, group)
        elif kind is BeatRequest:
            answers += map(steps.beat, group)
        else:
            answers += steps.apply(list(group))
    return answers


def _kind(request: Any) -> type | None:
    """None for every command."""
    return type(request) if isinstance(request, ClaimRequest | BeatRequest) else None


def _fail(places: list[Place], error: StoreError) -> None:
    """Every call gets an exception object of its own: each is raised somewhere else."""
    for job in dict.fromkeys(job for job, _ in places):
        job.error = _caused_by(type(error)(*error.args), error.__cause__)


def _caused_by(error: StoreError, cause: BaseException | None) -> StoreError:
    error.__cause__ = cause
    return error


def _name(request: Any) -> str:
    whose = next((value for name in ("instance", "task", "worker") if (value := getattr(request, name, None))), "")
    return f"{type(request).__name__} of {whose!r}"
