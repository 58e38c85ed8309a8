"""What every part of the client is made of: commands to the store, and messages to instances."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from durable_core import backend as store
from durable_core.backend import InstanceStatus, OutcomeStatus
from durable_core.codec import encode_event
from durable_core.definitions.registry import Registry
from durable_core.errors import InstanceNotFoundError, StoreError
from durable_core.events import EntityRequest, EntityReset, Event
from durable_core.ids import check_lookup_id, check_text
from durable_core.moments import to_us
from durable_core.runtime.client.places import check_place
from durable_core.runtime.fresh import fresh_id
from durable_core.runtime.session import Session


class Sender:
    """``session`` gives what is open, or raises ``EngineStateError``."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session
        self._name = fresh_id()

    def _opened(self) -> Session:
        """What is open, for a caller that may use it. Raises ``ForbiddenInOrchestratorError``, ``EngineStateError``."""
        session = self._session()
        check_place(session.loop)
        return session

    @property
    def _registry(self) -> Registry:
        return self._opened().registry

    def _now_us(self) -> int:
        """Hub time; by this process's clock if the store has not said yet what time it is."""
        clock = self._opened().clock
        return clock.now_us() or clock.wall_us()

    async def _apply(self, command: store.Command) -> store.Outcome:
        session = self._opened()
        outcome = await session.committer.apply(command)
        if outcome.status is OutcomeStatus.REJECTED:
            raise outcome.error or StoreError(f"the store refuses this {type(command).__name__}")
        if outcome.turn is None:
            session.wake()
        return outcome

    async def _send(
        self, target: str, event: Event | EntityRequest | EntityReset, *, control: bool = False, creates: str | None = None, due_us: int = 0
    ) -> bool:
        """False if the target has ended."""
        check_lookup_id(target)
        message = store.Message(fresh_id(), target, encode_event(event), None, self._name, due_us, control=control, creates=creates)
        outcome = await self._apply(store.SendMessage(message))
        if outcome.status is OutcomeStatus.GONE:
            raise not_found(target)
        return outcome.status is not OutcomeStatus.ENDED

    async def _read(self, instance_id: str) -> store.InstanceRecord | None:
        """Of an orchestration: entities have no ``start``."""
        record = await self._opened().reader.record(check_lookup_id(instance_id))
        return record if record is not None and record.start else None


def not_found(instance_id: str) -> InstanceNotFoundError:
    return InstanceNotFoundError(instance_id, f"there is no instance {instance_id!r} (never started, or purged)")


def checked_filter(given: str | None, what: str) -> str | None:
    """A text by which instances are sought. Raises ``TypeError``, ``ValueError``."""
    return None if given is None else check_text(given, what)


def checked_statuses(given: InstanceStatus | Collection[InstanceStatus] | None) -> frozenset[InstanceStatus] | None:
    """One or several. Raises ``TypeError``, ``ValueError``."""
    if given is None:
        return None
    if isinstance(given, str):
        given = (InstanceStatus(given),)
    if not isinstance(given, Collection):
        raise TypeError(f"statuses must be a list of InstanceStatus, got {given!r}")
    return frozenset(map(InstanceStatus, given))


def checked_page_size(given: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ValueError(f"page_size must be a number above zero, got {given!r}")
    return given


def range_us(moment: datetime | None) -> int | None:
    """An end of a time range; None: open."""
    return to_us(moment, "a time range") if moment is not None else None
