"""Entities, as a client sees them: signals, and state that is read without disturbing them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar

from attrs import field, frozen

from durable_core.backend import InstanceFilter, InstanceRecord, OutcomeStatus, Purge
from durable_core.definitions.entity import EntityId
from durable_core.definitions.registry import Registry
from durable_core.ids import check_text
from durable_core.mailbox import EntitySnapshot, decode_snapshot
from durable_core.moments import Duration, due_time_us, to_datetime
from durable_core.runtime.client.sender import Sender, checked_page_size, range_us
from durable_core.runtime.requests import operation_request

E = TypeVar("E")


@frozen
class EntityState:
    """An entity at one moment. ``locked_by`` is the instance id of the orchestration in whose critical section it is, ``backlog`` how many
    requests wait for the end of that."""

    id: EntityId
    last_updated_at: datetime
    has_state: bool
    locked_by: str | None
    backlog: int
    _snapshot: EntitySnapshot = field(repr=False)
    _registry: Registry = field(repr=False, eq=False)

    def state_as(self, cls: type[E]) -> E | None:
        """A copy of the entity; None if it has no state."""
        state, form = self._snapshot.state, self._registry.entity(cls).state
        return form.load(state, self._snapshot.deleted).object if state is not None else None


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

    async def clean_entity_storage(self) -> int:
        """Remove entities that have nothing to keep: no state, no lock, no message. How many. Nothing that arrives meanwhile is lost."""
        removed = 0
        async for record in self._opened().reader.records(InstanceFilter(entities=True)):
            if decode_snapshot(record.snapshot).is_empty:
                outcome = await self._apply(Purge(record.instance, idle_version=record.version))
                removed += outcome.status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED)
        return removed

    def _entity_state(self, record: InstanceRecord) -> EntityState:
        snapshot = decode_snapshot(record.snapshot)
        return EntityState(
            EntityId.parse(record.instance),
            to_datetime(record.updated_us),
            snapshot.state is not None,
            snapshot.holder.instance_id if snapshot.holder is not None else None,
            len(snapshot.waiting),
            snapshot,
            self._registry,
        )
