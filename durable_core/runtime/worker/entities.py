"""Turns of entities: operations one after the other, each saved if it succeeds and rolled back if it raises.

A turn serves what is in the inbox, up to a bound, and commits once: the new state and the replies together. An entity's history need not be
kept; its snapshot is enough. Synchronous operations may do I/O, so they run in a thread, as many in a row as there are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import field

from durable_core import events as ev
from durable_core.backend import ClaimedTurn, CommitTurn, CreateInstance, Message, Outcome
from durable_core.codec import encode_event
from durable_core.definitions.entity import EntityContext, EntityId, delete
from durable_core.definitions.entity_state import LoadedEntity
from durable_core.definitions.registry import BoundEntity
from durable_core.errors import FailureDetails, StoreError, StoreVersionError
from durable_core.failures import describe
from durable_core.mailbox import EntitySnapshot, Served, decode_snapshot, encode_snapshot
from durable_core.moments import Duration, due_time_us, to_datetime
from durable_core.runtime.fresh import fresh_id
from durable_core.runtime.requests import operation_request, refusal, reply, start_request
from durable_core.runtime.session import LocalWorker, Session
from durable_core.runtime.threads import DaemonThreads
from durable_core.runtime.worker.entity_inbox import receive, request_in, resets
from durable_core.runtime.worker.live import Arrival, LiveInstance
from durable_core.runtime.worker.runner import Runner

_logger = logging.getLogger("durable_core.engine")

Result = str | FailureDetails | None
"""Of an operation; None: the lock is granted."""


class LiveEntity(LiveInstance, eq=False, kw_only=True):
    """``snapshot`` is what is stored; ``loaded`` the object with this state, None until it is needed (and after a rollback). ``sent`` is what
    the operations of the turn under way have sent, ``now_us`` when it began,
    ``serving`` what carries them out. ``bound`` None: this worker does
    not know the class. ``unreadable``: why there is no snapshot. ``control_only``: only control messages may be taken."""

    bound: BoundEntity | None
    snapshot: EntitySnapshot = field(default_factory=EntitySnapshot)
    unreadable: StoreError | None = None
    control_only: bool = False
    loaded: LoadedEntity | None = None
    sent: list[Message | CreateInstance] = field(default_factory=list)
    now_us: int = 0
    serving: asyncio.Task[None] | None = None


class EntityRunner(Runner[LiveEntity]):
    """``threads`` are the activities', too."""

    way_out = "reset_entity, or purge_entity"

    def __init__(self, session: Session, worker: LocalWorker, threads: DaemonThreads) -> None:
        super().__init__(session, worker)
        self._threads = threads

    def begin(self, claimed: ClaimedTurn) -> LiveEntity:
        fence = claimed.instance, claimed.execution, claimed.epoch, claimed.version
        live = LiveEntity(*fence, claimed.name, bound=self.session.registry.entities.get(claimed.name))
        live.control_only = claimed.control_only or claimed.attempt > self.session.options.max_attempts
        try:
            live.snapshot = decode_snapshot(claimed.snapshot)
        except StoreError as error:
            live.unreadable = error
        return live

    def turn(self, live: LiveEntity) -> None:
        """A person who resets the entity comes first, whatever else there is."""
        wanted = [reset for arrival in live.queue if arrival.message is not None and (reset := resets(arrival.message)) is not None]
        live.in_flight = list(live.queue) if wanted else self._taken(live)
        if wanted:
            live.queue.clear()
            self._reset(live, all(reset.keep_state for reset in wanted))
        elif live.unreadable is not None:
            self.give_up(live, live.unreadable)
        elif not live.in_flight:
            self._drop(live)  # all that is left is for a worker that knows the entity
        else:
            live.serving = self.background(self._serve(live))

    def _taken(self, live: LiveEntity) -> list[Arrival]:
        """From the queue. An entity that must not run, or whose class this worker does not know, takes control messages only; the others stay
        in the store's inbox."""
        taken: list[Arrival] = []
        for _ in range(min(len(live.queue), self.session.options.max_messages_per_turn)):
            arrival = live.queue.popleft()
            if not live.control_only or (arrival.message is not None and arrival.message.control):
                taken.append(arrival)
            elif arrival.message is not None:
                live.forget([arrival.message.id])
        return taken

    def _reset(self, live: LiveEntity, keep_state: bool) -> None:
        """Whoever waits for the entity is told."""
        snapshot = live.snapshot
        waiting = [each.request for each in snapshot.waiting]
        for arrival in live.in_flight:
            with suppress(StoreVersionError):
                request = request_in(arrival.message.payload) if arrival.message is not None else ""
                if isinstance(request, ev.OperationRequested | ev.LockRequested):
                    waiting.append(request)
        live.snapshot = EntitySnapshot(snapshot.state, deleted=snapshot.deleted) if keep_state else EntitySnapshot()
        live.loaded = live.unreadable = None
        messages = [refusal(live.instance, each.caller, "reset") for each in waiting if each.caller is not None]
        _logger.warning("%s is reset; %d request(s) that waited for it fail", live.instance, len(messages))
        self.submit(live, messages=tuple(messages), snapshot=encode_snapshot(live.snapshot), hold=not live.control_only)

    async def _serve(self, live: LiveEntity) -> None:
        live.sent, live.now_us = [], self.session.clock.now_us()
        try:
            served = self._receive(live)
            results = await self._run_operations(live, served)
            replies = [_reply(live, request, result) for request, result in zip(served, results, strict=True)]
        except KeyboardInterrupt as error:  # the host's; if it comes from the operation itself, the attempts are counted
            self.give_up(live, error)
            raise
        except Exception as error:  # not an operation's failure: ours
            self.give_up(live, error)
            return
        messages = [*(each for each in live.sent if isinstance(each, Message)), *(reply for reply in replies if reply is not None)]
        creates = tuple(each for each in live.sent if isinstance(each, CreateInstance))
        told = {"snapshot": encode_snapshot(live.snapshot), "problem": live.snapshot.problem}
        self.submit(live, messages=tuple(messages), creates=creates, hold=not live.control_only, control_only=live.control_only, **told)

    def _receive(self, live: LiveEntity) -> list[Served]:
        snapshot, known = live.snapshot, len(live.snapshot.aside)
        messages = [message for message, _, _ in live.in_flight if message is not None]
        served: list[Served] = []
        if live.control_only:
            for message in messages:
                snapshot.set_aside(message.sender, message.payload, str(request_in(message.payload)))
        else:
            served += receive(snapshot, messages)
        for each in snapshot.aside[known:]:
            _logger.error("%s sets aside a message of %r that it cannot understand: %s", live.instance, each.sender, each.reason)
        return served

    def accepted(self, live: LiveEntity, commit: CommitTurn, outcome: Outcome) -> None:
        if live.control_only:
            self._drop(live)  # the next claim says what may be done now

    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_operations(self, live: LiveEntity, requests: list[Served]) -> list[Result]:
        results: list[Result] = []
        for runs_here, group in itertools.groupby(requests, lambda request: _runs_here(live.bound, request)):
            if runs_here:
                results += [await self._operate_here(live, request) for request in group]
            else:
                results += await self._threads.run(self._operate_in_thread, live, list(group))
        return results

    async def _operate_here(self, live: LiveEntity, request: Served) -> Result:
        result = await self._operate(live, request)
        if live.serving is not None and live.serving.cancelling():
            await self._forget_cancellation(live.serving)
        return result

    async def _forget_cancellation(self, serving: asyncio.Task[None]) -> None:
        """The operation has cancelled its own task, and perhaps not waited for that: it would hit the next one."""
        while serving.uncancel():
            pass
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if self._cuts_off(error, serving):
                raise

    def _cuts_off(self, error: BaseException, serving: asyncio.Task[None] | None) -> bool:
        closing = self.closing and isinstance(error, asyncio.CancelledError)
        return closing or self.session.cuts_off(error, serving)

    def _operate_in_thread(self, live: LiveEntity, requests: list[Served]) -> list[Result]:
        return [_run_through(self._operate(live, request)) for request in requests]

    async def _operate(self, live: LiveEntity, request: Served) -> Result:
        """One operation: its result. Whatever comes out of it is its failure, and so is a result or a state that cannot be encoded; but not
        what cuts it off from outside."""
        if isinstance(request, ev.LockRequested):
            return None
        registry, entity = self.session.registry, live.bound
        assert entity is not None  # control messages are no requests
        try:
            bound, outbox = entity.operation(request.operation), EntityOutbox(live, self.session)
            if bound.fn is not delete:  # that repairs also what cannot be loaded
                live.loaded = live.loaded or entity.state.load(live.snapshot.state, live.snapshot.deleted)
            loaded = live.loaded
            args = bound.decode(request.input, request.arity)
            context = EntityContext(EntityId.parse(live.instance), _caller(request), to_datetime(live.now_us), outbox)
            result = bound.fn(loaded and loaded.object, *((context,) if bound.definition.takes_context else ()), *args)
            text = bound.encode_result(await result if bound.definition.is_async else result)
            registry.check_size(text, f"the result of {bound.definition.what}")
            state, deleted = None, list[str]()
            if loaded is not None and not context.state_deleted:
                state, deleted = entity.state.save(loaded, live.snapshot.state)
            registry.check_size("".join((state or {}).values()), f"the state of entity {live.instance!r}")
        except BaseException as error:
            live.loaded = None
            if _runs_here(live.bound, request) and self._cuts_off(error, live.serving):
                raise
            return describe(error)
        live.snapshot.state, live.snapshot.deleted = state, deleted
        live.sent += outbox.sent
        if context.state_deleted:
            live.loaded = None
        return text


