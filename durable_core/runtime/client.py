"""The client: starts orchestrations, asks about them, and sends them messages. It needs no worker in its process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack, overload
from uuid import uuid4

from durable_core import backend as store
from durable_core import events as ev
from durable_core.backend import ENDED, InstanceStatus, OutcomeStatus, ReusePolicy
from durable_core.codec import decode_events, encode_event
from durable_core.definitions.entity import EntityId
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.errors import InstanceAlreadyExistsError, InstanceNotFoundError, OrchestrationFailedError, StoreError
from durable_core.ids import check_instance_id
from durable_core.replay.context import OrchestrationContext
from durable_core.runtime.entities import stored_state
from durable_core.runtime.records import OrchestrationState, decode_failure, read_record
from durable_core.runtime.session import Session

P = ParamSpec("P")
R = TypeVar("R")
O = TypeVar("O")  # noqa: E741
E = TypeVar("E")
Ts = TypeVarTuple("Ts")

_logger = logging.getLogger("durable_core.engine")


class StartOptions(TypedDict, total=False):
    """Of ``schedule_new_orchestration``."""

    instance_id: str | None
    start_at: datetime | None
    reuse_policy: ReusePolicy
    tags: dict[str, str] | None


class OrchestrationHandle(Generic[O]):
    """One started orchestration, with the type of its result."""

    def __init__(self, client: DurableClient, instance_id: str, decode: Callable[[str | None], Any]) -> None:
        self._client = client
        self._decode = decode
        self.id = instance_id

    async def result(self, timeout: timedelta | None = None) -> O:
        """Wait for the end and give the output. Raises ``OrchestrationFailedError`` if it FAILED or was TERMINATED, ``TimeoutError``,
        ``InstanceNotFoundError``. Without a ``timeout`` an instance that cannot get on (parked, say) is waited for until a person acts."""
        end = await self._client._wait(self.id, timeout, ENDED, told=True)
        if end.status is InstanceStatus.COMPLETED:
            return self._decode(end.output.decode() if end.output is not None else None)  # type: ignore[no-any-return]
        details = decode_failure(end.failure)
        why = f"failed: {details}" if details is not None else "was terminated"
        raise OrchestrationFailedError(self.id, f"orchestration {self.id!r} {why}", details)

    async def state(self) -> OrchestrationState | None:
        """The instance as it is now."""
        return await self._client.get_instance(self.id)

    def __repr__(self) -> str:
        return f"<handle of {self.id!r}>"


class DurableClient:
    """Open as long as its engine is. Get it as ``engine.client``."""

    def __init__(self, session: Session, check_open: Callable[[], object]) -> None:
        self._session = session
        self._registry = session.registry
        self._check_open = check_open
        self._reader = session.reader
        self._name = uuid4().hex

    # ── starting ──────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def schedule_new_orchestration(self, fn: Orchestrator[P, O], /, *args: P.args, **kwargs: P.kwargs) -> OrchestrationHandle[O]: ...
    @overload
    async def schedule_new_orchestration(
        self, fn: Callable[[OrchestrationContext, *Ts], Coroutine[Any, Any, O]], /, *args: *Ts, **options: Unpack[StartOptions]
    ) -> OrchestrationHandle[O]: ...
    @overload
    async def schedule_new_orchestration(
        self, fn: str, /, *args: Any, return_type: type[R], **options: Unpack[StartOptions]
    ) -> OrchestrationHandle[R]: ...
    @overload
    async def schedule_new_orchestration(self, fn: str, /, *args: Any, **options: Unpack[StartOptions]) -> OrchestrationHandle[Any]: ...
    async def schedule_new_orchestration(  # type: ignore[misc]  # pyright: ignore[reportInconsistentOverload]
        self,
        fn: Any,
        /,
        *args: Any,
        return_type: Any = None,
        instance_id: Any = None,
        start_at: Any = None,
        reuse_policy: Any = "error",
        tags: Any = None,
        **kw: Any,
    ) -> Any:
        """Start an orchestration; when this returns, the start is durable.

        Without ``instance_id`` a fresh one is made. ``start_at`` (aware) delays it. ``reuse_policy`` decides if the id is taken: "error"
        raises ``InstanceAlreadyExistsError``, "return_existing" gives a handle on what is there, "replace_ended" and
        "terminate_and_replace" start anew. Also raises ``ArgumentsError``, ``PayloadError``, ``NotRegisteredError``,
        ``InvalidInstanceIdError``, ``StoreError``.
        """
        self._check_open()
        callee = self._registry.orchestrator(fn)
        text, arity = callee.encode(args, kw)
        self._registry.check_size(text, f"the input of orchestrator {callee.name!r}")
        if instance_id is None:
            instance_id = (fn if isinstance(fn, Orchestrator) else callee.definition).instance_id
        instance_id = uuid4().hex if instance_id is None else check_instance_id(instance_id)
        decode = callee.decode_result if return_type is None else self._registry.decoder(return_type)
        start = encode_event(ev.ExecutionStarted(callee.name, text, arity, tags=tags or {}))
        worker, execution = self._session.worker, uuid4().hex
        claimer = worker.id if worker is not None and start_at is None and worker.can_take(callee.name) else None
        create = store.CreateInstance(
            instance_id, execution, callee.name, start, execution, reuse_policy, delay_us=_delay_us(start_at), worker=claimer
        )
        outcome = await self._apply(create, "the store refuses this orchestration")
        if outcome.status is OutcomeStatus.EXISTS and reuse_policy != "return_existing":
            text = f"there is already an instance {instance_id!r}; choose another id, leave it out, or pass reuse_policy=..."
            raise InstanceAlreadyExistsError(instance_id, text)
        if worker is not None and outcome.turn is not None:
            worker.accept(outcome.turn)
        return OrchestrationHandle(self, instance_id, decode)

    async def _apply(self, command: store.Command, refusal: str) -> store.Outcome:
        outcome = await self._session.committer.apply(command)
        if outcome.status is OutcomeStatus.REJECTED:
            raise outcome.error or StoreError(refusal)
        if outcome.turn is None:
            self._session.wake()
        return outcome

    @overload
    def get_handle(self, fn: Orchestrator[..., O], instance_id: str, /) -> OrchestrationHandle[O]: ...
    @overload
    def get_handle(self, fn: str, instance_id: str, /) -> OrchestrationHandle[Any]: ...
    def get_handle(self, fn: Any, instance_id: str, /) -> OrchestrationHandle[Any]:
        """A handle on an instance that somebody started, typed by its orchestrator. Asks the store nothing."""
        return OrchestrationHandle(self, instance_id, self._registry.orchestrator(fn).decode_result)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_instance(self, instance_id: str) -> OrchestrationState | None:
        """The instance as it is now; None if there is none (or it was purged)."""
        record = await self._read(instance_id)
        return read_record(record, self._registry) if record is not None else None

    async def _read(self, instance_id: str) -> store.InstanceRecord | None:
        """Of an orchestration: entities have no ``start``."""
        self._check_open()
        record = await self._reader.record(instance_id)
        return record if record is not None and record.start else None

    async def query_instances(
        self,
        *,
        statuses: Collection[InstanceStatus] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        page_size: int = 200,
    ) -> AsyncIterator[OrchestrationState]:
        """All instances that match, in order of creation. What matches throughout is given exactly once, whatever changes meanwhile."""
        self._check_open()
        of = frozenset(statuses) if statuses is not None else None
        wanted = store.InstanceFilter(of, name, id_prefix, parent, _us(created_from), _us(created_to))
        async for record in self._reader.records(wanted, page_size):
            yield read_record(record, self._registry)

    async def get_history(self, instance_id: str) -> list[ev.Event]:
        """The events of the current execution, from the first. Raises ``InstanceNotFoundError``."""
        self._check_open()
        events = [event async for row in self._reader.history(instance_id) for event in decode_events(row)]
        if not events and await self._reader.record(instance_id) is None:
            raise _not_found(instance_id)
        return events

    async def wait_for_start(self, instance_id: str, timeout: timedelta | None = None) -> OrchestrationState:
        """Wait until the instance has left PENDING. Raises ``TimeoutError``, ``InstanceNotFoundError``."""
        started = frozenset(InstanceStatus) - {InstanceStatus.PENDING}
        return read_record(await self._wait(instance_id, timeout, started), self._registry)

    async def wait_for_completion(self, instance_id: str, timeout: timedelta | None = None) -> OrchestrationState:
        """Wait until the instance has ended, in any process. Raises ``TimeoutError`` (which tells of the instance's problem, if it has one),
        ``InstanceNotFoundError`` (also if it is purged meanwhile)."""
        return read_record(await self._wait(instance_id, timeout, ENDED), self._registry)

    async def _wait(self, instance_id: str, timeout: timedelta | None, wanted: frozenset[InstanceStatus], told: bool = False) -> Any:
        """The ``InstanceRecord``. If to be ``told`` is enough, an instance that this process's worker has in hand is not read from the store
        at all: the ``RecordUpdate`` of its last commit says status, output and failure.

        A problem is warned of, and waited through: a person may put it right.
        """
        self._check_open()
        waiters, problem = self._session.waiters, None
        look = not (told and waiters.watched_here(instance_id))
        try:
            async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
                while True:
                    with waiters.next_change(instance_id, end_only=wanted is ENDED) as change:
                        if look:
                            record = await self._read(instance_id)
                            if record is None:
                                raise _not_found(instance_id)
                            if record.status in wanted:
                                return record
                            if record.problem not in (None, problem):
                                problem = record.problem
                                _logger.warning("%r is waited for and does not get on: %s", instance_id, problem)
                        update = await change
                        if told and update is not None:
                            return update
                        look = True
        except TimeoutError:
            raise TimeoutError(_in_vain(instance_id, wanted, timeout, problem)) from None

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────

    async def raise_event(self, instance_id: str, name: str, data: Any = None) -> bool:
        """Send an external event. False if the instance has ended (the event is dropped). Raises ``InstanceNotFoundError``."""
        text = self._registry.check_size(self._registry.encode_any(data), f"the data of event {name!r}")
        return await self._send(instance_id, ev.EventRaised(name, text))

    async def terminate(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> bool:
        """End the instance (and, with ``recursive``, its children) as TERMINATED with this output. Activities that have not started are
        dropped. False if it has ended already."""
        text = self._registry.check_size(self._registry.encode_any(output), "the output") if output is not None else None
        return await self._send(instance_id, ev.ExecutionTerminated(text, recursive), control=True)

    async def suspend(self, instance_id: str, reason: str = "") -> bool:
        """Run no more turns until ``resume``; messages are kept. False if it has ended."""
        return await self._send(instance_id, ev.ExecutionSuspended(reason), control=True)

    async def resume(self, instance_id: str, reason: str = "") -> bool:
        """Go on after ``suspend``. False if it has ended."""
        return await self._send(instance_id, ev.ExecutionResumed(reason), control=True)

    async def _send(
        self, target: str, event: ev.Event | ev.OperationRequested, *, control: bool = False, creates: str | None = None
    ) -> bool:
        self._check_open()
        message = store.Message(uuid4().hex, target, encode_event(event), None, self._name, control=control, creates=creates)
        outcome = await self._apply(store.SendMessage(message), "the store refuses this message")
        if outcome.status is OutcomeStatus.GONE:
            raise _not_found(target)
        return outcome.status is not OutcomeStatus.ENDED

    # ── entities ──────────────────────────────────────────────────────────────────────────────────────────────

    async def signal_entity(self, id: EntityId, operation: str | Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Send one operation; it is durable when this returns, and carried out soon. An operation given as the class's function is checked
        against its signature."""
        if isinstance(operation, str) and id.name not in self._registry.entities:
            name, (text, arity) = operation, self._registry.encode_arguments(args)
        else:
            bound = self._registry.entity(id.name).operation(operation)
            name, (text, arity) = bound.name, bound.encode(args, kwargs)
        self._registry.check_size(text, f"the input of {id.name}.{name}")
        await self._send(id.instance_id, ev.OperationRequested(name, text, arity), creates=id.name)

    async def get_entity(self, cls: type[E], key: str) -> E | None:
        """A copy of the entity's stored state, without disturbing it; None if it was never used."""
        self._check_open()
        bound = self._registry.entity(cls)
        record = await self._reader.record(EntityId(bound.name, key).instance_id)
        state = stored_state(record.snapshot) if record is not None else None
        return bound.load_state(state) if state is not None else None


def _not_found(instance_id: str) -> InstanceNotFoundError:
    return InstanceNotFoundError(instance_id, f"there is no instance {instance_id!r} (never started, or purged)")


def _in_vain(instance_id: str, wanted: frozenset[InstanceStatus], timeout: timedelta | None, problem: str | None) -> str:
    seconds = timeout.total_seconds() if timeout is not None else 0
    text = f"instance {instance_id!r} did not {'end' if wanted is ENDED else 'start'} within {seconds:g} s"
    return text if problem is None else f"{text}; it does not get on: {problem}"


def _us(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"an aware datetime is needed, got the naive {moment!r}")
    return round(moment.timestamp() * 1e6)


def _delay_us(start_at: datetime | None) -> int:
    return max(0, (_us(start_at) or 0) - time.time_ns() // 1000)
