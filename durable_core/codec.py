"""Events and messages as bytes: JSON, one object an event, ``type`` naming its class; what has its default value is left out.

msgspec writes and reads the event classes themselves, so there is nothing here to keep in step with ``events.py``: a new event is a class
there.

Versions. A field with a default may be added to an event at any time: older code ignores it, newer code reads older events with the
default. Any other change is a new event class. Code that meets a class that it does not know raises ``StoreVersionError`` and changes
nothing: a worker of the newer version will take the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, Union

import msgspec
from msgspec.structs import force_setattr

from durable_core.errors import PayloadError, StoreFormatError, StoreVersionError
from durable_core.events import COMMAND_EVENTS, MESSAGE_EVENTS, EntityRequest, EntityReset, Event

T = TypeVar("T")

_dump = msgspec.json.Encoder().encode
_any_event: Any = Union[MESSAGE_EVENTS + COMMAND_EVENTS]  # noqa: UP007  # of a tuple
_load_object = msgspec.json.Decoder(_any_event | EntityRequest | EntityReset).decode
_load_array = msgspec.json.Decoder(list[_any_event]).decode


def encode_event(event: Event | EntityRequest | EntityReset) -> bytes:
    try:
        return _dump(event)
    except (UnicodeEncodeError, OverflowError) as error:
        raise PayloadError(f"{type(event).__name__} has a text that cannot be stored: {error}; remove lone surrogates from it") from error


def join_events(encoded: Iterable[bytes]) -> bytes:
    """A JSON array: one history row."""
    return b"[" + b",".join(encoded) + b"]"


def decode_event(data: bytes, at_us: int) -> Any:
    """One event or message; ``at_us`` becomes the time at which it was applied, if it has one. Typed ``Any``: the caller knows what it put
    there."""
    event = _decode(_load_object, data)
    if hasattr(event, "at_us"):
        force_setattr(event, "at_us", at_us)  # nobody else has seen this object
    return event


def decode_events(data: bytes) -> list[Event]:
    """The events of a history row."""
    return _decode(_load_array, data)


def _decode(load: Callable[[bytes], T], data: bytes) -> T:
    try:
        return load(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        if str(error).startswith("Invalid value") and str(error).endswith(".type`"):
            text = f"the store holds an event that this version of durable-core does not know ({error}): a newer one wrote it"
            advice = "Upgrade this program; until then a worker of the newer version has to run the instance"
            raise StoreVersionError(f"{text}. {advice}") from error
        raise StoreFormatError(f"the store holds a damaged event: {error}. Restore it from a backup, or purge the instance") from error
