"""Turns of entities: operations one after the other, each saved if it succeeds and rolled back if it raises.

A turn serves what is in the inbox, up to a bound, and commits once: the new state and the replies together. An entity's history need not be
kept; its snapshot is enough. Synchronous operations may do I/O, so they run in a thread, as many in a row as there are.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from durable_core import events as ev
from durable_core.backend import ClaimedTurn, Message
from durable_core.codec import decode_event, encode_event
from durable_core.definitions.entity import EntityContext, EntityId
from durable_core.definitions.registry import BoundEntity
from durable_core.errors import FailureDetails
from durable_core.failures import describe
from durable_core.runtime.live import LiveInstance
from durable_core.runtime.records import to_datetime
from durable_core.runtime.runner import Runner

_logger = logging.getLogger("durable_core.engine")


class EntitySnapshot(msgspec.Struct, omit_defaults=True):
    """What is stored, as JSON. ``state`` is attribute name → text; None: the entity has no state (never used, or deleted)."""

    state: dict[str, str] | None = None


def stored_state(snapshot: bytes | None) -> dict[str, str] | None:
    return msgspec.json.decode(snapshot, type=EntitySnapshot).state if snapshot else None


class LiveEntity(LiveInstance, eq=False, kw_only=True):
    """``state`` is what is stored; ``object`` the entity with it, None until it is needed (and after a rollback)."""

    bound: BoundEntity
    state: dict[str, str] | None
    object: Any = None


class EntityRunner(Runner[LiveEntity]):
    def begin(self, claimed: ClaimedTurn) -> LiveEntity:
        bound, state = self.session.registry.entities[claimed.name], stored_state(claimed.snapshot)
        return LiveEntity(claimed.instance, claimed.execution, claimed.epoch, claimed.version, claimed.name, bound=bound, state=state)

    def turn(self, live: LiveEntity) -> None:
        live.busy = True
        live.in_flight = [live.queue.popleft() for _ in range(min(len(live.queue), self.session.options.max_messages_per_turn))]
        self.background(self._serve(live))

    async def _serve(self, live: LiveEntity) -> None:
        try:
            requests = [decode_event(message.payload, 0) for message, _, _ in live.in_flight if message is not None]
            results = await self._run_operations(live, requests)
            replies = [_reply(live, request, result) for request, result in zip(requests, results, strict=True)]
        except Exception as error:  # not an operation's failure: ours
            self.give_up(live, error)
            return
        snapshot = msgspec.json.encode(EntitySnapshot(live.state))
        self.submit(live, messages=tuple(reply for reply in replies if reply is not None), snapshot=snapshot)

    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_operations(self, live: LiveEntity, requests: list[ev.OperationRequested]) -> list[str | FailureDetails]:
        results: list[str | FailureDetails] = []
        for is_async, group in itertools.groupby(requests, lambda request: live.bound.is_async(request.operation)):
            if is_async:
                results += [await self._operate(live, request) for request in group]
            else:
                results += await self.worker.turns.activities.threads.run(self._operate_in_thread, live, list(group))
        return results

    def _operate_in_thread(self, live: LiveEntity, requests: list[ev.OperationRequested]) -> list[str | FailureDetails]:
        return [_run_through(self._operate(live, request)) for request in requests]

    async def _operate(self, live: LiveEntity, request: ev.OperationRequested) -> str | FailureDetails:
        """One operation: its result. A result or a state that cannot be encoded fails it."""
        try:
            if live.object is None:
                live.object = live.bound.load_state(live.state)
            bound = live.bound.operation(request.operation)
            args = bound.decode(request.input, request.arity)
            context = (self._context(live, request),) if bound.definition.takes_context else ()
            result = bound.fn(live.object, *context, *args)
            text = bound.encode_result(await result if bound.definition.is_async else result)
            live.state = live.bound.encode_state(live.object)
            return text
        except Exception as error:
            live.object = None
            return describe(error)

    def _context(self, live: LiveEntity, request: ev.OperationRequested) -> EntityContext:
        logger = logging.LoggerAdapter(logging.getLogger(f"durable_core.entity.{live.name}"), {"instance_id": live.instance})
        caller = request.caller.instance_id if request.caller is not None else None
        return EntityContext(EntityId.parse(live.instance), caller, to_datetime(self.session.clock.now_us()), logger)


def _run_through(operation: Coroutine[Any, Any, str | FailureDetails]) -> str | FailureDetails:
    """A coroutine without an event loop: that of a synchronous operation awaits nothing."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a synchronous operation has awaited something")


def _reply(live: LiveEntity, request: ev.OperationRequested, result: str | FailureDetails) -> Message | None:
    caller = request.caller
    if caller is None:
        if isinstance(result, FailureDetails):
            _logger.error("signal %s of entity %s failed: %s", request.operation, live.instance, result)
        return None
    number = caller.task_id
    event = ev.EntityOperationFailed(number, result) if isinstance(result, FailureDetails) else ev.EntityOperationCompleted(number, result)
    return Message(f"{caller.execution_id}@{number}>reply", caller.instance_id, encode_event(event), caller.execution_id, live.instance)
