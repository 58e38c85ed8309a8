"""What orchestrations and entities have in common in a worker's hands: from the claim through commit after commit until they are let go.

**At most one commit per instance is queued or in flight.** Everything runs in plain callbacks of the host's event loop: no lock is needed,
and CPython 3.14 refuses to step a task inside another one's step. An instance stays in the cache between turns, held by this worker, until
the cache is full. The fence alone makes that safe: whoever has lost it learns so from its next commit, and then saves the results it has
through the inbox.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from durable_core.backend import ClaimedTurn, CommitTurn, CompleteTask, Message, Outcome, OutcomeStatus, Release, ReleaseTask
from durable_core.codec import encode_event
from durable_core.errors import ReplayError, StoreError
from durable_core.runtime.session import LocalWorker, Session
from durable_core.runtime.worker.live import LiveInstance, TaskLease
from durable_core.runtime.worker.reports import report_takeover

_logger = logging.getLogger("durable_core.engine")

HELD_BACK_S = 5.0
"""What nobody here can handle is kept from being claimed again at once, and from others for no longer."""

L = TypeVar("L", bound=LiveInstance)


class Runner(ABC, Generic[L]):
    way_out = "resume it to have it tried again, or terminate or purge it"
    """What a person can do about an instance that is parked."""

    def __init__(self, session: Session, worker: LocalWorker) -> None:
        self.session = session
        self.worker = worker
        self.worker_id = worker.id
        self.loop = asyncio.get_running_loop()
        self.suspect: L | None = None
        self._live: OrderedDict[str, L] = OrderedDict()
        self._active: set[L] = set()
        self._cached_bytes = 0
        self._failures: dict[str, int] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.closing = False

    # ── what the kinds differ in ──────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def begin(self, claimed: ClaimedTurn) -> L:
        """A claimed instance that is not in the cache."""

    @abstractmethod
    def turn(self, live: L) -> None:
        """Apply what is queued and ``submit`` the commit, or ``give_up``."""

    def accepted(self, live: L, commit: CommitTurn, outcome: Outcome) -> None:
        """The commit is durable. Whoever ends the instance's life here detaches it."""

    def refused(self, commit: CommitTurn) -> None:
        """The commit did not take place."""

    def let_go(self, live: L) -> None:
        """It leaves the cache."""

    def needs_no_code(self, claimed: ClaimedTurn) -> bool:
        """Whether nothing of the user's is run for what was claimed: however often it was tried, it does no harm."""
        return any(message.control for message in claimed.messages)

    def before_release(self, live: L, delay_us: int) -> bool:
        """It is about to be given up for so long. Whether there are control messages that nobody could handle."""
        return any(message is not None and message.control for message, _, _ in (*live.in_flight, *live.queue))

    # ── from claim to turn ────────────────────────────────────────────────────────────────────────────────────

    @property
    def room(self) -> int:
        """How many more instances may be claimed now. A suspect (an instance whose last claim ended without a commit) runs without new
        company."""
        return 0 if self.suspect is not None else max(0, self.session.options.max_active_instances - len(self._active))

    @property
    def any_busy(self) -> bool:
        return any(live.busy or live.queue for live in self._active)

    def holds(self, instance_id: str) -> bool:
        return instance_id in self._live

    def find(self, instance_id: str, execution: str) -> L | None:
        live = self._live.get(instance_id)
        return live if live is not None and live.execution == execution else None

    def accept(self, claimed: ClaimedTurn) -> None:
        """Take a claimed instance in hand."""
        if self.closing:
            self.give_back(claimed)
            return
        live = self.find(claimed.instance, claimed.execution)
        # Under the same epoch we are still the holder, whatever is in flight. Otherwise somebody else had it meanwhile: fine if nothing has
        # changed, and nothing keeps it from being run.
        unchanged = live is not None and not live.busy and live.version == claimed.version and not claimed.control_only
        if live is not None and (live.epoch == claimed.epoch or unchanged):
            live.epoch = claimed.epoch
            live.deliver(claimed.messages)
            self.schedule(live)
            return
        if (other := self._live.get(claimed.instance)) is not None:
            self.detach(other)
        live = self.begin(claimed)
        if claimed.attempt > 1 and not claimed.control_only:
            report_takeover(claimed)
            self.suspect = live
        if claimed.attempt > self.session.options.max_attempts and not self.needs_no_code(claimed):
            live.deliver(claimed.messages)
            self._park(live, claimed.attempt - 1)
        else:
            self.adopt(live, claimed.messages)

    def give_back(self, claimed: ClaimedTurn) -> None:
        """To others: nothing has been tried."""
        self._submit_and_wake(Release(claimed.instance, claimed.execution, claimed.epoch, uncount=True))

    def adopt(self, live: L, messages: tuple[Message, ...]) -> None:
        """It is in hand from now on."""
        self._live[live.instance] = live
        self._active.add(live)
        live.deliver(messages)
        self.schedule(live)

    def schedule(self, live: L) -> None:
        if live.queue and not (live.busy or live.dead):
            live.busy = True
            self._active.add(live)
            self.loop.call_soon(self._turn, live)

    def _turn(self, live: L) -> None:
        if not live.dead:
            try:
                self.turn(live)
            except Exception as error:  # whatever fails, fails this instance alone, and is shown
                self.give_up(live, error)

    def background(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.session.supervisor.start(coroutine, "a turn")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # ── from commit to turn ───────────────────────────────────────────────────────────────────────────────────

    def submit(self, live: L, *, hold: bool = True, **fields: Any) -> None:
        """Queue the commit of a turn, which consumes and settles what is in flight. ``fields`` is what else a ``CommitTurn`` says."""
        fields["consumes"] = tuple(arrival.message.id for arrival in live.in_flight if arrival.message is not None)
        fields["settles"] = tuple(arrival.lease.task.id for arrival in live.in_flight if arrival.lease is not None)
        fields["hold_us"] = round(self.session.options.hold_s * 1e6) if hold else 0
        commit = self.commit_of(live, fields)
        self.session.committer.submit(commit, lambda outcome: self._heard(live, commit, outcome))

    def commit_of(self, live: L, fields: dict[str, Any]) -> CommitTurn:
        fence = live.instance, live.execution, live.epoch, live.version
        return CommitTurn(*fence, self.worker_id, f"{self.worker_id}/{live.epoch}.{live.version}", **fields)

    def _heard(self, live: L, commit: CommitTurn, outcome: Outcome) -> None:
        try:
            self._committed(live, commit, outcome)
        except Exception as error:
            self.give_up(live, error)

    def _committed(self, live: L, commit: CommitTurn, outcome: Outcome) -> None:
        if outcome.status is OutcomeStatus.REJECTED:
            self.refused(commit)
            self.give_up(live, f"the store refuses this turn: {outcome.error}")
        elif outcome.status not in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED):
            self.refused(commit)
            if self.session.committer.repeated:
                # Perhaps it was accepted, and somebody else has committed since: the tasks that it leased to us would wait for us for ever.
                # (Counted, so that a repetition cannot give back a later lease.)
                for task in commit.tasks:
                    if task.claim:
                        self._submit_and_wake(ReleaseTask(task.id, self.worker_id, 1))
            # If the fence was current and only a settled task was missing, the lease is still ours and must not be forgotten: hence the
            # release.
            self._drop(live)
        else:
            live.version += 1
            live.in_flight = []
            live.forget(commit.consumes)
            if not commit.control_only:
                self._failures.pop(live.instance, None)
            self._clear_suspect(live)
            if commit.messages or commit.creates:
                self.worker.wake()
            self.accepted(live, commit, outcome)
            if live.dead:
                return
            if outcome.status is OutcomeStatus.ALREADY_APPLIED:
                self._drop(live)  # the reply that said which messages are left was lost; a fresh claim says it again
            else:
                live.deliver(outcome.messages)
                self.rest(live)

    def rest(self, live: L) -> None:
        """The turn is over: run the next one, or wait."""
        live.busy = False
        self.schedule(live)
        self.settle(live)

    def settle(self, live: L) -> None:
        """If nothing is under way it makes room for others."""
        if live.idle and not live.dead:
            self._active.discard(live)
            self.worker.freed()
            self._live.move_to_end(live.instance)
            self._trim()

    def grown(self, live: L, size: int) -> None:
        live.size += size
        self._cached_bytes += size

    def _trim(self) -> None:
        """Let go of the least recently used ones that wait for something from outside."""
        options = self.session.options
        for _ in range(len(self._live)):
            if len(self._live) - len(self._active) <= options.max_cached_instances and self._cached_bytes <= options.max_cached_bytes:
                return
            oldest = next(iter(self._live.values()))
            if oldest.idle:
                self._drop(oldest)
            else:
                self._live.move_to_end(oldest.instance)

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    def detach(self, live: L) -> None:
        """Out of the cache. Results that are not committed go through the inbox: as long as this worker lives, nobody else runs the
        activities again."""
        if not live.dead:
            live.dead = True
            for _, event, lease in (*live.in_flight, *live.queue):
                if lease is not None:
                    self.complete_through_inbox(lease, event)
            live.in_flight = []
            live.queue.clear()
            self._cached_bytes -= live.size
            self.let_go(live)
        self._active.discard(live)
        self.worker.freed()
        self._clear_suspect(live)
        if self._live.get(live.instance) is live:
            del self._live[live.instance]

    def _clear_suspect(self, live: L) -> None:
        if self.suspect is live:
            self.suspect = None
            self.worker.wake()

    def _drop(self, live: L, **how: Any) -> None:
        """Give the instance back; ``how`` is what else a ``Release`` says."""
        self.detach(live)
        self._submit_and_wake(Release(live.instance, live.execution, live.epoch, **how))

    def complete_through_inbox(self, lease: TaskLease, event: Any) -> None:
        message = Message(lease.task.id, lease.task.instance, encode_event(event), lease.task.execution, lease.task.id)
        self._submit_and_wake(CompleteTask(lease.task.id, message))

    def _submit_and_wake(self, command: Release | ReleaseTask | CompleteTask) -> None:
        self.session.committer.submit(command, lambda _outcome: self.worker.wake())

    def give_up(self, live: L, problem: BaseException | str) -> None:
        """This turn cannot be. The instance is kept, tried again with back-off, and its problem shown. A problem between code and history
        is nobody's crash, and a store that is away not the instance's: they do not count towards parking."""
        how = self._told(live.instance, problem)
        late = self.before_release(live, how["delay_us"])
        self.detach(live)
        self._release(Release(live.instance, live.execution, live.epoch, **how), late=late)

    def refuse(self, claimed: ClaimedTurn, problem: BaseException) -> None:
        """The same for one that cannot even be taken in hand: what is stored of it cannot be read."""
        if (other := self._live.get(claimed.instance)) is not None:
            self.detach(other)
        controls = any(message.control for message in claimed.messages)
        self._release(Release(claimed.instance, claimed.execution, claimed.epoch, **self._told(claimed.instance, problem)), late=controls)

    def _release(self, release: Release, *, late: bool) -> None:
        """A control message overrides back-off: with one that nobody could handle the instance would be claimed again at once. So the back-off
        is kept here; not for long, since another worker may know better."""
        if late:
            self.give_back_late(release, min(release.delay_us / 1e6, HELD_BACK_S))
        else:
            self._submit_and_wake(release)

    def give_back_late(self, release: Release | ReleaseTask, seconds: float) -> None:
        def give_back() -> None:
            if not self.session.draining:  # then everything is given back
                self._submit_and_wake(release)

        self.session.clock.call_later(seconds, give_back)

    def _told(self, instance: str, problem: BaseException | str) -> dict[str, Any]:
        """Log the problem, the first time; what a ``Release`` says of it."""
        options = self.session.options
        failures = self._failures[instance] = self._failures.get(instance, 0) + 1
        backoff_s = min(options.first_backoff_s * 2 ** min(failures - 1, 30), options.last_backoff_s)
        text = _storable(f"{type(problem).__name__}: {problem}" if isinstance(problem, BaseException) else problem)
        if failures == 1:
            trace = problem if isinstance(problem, BaseException) and not isinstance(problem, ReplayError | StoreError) else None
            _logger.error("%r: %s (tried again in %.1f s)", instance, text, backoff_s, exc_info=trace)
        return {"problem": text, "delay_us": round(backoff_s * 1e6), "uncount": isinstance(problem, ReplayError | StoreError)}

    def _park(self, live: L, attempts: int) -> None:
        problem = (
            f"its turn was started {attempts} times and never came to an end (does it kill its process?). It is parked: {self.way_out}"
        )
        _logger.error("%r: %s", live.instance, problem)
        self.before_release(live, round(self.session.options.last_backoff_s * 1e6))
        self._drop(live, problem=problem, park=True)

    async def close(self) -> None:
        """Results that wait for a turn are saved. What is cut off counts no attempt, since an end in order is nobody's crash; but it is one if
        a ``SystemExit`` has left the event loop: whoever was at work may have raised it."""
        self.closing = True
        crashed = host_dies()
        for task in list(self._background):
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        for live in list(self._live.values()):
            self._drop(live, uncount=not (crashed and live.busy))
        await self.session.committer.flush()


def host_dies() -> bool:
    """Whether a ``SystemExit`` or a ``KeyboardInterrupt`` has left the event loop, or is about to: not an end in order."""
    return isinstance(sys.exception(), SystemExit | KeyboardInterrupt)


def _storable(text: str) -> str:
    """A problem may quote what no store takes: lone surrogates, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
