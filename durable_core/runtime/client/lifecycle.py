"""What a client does to instances that exist: events, termination, suspending, restarting, purging."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from durable_core import events as ev
from durable_core.backend import ENDED, CreateInstance, InstanceFilter, InstanceStatus, OutcomeStatus, Purge, ReusePolicy
from durable_core.codec import decode_event, encode_event
from durable_core.errors import InstanceAlreadyExistsError
from durable_core.ids import check_instance_id, check_is_orchestration, check_text
from durable_core.runtime.client.sender import Sender, checked_filter, checked_statuses, not_found, range_us
from durable_core.runtime.fresh import fresh_id


class LifecycleClient(Sender):
    async def raise_event(self, instance_id: str, name: str, data: Any = None) -> bool:
        """Send an external event. False if the instance has ended (the event is dropped). Raises ``InstanceNotFoundError``."""
        check_is_orchestration(instance_id, "send it a signal (signal_entity)")
        check_text(name, "an event name")
        text = self._registry.check_size(self._registry.encode_any(data), f"the data of event {name!r}")
        return await self._send(instance_id, ev.EventRaised(name, text))

    async def terminate(self, instance_id: str, *, output: Any = None, recursive: bool = True) -> bool:
        """End the instance (and, with ``recursive``, its children) as TERMINATED with this output. Activities that have not started are
        dropped. False if it has ended already."""
        check_is_orchestration(instance_id, "signal its operation 'delete' (signal_entity), or use reset_entity or purge_entity")
        text = self._registry.check_size(self._registry.encode_any(output), "the output") if output is not None else None
        return await self._send(instance_id, ev.ExecutionTerminated(text, recursive), control=True)

    async def suspend(self, instance_id: str, reason: str = "") -> bool:
        """Run no more turns until ``resume``; messages are kept. False if it has ended."""
        check_is_orchestration(instance_id, "it cannot be suspended; an orchestration may lock it (ctx.lock_entities)")
        return await self._send(instance_id, ev.ExecutionSuspended(_reason(reason)), control=True)

    async def resume(self, instance_id: str, reason: str = "") -> bool:
        """Go on after ``suspend``. False if it has ended."""
        check_is_orchestration(instance_id, "it cannot be suspended; if it is parked, use reset_entity")
        return await self._send(instance_id, ev.ExecutionResumed(_reason(reason)), control=True)

    async def restart(self, instance_id: str, *, new_instance_id: str | None = None) -> str:
        """Start an orchestration again from the beginning, with the input and tags that its last execution had; gives the instance id.

        Under its own id it has to have ended (``InstanceAlreadyExistsError``) and its record is replaced; ``new_instance_id`` leaves it
        alone. Nobody's sub-orchestration any more, whatever it was. Raises ``InstanceNotFoundError``.
        """
        check_is_orchestration(instance_id, "use reset_entity")
        if new_instance_id is not None:
            check_instance_id(new_instance_id)
        record = await self._read(instance_id)
        if record is None:
            raise not_found(instance_id)
        before: ev.ExecutionStarted = decode_event(record.start, 0)
        start = ev.ExecutionStarted(before.name, before.input, before.arity, tags=before.tags)
        target, execution = instance_id if new_instance_id is None else new_instance_id, fresh_id()
        reuse: ReusePolicy = "replace_ended" if new_instance_id is None else "error"
        create = CreateInstance(target, execution, record.name, encode_event(start), execution, reuse)
        if (await self._apply(create)).status is OutcomeStatus.EXISTS:
            why = (
                "has not ended: terminate it first, or restart it under a new_instance_id" if new_instance_id is None else "exists already"
            )
            raise InstanceAlreadyExistsError(target, f"{target!r} {why}")
        return target

    async def purge(self, instance_id: str, *, recursive: bool = True, force: bool = False) -> int:
        """Remove every trace of an instance that has ended and, with ``recursive``, of its sub-orchestrations that have; how many
        instances.

        ``force`` removes what has not ended, too: its parent is told that it failed, its locks are given back, and activities that run
        lose their result. Raises ``UsageError`` for an instance that has not ended, ``InstanceNotFoundError``.
        """
        check_is_orchestration(instance_id, "use purge_entity, or clean_entity_storage")
        if await self._read(instance_id) is None:
            raise not_found(instance_id)
        purged = await self._purge(instance_id, recursive, force)
        self._opened().waiters.look_again()
        return purged

    async def purge_instances(
        self,
        *,
        statuses: InstanceStatus | Collection[InstanceStatus] = ENDED,
        name: str | None = None,
        id_prefix: str | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        updated_to: datetime | None = None,
        recursive: bool = True,
    ) -> int:
        """Purge all instances that have ended and match; ``updated_to`` bounds when they ended. How many."""
        wanted = InstanceFilter(
            (checked_statuses(statuses) or ENDED) & ENDED,
            checked_filter(name, "name"),
            checked_filter(id_prefix, "id_prefix"),
            created_from_us=range_us(created_from),
            created_to_us=range_us(created_to),
            updated_to_us=range_us(updated_to),
        )
        return sum([await self._purge(record.instance, recursive, False) async for record in self._opened().reader.records(wanted)])

    async def _purge(self, instance_id: str, recursive: bool, force: bool) -> int:
        """The instance first: what is left if this is interrupted is found by its status, not by its parent."""
        wanted = InstanceFilter(None if force else ENDED, parent=instance_id)
        children = [record async for record in self._opened().reader.records(wanted)] if recursive else []
        purged = (await self._apply(Purge(instance_id, force=force))).status is not OutcomeStatus.GONE
        return purged + sum([await self._purge(child.instance, recursive, force) for child in children])


def _reason(given: str) -> str:
    return check_text(given, "a reason") if given != "" else given
