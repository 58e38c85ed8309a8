"""Turns of entities: operations one after the other, each saved if it succeeds and rolled back if it raises.

A turn serves what is in the inbox, up to a bound, and commits once: the new state and the replies together. An entity's history need not be kept; its snapshot is enough.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from attrs import define, field

from durable_core.backend import ClaimedTurn, CommitTurn, Message, Outcome, OutcomeStatus, Release
from durable_core.codec import decode_event, encode_event
from durable_core.definitions import BoundEntity, EntityContext, EntityId, Registry
from durable_core.errors import FailureDetails
from durable_core.events import EntityOperationCompleted, EntityOperationFailed, OperationRequested
from durable_core.failures import describe
from durable_core.runtime.clock import HubClock
from durable_core.runtime.commits import Fence
from durable_core.runtime.committer import Committer
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.snapshots import EntitySnapshot, decode_snapshot, encode_snapshot
from durable_core.runtime.threads import DaemonThreads

__all__ = ["EntityRunner"]

_logger = logging.getLogger("durable_core.engine")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OPERATIONS_PER_TURN = 1_000


@define(eq=False)
class LiveEntity:
    """``state`` is what is stored; ``object`` the entity with it, None until it is needed (and after a rollback)."""

    fence: Fence
    bound: BoundEntity
    state: dict[str, str] | None
    object: Any = None
    queue: deque[Message] = field(factory=deque)
    known: set[str] = field(factory=set)
    busy: bool = False
    dead: bool = False

    def deliver(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            if message.id not in self.known:
                self.known.add(message.id)
                self.queue.append(message)


class EntityRunner:
    def __init__(self, worker: str, registry: Registry, committer: Committer, clock: HubClock, options: WorkerOptions, threads: DaemonThreads, wake: Callable[[], None]) -> None:
        self._worker = worker
        self._registry = registry
        self._committer = committer
        self._clock = clock
        self._threads = threads
        self._wake = wake
        self._hold_us = round(options.hold_s * 1e6)
        self._max_cached = options.max_cached_instances
        self._backoff_us = round(options.first_backoff_s * 1e6)
        self._live: dict[str, LiveEntity] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, claimed: ClaimedTurn) -> None:
        live = self._live.get(claimed.instance)
        if live is not None and (live.fence.execution != claimed.execution or (live.fence.epoch != claimed.epoch and (live.busy or live.fence.version != claimed.version))):
            self._forget(live)
            live = None
        if live is None:
            fence = Fence(claimed.instance, claimed.execution, claimed.epoch, claimed.version)
            bound = self._registry.entities[claimed.name]
            live = self._live[claimed.instance] = LiveEntity(fence, bound, decode_snapshot(claimed.snapshot).state)
        live.fence.epoch = claimed.epoch
        live.deliver(claimed.messages)
        self._serve(live)

    async def close(self) -> None:
        for task in list(self._serving):
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        self._live.clear()

    def _serve(self, live: LiveEntity) -> None:
        if live.queue and not live.busy and not live.dead:
            live.busy = True
            task = asyncio.get_running_loop().create_task(self._turn(live))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _turn(self, live: LiveEntity) -> None:
        batch = [live.queue.popleft() for _ in range(min(len(live.queue), _OPERATIONS_PER_TURN))]
        try:
            replies = await self._run_operations(live, batch)
        except Exception as error:  # not an operation's failure: ours, or a state that cannot be loaded
            _logger.exception("entity %r", live.fence.instance)
            self._forget(live)
            self._release(live, f"{type(error).__name__}: {error}")
            return
        fence = live.fence
        commit = CommitTurn(
            fence.instance,
            fence.execution,
            fence.epoch,
            fence.version,
            self._worker,
            f"{self._worker}/{fence.epoch}.{fence.version}",
            consumes=tuple(message.id for message in batch),
            messages=tuple(replies),
            snapshot=encode_snapshot(EntitySnapshot(live.state)),
            hold_us=self._hold_us,
        )
        self._committer.submit(commit, lambda outcome: self._committed(live, commit, outcome))

    def _committed(self, live: LiveEntity, commit: CommitTurn, outcome: Outcome) -> None:
        if outcome.status is not OutcomeStatus.OK or live.dead:
            self._forget(live)
            self._release(live, str(outcome.error) if outcome.error is not None else None)
            return
        live.fence.version += 1
        live.busy = False
        live.known.difference_update(commit.consumes)
        live.deliver(outcome.messages)
        if commit.messages:
            self._wake()
        self._serve(live)
        if not live.busy and len(self._live) > self._max_cached:
            self._forget(live)
            self._release(live, None)

    def _forget(self, live: LiveEntity) -> None:
        live.dead = True
        if self._live.get(live.fence.instance) is live:
            del self._live[live.fence.instance]

    def _release(self, live: LiveEntity, problem: str | None) -> None:
        fence = live.fence
        delay_us = self._backoff_us if problem is not None else 0
        self._committer.submit(Release(fence.instance, fence.execution, fence.epoch, problem, delay_us), lambda _outcome: self._wake())

    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_operations(self, live: LiveEntity, batch: list[Message]) -> list[Message]:
        """Synchronous operations may do I/O, so they run in a thread: as many in a row as there are."""
        replies: list[Message] = []
        requests = [_request(message) for message in batch]
        index = 0
        while index < len(requests):
            if _is_async(live, requests[index]):
                replies += _reply(live, requests[index], await self._run_async(live, requests[index]))
                index += 1
                continue
            end = index
            while end < len(requests) and not _is_async(live, requests[end]):
                end += 1
            results = await self._threads.run(self._run_sync, live, requests[index:end])
            for request, result in zip(requests[index:end], results, strict=True):
                replies += _reply(live, request, result)
            index = end
        return replies

    def _run_sync(self, live: LiveEntity, requests: list[OperationRequested]) -> list[str | FailureDetails]:
        results: list[str | FailureDetails] = []
        for request in requests:
            try:
                bound, args = self._prepare(live, request)
                results.append(self._save(live, bound.encode_result(bound.fn(*args))))
            except Exception as error:
                live.object = None
                results.append(describe(error))
        return results

    async def _run_async(self, live: LiveEntity, request: OperationRequested) -> str | FailureDetails:
        try:
            bound, args = self._prepare(live, request)
            return self._save(live, bound.encode_result(await bound.fn(*args)))
        except Exception as error:
            live.object = None
            return describe(error)

    def _prepare(self, live: LiveEntity, request: OperationRequested) -> tuple[Any, tuple[Any, ...]]:
        if live.object is None:
            live.object = live.bound.load_state(live.state)
        bound = live.bound.operation(request.operation)
        args = bound.decode(request.input, request.arity)
        if bound.takes_context:
            args = (self._context(live, request), *args)
        return bound, (live.object, *args)

    def _context(self, live: LiveEntity, request: OperationRequested) -> EntityContext:
        instance = live.fence.instance
        logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.entity.{live.bound.name}"), {"instance_id": instance})
        caller = request.caller.instance_id if request.caller is not None else None
        return EntityContext(EntityId.parse(instance), caller, _EPOCH + timedelta(microseconds=self._clock.now_us()), logger)

    def _save(self, live: LiveEntity, result: str) -> str:
        """After an operation that succeeded. A state that cannot be encoded fails the operation."""
        live.state = live.bound.encode_state(live.object)
        return result


def _request(message: Message) -> OperationRequested:
    request: Any = decode_event(message.payload, 0)
    assert isinstance(request, OperationRequested), request
    return request


def _is_async(live: LiveEntity, request: OperationRequested) -> bool:
    return inspect.iscoroutinefunction(live.bound.definition.operations.get(request.operation))


def _reply(live: LiveEntity, request: OperationRequested, result: str | FailureDetails) -> list[Message]:
    caller = request.caller
    if caller is None:
        if isinstance(result, FailureDetails):
            _logger.error("signal %s of entity %s failed: %s", request.operation, live.fence.instance, result)
        return []
    event = EntityOperationFailed(caller.task_id, result) if isinstance(result, FailureDetails) else EntityOperationCompleted(caller.task_id, result)
    return [Message(f"{caller.execution_id}@{caller.task_id}>reply", caller.instance_id, encode_event(event), caller.execution_id, live.fence.instance)]
