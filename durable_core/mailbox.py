"""What an entity keeps, and in which order it serves what it is sent.

Requests are served in order of arrival. While the entity is locked it serves the holder's only; all others wait in the snapshot, in order,
so that they are off the store's inbox and yet as durable as the state. Whose a request is, its *sender* says: a lock belongs to one execution
of one orchestration instance, and all that the instance sends keeps its order, so what comes after the grant and before the release was sent
inside the critical section.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import DecodeError, Raw, Struct, json

from durable_core.errors import StoreFormatError
from durable_core.events import EntityRequest, LockReleased, LockRequested, OperationRequested, Parent

Served = OperationRequested | LockRequested

_ASIDE_MAX = 100
_ASIDE_BYTES_MAX = 16_384


class Waiting(Struct, frozen=True):
    """A request that came while somebody else held the lock."""

    sender: str
    request: Served


class SetAside(Struct, frozen=True):
    """A message that the entity could not understand, and why. ``payload`` is empty if it was large."""

    sender: str
    reason: str
    payload: bytes


class EntitySnapshot(Struct, omit_defaults=True):
    """``state`` is attribute name → text; None: the entity has no state (never used, or deleted). ``deleted``: attributes that a new object
    has and this one has not. ``holder``: who has it locked. ``aside``: messages that it did not understand; at most a hundred are kept."""

    state: dict[str, str] | None = None
    holder: Parent | None = None
    waiting: list[Waiting] = []
    deleted: list[str] = []
    aside: list[SetAside] = []

    @property
    def is_empty(self) -> bool:
        """Nothing would be lost with it."""
        return self.state is None and self.holder is None and not self.waiting and not self.aside

    @property
    def problem(self) -> str | None:
        """What a person should know of."""
        if not self.aside:
            return None
        count = f"at least {_ASIDE_MAX}" if len(self.aside) >= _ASIDE_MAX else str(len(self.aside))
        return (
            f"{count} message(s) that it cannot understand are set aside, the last one: {self.aside[-1].reason}. reset_entity forgets them"
        )

    def set_aside(self, sender: str, payload: bytes, reason: str) -> None:
        if len(self.aside) < _ASIDE_MAX:
            self.aside.append(SetAside(sender, reason, payload if len(payload) <= _ASIDE_BYTES_MAX else b""))

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


class _LooseSnapshot(EntitySnapshot, omit_defaults=True):
    waiting: list[Raw] = []  # type: ignore[assignment]


_decode_loosely = json.Decoder(_LooseSnapshot).decode
_decode_waiting = json.Decoder(Waiting).decode


def decode_snapshot(data: bytes | None) -> EntitySnapshot:
    """None: of an entity that has none yet. Raises ``StoreFormatError``."""
    if not data:
        return EntitySnapshot()
    try:
        return _decode(data)
    except (DecodeError, UnicodeError):
        return _repaired(data)


def _repaired(data: bytes) -> EntitySnapshot:
    """Among those who wait there may be what is no request."""
    try:
        loose = _decode_loosely(data)
    except (DecodeError, UnicodeError) as error:
        raise StoreFormatError(f"the stored state of the entity cannot be read: {error}. Reset it, or purge it") from error
    snapshot = EntitySnapshot(loose.state, loose.holder, [], loose.deleted, loose.aside)
    for raw in loose.waiting:
        try:
            snapshot.waiting.append(_decode_waiting(raw))
        except (DecodeError, UnicodeError) as error:
            snapshot.set_aside("", bytes(raw), f"it waited for the lock, and is no request: {error}")
    return snapshot
