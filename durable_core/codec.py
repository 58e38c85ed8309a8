"""Events and messages as bytes: JSON, one object an event, ``type`` naming its class.

msgspec writes and reads the event classes themselves, so there is nothing here to keep in step with ``events.py``: a
new event is a line in its tables.

Versions. A field with a default may be added to an event at any time: older code ignores it, newer code reads older
events with the default. Any other change is a new event class, or the old one with a higher ``"v"`` (none means 1).
Code that meets an event class or a ``"v"`` that it does not know raises ``StoreVersionError`` and changes nothing: a
worker of the newer version will take the instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from durable_core.errors import PayloadError, StoreFormatError, StoreVersionError
from durable_core.events import COMMAND_EVENTS, MESSAGE_EVENTS, Event, OperationRequested

__all__ = ["FORMAT_VERSION", "decode_event", "decode_events", "encode_event", "encode_events", "join_events"]

FORMAT_VERSION = 1

_CLASSES: dict[str, Any] = {cls.__name__: cls for cls in (*MESSAGE_EVENTS, *COMMAND_EVENTS, OperationRequested)}
_dump = msgspec.json.Encoder().encode
_load_object = msgspec.json.Decoder(dict[str, Any]).decode
_load_array = msgspec.json.Decoder(list[dict[str, Any]]).decode


def encode_event(event: Event | OperationRequested) -> bytes:
    try:
        return _dump(event)
    except ValueError as error:
        raise _unwritable(event, error) from error


def encode_events(events: Sequence[Event]) -> bytes:
    """A JSON array: one history row."""
    try:
        return _dump(events)
    except ValueError as error:
        raise _unwritable(events, error) from error


def join_events(encoded: Sequence[bytes]) -> bytes:
    """The row that ``encode_events`` makes, of events that are encoded already."""
    return b"[" + b",".join(encoded) + b"]"


def decode_event(data: bytes, at_us: int) -> Any:
    """One event or message; ``at_us`` becomes the time at which it was applied, if it has one. Typed ``Any``: the
    caller knows what it put there.
    """
    try:
        raw = _load_object(data)
    except msgspec.MsgspecError as error:
        raise _damaged(error) from error
    raw["at_us"] = at_us
    return _revive(raw)


def decode_events(data: bytes) -> list[Event]:
    """The events of a history row."""
    try:
        raws = _load_array(data)
    except msgspec.MsgspecError as error:
        raise _damaged(error) from error
    return [_revive(raw) for raw in raws]


def _revive(raw: dict[str, Any]) -> Any:
    name = raw.get("type")
    if type(name) is not str:
        raise _damaged("it has no type")
    cls = _CLASSES.get(name)
    if cls is None or raw.get("v", FORMAT_VERSION) != FORMAT_VERSION:
        raise StoreVersionError(
            f"the store holds an event {name!r} (format {raw.get('v', FORMAT_VERSION)}) that this version of durable-core does not know: "
            f"a newer one wrote it. Upgrade this program; until then a worker of the newer version has to run the instance"
        )
    try:
        return msgspec.convert(raw, cls)
    except msgspec.MsgspecError as error:
        raise _damaged(error, name) from error


def _damaged(error: object, name: str = "row") -> StoreFormatError:
    return StoreFormatError(f"the store holds a damaged event ({name}): {error}. Restore it from a backup, or purge the instance")


def _unwritable(event: object, error: Exception) -> PayloadError:
    return PayloadError(f"a text of {type(event).__name__} cannot be stored: {error}; remove lone surrogates from names, tags and ids")