class EntityOutbox:
    """What one operation sends."""

    def __init__(self, live: LiveEntity, session: Session) -> None:
        self._live = live
        self._registry = session.registry
        self.sent: list[Message | CreateInstance] = []

    def signal(
        self, id: EntityId, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], when: datetime | Duration | None, /
    ) -> None:
        request = operation_request(self._registry, id, operation, args, kwargs)
        due_us = 0 if when is None else due_time_us(when, self._live.now_us, "a signal")
        self.sent.append(
            Message(fresh_id(), id.instance_id, encode_event(request), sender=self._live.instance, due_us=due_us, creates=id.name)
        )

    def start(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], instance_id: str | None, /) -> str:
        create = start_request(self._registry, self._registry.orchestrator(fn), fn, args, kwargs, instance_id)
        self.sent.append(create)
        return create.instance


def _runs_here(bound: BoundEntity | None, request: Served) -> bool:
    """On the event loop: a lock and async operations. Synchronous ones may block."""
    return isinstance(request, ev.LockRequested) or (bound is not None and bound.is_async(request.operation))


def _caller(request: ev.OperationRequested) -> str | None:
    return request.caller.instance_id if request.caller is not None else None


def _run_through(operation: Coroutine[Any, Any, Result]) -> Result:
    """A coroutine without an event loop: that of a synchronous operation awaits nothing."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a synchronous operation has awaited something")


def _reply(live: LiveEntity, request: Served, result: Result) -> Message | None:
    if request.caller is not None:
        return reply(live.instance, request.caller, result)
    if isinstance(result, FailureDetails) and isinstance(request, ev.OperationRequested):
        _logger.error("signal %s of entity %s failed: %s", request.operation, live.instance, result)
    return None
