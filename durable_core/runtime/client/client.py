"""The client: starts orchestrations, asks about them, and sends them messages. It needs no worker in its process."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack, get_args, overload

from durable_core import backend as store
from durable_core import events as ev
from durable_core.backend import ENDED, InstanceStatus, OutcomeStatus, ReusePolicy
from durable_core.codec import decode_events
from durable_core.definitions.orchestrator import Orchestrator
from durable_core.errors import InstanceAlreadyExistsError, OrchestrationFailedError, StoreUnavailableError
from durable_core.ids import check_instance_id, check_is_orchestration, check_lookup_id
from durable_core.moments import Duration, due_time_us, duration
from durable_core.replay.context import OrchestrationContext
from durable_core.runtime.client.entities import EntityClient
from durable_core.runtime.client.lifecycle import LifecycleClient
from durable_core.runtime.client.records import OrchestrationState, decode_failure, read_record
from durable_core.runtime.client.sender import checked_filter, checked_page_size, checked_statuses, not_found, range_us
from durable_core.runtime.requests import start_request

P = ParamSpec("P")
R = TypeVar("R")
O = TypeVar("O")  # noqa: E741
Ts = TypeVarTuple("Ts")

_READ_ENTITY = "use get_entity, get_entity_state or query_entities"

_logger = logging.getLogger("durable_core.engine")


_REUSE_POLICIES: tuple[ReusePolicy, ...] = get_args(ReusePolicy)


class StartOptions(TypedDict, total=False):
    """Of ``schedule_new_orchestration``."""

    instance_id: str | None
    start_at: datetime | Duration | None
    reuse_policy: ReusePolicy
    tags: dict[str, str] | None


class OrchestrationHandle(Generic[O]):
    """One started orchestration, with the type of its result."""

    def __init__(self, client: DurableClient, instance_id: str, decode: Callable[[str | None], Any]) -> None:
        self._client = client
        self._decode = decode
        self.id = instance_id

    async def result(self, timeout: Duration | None = None) -> O:
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


class DurableClient(LifecycleClient, EntityClient):
    """Open as long as its engine is. Get it as ``engine.client``."""

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

        Without ``instance_id`` a fresh one is made. ``start_at`` delays it, to a time (aware) or for a while. ``reuse_policy`` decides if the id is taken: "error"
        raises ``InstanceAlreadyExistsError``, "return_existing" gives a handle on what is there, "replace_ended" and
        "terminate_and_replace" start anew. Also raises ``ArgumentsError``, ``PayloadError``, ``NotRegisteredError``,
        ``InvalidInstanceIdError``, ``StoreError``.
        """
        if reuse_policy not in _REUSE_POLICIES:
            raise ValueError(f"reuse_policy must be one of {', '.join(map(repr, _REUSE_POLICIES))}, got {reuse_policy!r}")
        session = self._opened()
        worker, registry = session.worker, session.registry
        callee = registry.orchestrator(fn)
        holder = worker.id if worker is not None and start_at is None and worker.can_take(callee.name) else None
        more = {"reuse": reuse_policy, "delay_us": self._delay_us(start_at), "worker": holder}
        create = start_request(registry, callee, fn, args, kw, instance_id, tags, **more)
        decode = callee.decode_result if return_type is None else registry.decoder(return_type)
        outcome = await self._apply(create)
        if outcome.status is OutcomeStatus.EXISTS and reuse_policy != "return_existing":
            text = f"there is already an instance {create.instance!r}; choose another id, leave it out, or pass reuse_policy=..."
            raise InstanceAlreadyExistsError(create.instance, text)
        return OrchestrationHandle(self, create.instance, decode)

    def _delay_us(self, start_at: datetime | Duration | None) -> int:
        if start_at is None:
            return 0
        now_us = self._now_us()
        return max(0, due_time_us(start_at, now_us, "start_at") - now_us)

    @overload
    def get_handle(self, fn: Orchestrator[..., O], instance_id: str, /) -> OrchestrationHandle[O]: ...
    @overload
    def get_handle(self, fn: str, instance_id: str, /) -> OrchestrationHandle[Any]: ...
    def get_handle(self, fn: Any, instance_id: str, /) -> OrchestrationHandle[Any]:
        """A handle on an instance that somebody started, typed by its orchestrator. Asks the store nothing, so any thread may have
        one made (and then await it on the engine's event loop)."""
        check_is_orchestration(instance_id, _READ_ENTITY)
        return OrchestrationHandle(self, check_instance_id(instance_id), self._session().registry.orchestrator(fn).decode_result)

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_instance(self, instance_id: str) -> OrchestrationState | None:
        """The instance as it is now; None if there is none (or it was purged)."""
        check_is_orchestration(instance_id, _READ_ENTITY)
        record = await self._read(instance_id)
        return read_record(record, self._registry) if record is not None else None

    async def query_instances(
        self,
        *,
        statuses: InstanceStatus | Collection[InstanceStatus] | None = None,
        name: str | None = None,
        id_prefix: str | None = None,
        parent: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        page_size: int = 200,
    ) -> AsyncIterator[OrchestrationState]:
        """All instances that match, in order of creation. What matches throughout is given exactly once, whatever changes meanwhile."""
        wanted = store.InstanceFilter(
            checked_statuses(statuses),
            checked_filter(name, "name"),
            checked_filter(id_prefix, "id_prefix"),
            checked_filter(parent, "parent"),
            range_us(created_from),
            range_us(created_to),
        )
        async for record in self._opened().reader.records(wanted, checked_page_size(page_size)):
            yield read_record(record, self._registry)

    async def get_history(self, instance_id: str) -> list[ev.Event]:
        """The events of the current execution, from the first. Raises ``InstanceNotFoundError``."""
        reader = self._opened().reader
        check_is_orchestration(instance_id, "it keeps no history; use get_entity or get_entity_state")
        check_lookup_id(instance_id)
        events = [event async for row in reader.history(instance_id) for event in decode_events(row)]
        if not events and await reader.record(instance_id) is None:
            raise not_found(instance_id)
        return events

    async def wait_for_start(self, instance_id: str, timeout: Duration | None = None) -> OrchestrationState:
        """Wait until the instance has left PENDING. Raises ``TimeoutError``, ``InstanceNotFoundError``."""
        started = frozenset(InstanceStatus) - {InstanceStatus.PENDING}
        return read_record(await self._wait(instance_id, timeout, started), self._registry)

    async def wait_for_completion(self, instance_id: str, timeout: Duration | None = None) -> OrchestrationState:
        """Wait until the instance has ended, in any process. Raises ``TimeoutError`` (which tells of the instance's problem, if it has one),
        ``InstanceNotFoundError`` (also if it is purged meanwhile)."""
        return read_record(await self._wait(instance_id, timeout, ENDED), self._registry)

    async def _wait(self, instance_id: str, timeout: Duration | None, wanted: frozenset[InstanceStatus], told: bool = False) -> Any:
        """The ``InstanceRecord``. If to be ``told`` is enough, an instance that this process's worker has in hand is not read from the store
        at all: the ``RecordUpdate`` of its last commit says status, output and failure.

        A problem is warned of, and waited through: a person may put it right. So is an outage of the store.
        """
        check_is_orchestration(instance_id, "it does not end; use get_entity, or call it from an orchestration and wait for that")
        check_lookup_id(instance_id)
        limit = duration(timeout, "timeout") if timeout is not None else None
        session, problem = self._opened(), None
        waiters = session.waiters
        look = not (told and waiters.watched_here(instance_id))
        away: StoreUnavailableError | None = None
        try:
            async with session.clock.client_waits(limit.total_seconds() if limit is not None else None):
                while True:
                    with waiters.next_change(instance_id, end_only=wanted is ENDED) as change:
                        if look:
                            try:
                                record, away = await self._read(instance_id), None
                            except StoreUnavailableError as error:
                                away = error
                                continue  # the store's going and coming is logged elsewhere
                            if record is None:
                                raise not_found(instance_id)
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
            raise TimeoutError(_in_vain(instance_id, wanted, limit, problem, away)) from away


def _in_vain(
    instance_id: str, wanted: frozenset[InstanceStatus], timeout: timedelta | None, problem: str | None, away: StoreUnavailableError | None
) -> str:
    seconds = timeout.total_seconds() if timeout is not None else 0
    text = f"instance {instance_id!r} did not {'end' if wanted is ENDED else 'start'} within {seconds:g} s"
    if away is not None:
        return f"{text}, as far as is known: {away}"
    return text if problem is None else f"{text}; it does not get on: {problem}"
