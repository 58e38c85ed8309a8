"""Turns of entities: operations one after the other, each saved if it succeeds and rolled back if it raises.

A turn serves what is in the inbox, up to a bound, and commits once: the new state and the replies together. An entity's history need not be
kept; its snapshot is enough. Synchronous operations may do I/O, so they run in a thread, as many in a row as there are.
"""

from __future__ import annotations

import itertools
import logging
from typing import Any

from attrs import define

from durable_core.backend import ClaimedTurn, CommitTurn, Message, Outcome
from durable_core.codec import decode_event, encode_event
from durable_core.definitions.entity import EntityContext, EntityId, Operation
from durable_core.definitions.registry import BoundEntity, Callee
from durable_core.errors import FailureDetails
from durable_core.events import EntityOperationCompleted, EntityOperationFailed, OperationRequested
from durable_core.failures import describe
from durable_core.runtime.live import Fence, LiveInstance
from durable_core.runtime.records import to_datetime
from durable_core.runtime.runner import Claimer, Runner
from durable_core.runtime.session import Session
from durable_core.runtime.snapshots import EntitySnapshot, decode_snapshot, encode_snapshot
from durable_core.runtime.threads import DaemonThreads

_logger = logging.getLogger("durable_core.engine")


@define(eq=False, kw_only=True)
class LiveEntity(LiveInstance):
    """``state`` is what is stored; ``object`` the entity with it, None until it is needed (and after a rollback)."""

    bound: BoundEntity
    state: dict[str, str] | None
    object: Any = None


class EntityRunner(Runner[LiveEntity]):
    def __init__(self, session: Session, worker: Claimer, threads: DaemonThreads) -> None:
        super().__init__(session, worker)
        self._threads = threads

    def begin(self, claimed: ClaimedTurn) -> LiveEntity:
        fence = Fence(claimed.instance, claimed.execution, claimed.epoch, claimed.version)
        return LiveEntity(
            fence, claimed.name, bound=self.session.registry.entities[claimed.name], state=decode_snapshot(claimed.snapshot).state
        )

    def turn(self, live: LiveEntity) -> None:
        live.busy = True
        live.in_flight = [live.queue.popleft() for _ in range(min(len(live.queue), self.session.options.max_messages_per_turn))]
        self.background(self._serve(live, [arrival.message for arrival in live.in_flight if arrival.message is not None]))

    async def _serve(self, live: LiveEntity, messages: list[Message]) -> None:
        try:
            replies = await self._run_operations(live, [decode_event(message.payload, 0) for message in messages])
        except Exception as error:  # not an operation's failure: ours
            self.give_up(live, error)
            return
        fence = live.fence
        commit = CommitTurn(
            fence.instance,
            fence.execution,
            fence.epoch,
            fence.version,
            self.worker_id,
            f"{self.worker_id}/{fence.epoch}.{fence.version}",
            consumes=tuple(message.id for message in messages),
            messages=tuple(replies),
            snapshot=encode_snapshot(EntitySnapshot(live.state)),
            hold_us=self.hold_us,
        )
        self.submit(live, commit)

    def accepted(self, live: LiveEntity, commit: CommitTurn, outcome: Outcome) -> bool:
        return not live.dead

    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_operations(self, live: LiveEntity, requests: list[OperationRequested]) -> list[Message]:
        results: list[str | FailureDetails] = []
        for is_async, group in itertools.groupby(requests, lambda request: live.bound.is_async(request.operation)):
            if is_async:
                results += [await self._run_async(live, request) for request in group]
            else:
                results += await self._threads.run(self._run_sync, live, list(group))
        replies = (_reply(live, request, result) for request, result in zip(requests, results, strict=True))
        return [reply for reply in replies if reply is not None]

    def _run_sync(self, live: LiveEntity, requests: list[OperationRequested]) -> list[str | FailureDetails]:
        results: list[str | FailureDetails] = []
        for request in requests:
            try:
                bound, args = self._prepare(live, request)
                results.append(self._save(live, bound, bound.fn(*args)))
            except Exception as error:
                live.object = None
                results.append(describe(error))
        return results

    async def _run_async(self, live: LiveEntity, request: OperationRequested) -> str | FailureDetails:
        try:
            bound, args = self._prepare(live, request)
            return self._save(live, bound, await bound.fn(*args))
        except Exception as error:
            live.object = None
            return describe(error)

    def _prepare(self, live: LiveEntity, request: OperationRequested) -> tuple[Callee[Operation], tuple[Any, ...]]:
        if live.object is None:
            live.object = live.bound.load_state(live.state)
        bound = live.bound.operation(request.operation)
        args = bound.decode(request.input, request.arity)
        return bound, (live.object, self._context(live, request), *args) if bound.definition.takes_context else (live.object, *args)

    def _context(self, live: LiveEntity, request: OperationRequested) -> EntityContext:
        logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.entity.{live.name}"), {"instance_id": live.fence.instance})
        caller = request.caller.instance_id if request.caller is not None else None
        return EntityContext(EntityId.parse(live.fence.instance), caller, to_datetime(self.session.clock.now_us()), logger)

    def _save(self, live: LiveEntity, bound: Callee[Operation], result: Any) -> str:
        """After an operation that succeeded. A result or a state that cannot be encoded fails it."""
        text = bound.encode_result(result)
        live.state = live.bound.encode_state(live.object)
        return text


def _reply(live: LiveEntity, request: OperationRequested, result: str | FailureDetails) -> Message | None:
    caller = request.caller
    if caller is None:
        if isinstance(result, FailureDetails):
            _logger.error("signal %s of entity %s failed: %s", request.operation, live.fence.instance, result)
        return None
    event = (
        EntityOperationFailed(caller.task_id, result)
        if isinstance(result, FailureDetails)
        else EntityOperationCompleted(caller.task_id, result)
    )
    return Message(
        f"{caller.execution_id}@{caller.task_id}>reply", caller.instance_id, encode_event(event), caller.execution_id, live.fence.instance
    )
