"""What an entity keeps, and in which order it serves what it is sent.

Requests are served in order of arrival. While the entity is locked it serves the holder's only; all others wait in the snapshot, in order,
so that they are off the store's inbox and yet as durable as the state. Whose a request is, its *sender* says: a lock belongs to one execution
of one orchestration instance, and all that the instance sends keeps its order, so what comes after the grant and before the release was sent
inside the critical section.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, json

from durable_core.events import EntityRequest, LockReleased, LockRequested, OperationRequested, Parent

Served = OperationRequested | LockRequested


class Waiting(Struct, frozen=True):
    """A request that came while somebody else held the lock."""

    sender: str
    request: Served


class EntitySnapshot(Struct, omit_defaults=True):
    """``state`` is attribute name → text; None: the entity has no state (never used, or deleted). ``deleted``: attributes that a new object
    has and this one has not. ``holder``: who has it locked."""

    state: dict[str, str] | None = None
    holder: Parent | None = None
    waiting: list[Waiting] = []
    deleted: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Nothing would be lost with it."""
        return self.state is None and self.holder is None and not self.waiting

    def admit(self, sender: str, request: EntityRequest) -> Iterator[Served]:
        """What is to be served now, in order. A lock is granted by being served."""
        if not isinstance(request, LockReleased):
            yield from self._take(Waiting(sender, request))
            return
        if self.holder is not None and self.holder.execution_id == request.execution_id:
            self.holder = None
        waited, self.waiting = self.waiting, []
        for each in waited:
            if not (isinstance(each.request, LockRequested) and each.request.caller.execution_id == request.execution_id):
                yield from self._take(each)

    def _take(self, each: Waiting) -> Iterator[Served]:
        is_lock = isinstance(each.request, LockRequested)
        if self.holder is not None and (is_lock or each.sender != self.holder.instance_id):
            self.waiting.append(each)
            return
        if isinstance(each.request, LockRequested):
            self.holder = each.request.caller
        yield each.request


encode_snapshot = json.Encoder().encode
_decode = json.Decoder(EntitySnapshot).decode


def decode_snapshot(data: bytes | None) -> EntitySnapshot:
    """None: of an entity that has none yet."""
    return _decode(data) if data else EntitySnapshot()
