"""Entities, as a client sees them: signals, and state that is read without disturbing them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar

from attrs import field, frozen

from durable_core.backend import ENDED, InstanceFilter, InstanceRecord, OutcomeStatus, Purge, SendMessage
from durable_core.definitions.entity import EntityId
from durable_core.definitions.registry import Registry
from durable_core.errors import StoreError
from durable_core.events import EntityReset, LockReleased, Parent
from durable_core.ids import check_text
from durable_core.mailbox import EntitySnapshot, decode_snapshot
from durable_core.moments import Duration, due_time_us, to_datetime
from durable_core.runtime.client.sender import Sender, checked_page_size, range_us
from durable_core.runtime.requests import operation_request, refusal

E = TypeVar("E")


@frozen
class EntityState:
    """An entity at one moment. ``locked_by`` is the instance id of the orchestration in whose critical section it is, ``backlog`` how many
    requests wait for the end of that. ``problem`` says what a person should know of: why it does not get on, or that messages which it could
    not understand are ``set_aside`` (their texts). ``parked``: it is not tried any more (``reset_entity``, ``purge_entity``)."""

    id: EntityId
    last_updated_at: datetime
    has_state: bool
    locked_by: str | None
    backlog: int
    problem: str | None
    parked: bool
    set_aside: tuple[str, ...]
    _snapshot: EntitySnapshot = field(repr=False)
    _registry: Registry = field(repr=False, eq=False)

    def state_as(self, cls: type[E]) -> E | None:
        """A copy of the entity; None if it has no state."""
        state, form = self._snapshot.state, self._registry.entity(cls).state
        return form.load(state, self._snapshot.deleted).object if state is not None else None


@frozen
class CleanedEntities:
    """What ``clean_entity_storage`` has done."""

    empty_entities_removed: int
    orphaned_locks_released: int


class EntityClient(Sender):
    async def signal_entity(
        self, id: EntityId, operation: str | Callable[..., Any], *args: Any, signal_time: datetime | Duration | None = None, **kwargs: Any
    ) -> None:
        """Send one operation, to be delivered at once or at ``signal_time``; it is durable when this returns. An operation given as the
        class's function is checked against its signature."""
        request = operation_request(self._registry, id, operation, args, kwargs)
        due_us = 0 if signal_time is None else due_time_us(signal_time, self._now_us(), "a signal")
        await self._send(id.instance_id, request, creates=id.name, due_us=due_us)

    async def get_entity(self, cls: type[E], key: str) -> E | None:
        """A copy of the entity's stored state, without disturbing it; None if it has none (never used, or deleted)."""
        record = await self._opened().reader.record(EntityId(self._registry.entity(cls).name, key).instance_id)
        return self._entity_state(record).state_as(cls) if record is not None else None

    async def get_entity_state(self, id: EntityId) -> EntityState | None:
        """The entity as it is now, with its lock and its problem; None if it was never used, or purged."""
        record = await self._opened().reader.record(id.instance_id)
        return self._entity_state(record) if record is not None else None

    async def query_entities(
        self,
        *,
        name: str | None = None,
        key_prefix: str = "",
        updated_from: datetime | None = None,
        updated_to: datetime | None = None,
        page_size: int = 200,
    ) -> AsyncIterator[EntityState]:
        """All entities that match, in the order of their first use. ``key_prefix`` needs a ``name``."""
        if key_prefix and not name:
            raise ValueError("key_prefix needs the entity's name, too")
        if key_prefix:
            check_text(key_prefix, "key_prefix")
        wanted = InstanceFilter(
            name=EntityId(name, "-").name if name is not None else None,
            id_prefix=EntityId(name, key_prefix).instance_id if name is not None and key_prefix else None,
            updated_from_us=range_us(updated_from),
            updated_to_us=range_us(updated_to),
            entities=True,
        )
        async for record in self._opened().reader.records(wanted, checked_page_size(page_size)):
            yield self._entity_state(record)

    async def reset_entity(self, id: EntityId, *, keep_state: bool = False) -> None:
        """Make the entity new, also if it is parked, or its state cannot be read: its lock is free, whoever waits for it is told that the call
        has failed, what was set aside is forgotten, and so, without ``keep_state``, is its state. A worker does that, whether it knows the
        class or not. Raises ``InstanceNotFoundError``."""
        await self._send(id.instance_id, EntityReset(keep_state), control=True)

    async def purge_entity(self, id: EntityId) -> bool:
        """Remove every trace of the entity, at once, and without a worker. False if there was none. Those who wait for its lock are told; whoever
        has called it and waits for the answer, is not: ``reset_entity`` before tells them."""
        record = await self._opened().reader.record(id.instance_id)
        if record is None:
            return False
        purged = (await self._apply(Purge(id.instance_id, force=True))).status is not OutcomeStatus.GONE
        for each in _snapshot_of(record)[0].waiting:
            if each.request.caller is not None:
                await self._apply(SendMessage(refusal(id.instance_id, each.request.caller, "purged")))
        return purged

    async def clean_entity_storage(self, *, remove_empty_entities: bool = True, release_orphaned_locks: bool = True) -> CleanedEntities:
        """Remove entities that have nothing to keep: no state, no lock, no message; nothing that arrives meanwhile is lost. Release locks whose
        holder has ended or is not there any more. How many of each."""
        removed = released = 0
        async for record in self._opened().reader.records(InstanceFilter(entities=True)):
            snapshot, problem = _snapshot_of(record)
            if release_orphaned_locks and snapshot.holder is not None and await self._is_gone(snapshot.holder):
                await self._send(record.instance, LockReleased(snapshot.holder.execution_id))
                released += 1
            elif remove_empty_entities and problem is None and snapshot.is_empty:
                outcome = await self._apply(Purge(record.instance, idle_version=record.version))
                removed += outcome.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED)
        return CleanedEntities(removed, released)

    async def _is_gone(self, holder: Parent) -> bool:
        record = await self._opened().reader.record(holder.instance_id)
        return record is None or record.status in ENDED or record.execution != holder.execution_id

    def _entity_state(self, record: InstanceRecord) -> EntityState:
        snapshot, problem = _snapshot_of(record)
        return EntityState(
            EntityId.parse(record.instance),
            to_datetime(record.updated_us),
            snapshot.state is not None,
            snapshot.holder.instance_id if snapshot.holder is not None else None,
            len(snapshot.waiting),
            record.problem or problem or snapshot.problem,
            record.parked,
            tuple(each.payload.decode(errors="backslashreplace") or each.reason for each in snapshot.aside),
            snapshot,
            self._registry,
        )


def _snapshot_of(record: InstanceRecord) -> tuple[EntitySnapshot, str | None]:
    """And why it cannot be read, if it cannot."""
    try:
        return decode_snapshot(record.snapshot), None
    except StoreError as error:
        return EntitySnapshot(), str(error)
