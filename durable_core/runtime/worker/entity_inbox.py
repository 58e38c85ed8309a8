"""What arrives at an entity: requests, what a person wants of it, and what it cannot understand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from durable_core.backend import Message
from durable_core.codec import decode_event
from durable_core.errors import StoreError, StoreFormatError
from durable_core.events import EntityRequest, EntityReset
from durable_core.mailbox import EntitySnapshot, Served


def receive(snapshot: EntitySnapshot, messages: Iterable[Message]) -> Iterator[Served]:
    """What is to be served now, in order. What is no request is set aside. Raises ``StoreVersionError`` for what a newer version sent: a worker
    of that version is to take it, in its turn."""
    for message in messages:
        request = request_in(message.payload)
        if isinstance(request, EntityRequest):
            yield from snapshot.admit(message.sender, request)
        else:
            snapshot.set_aside(message.sender, message.payload, request)


def request_in(payload: bytes) -> EntityRequest | str:
    """The request that a message brings; as a text, why it is none. Raises ``StoreVersionError``."""
    try:
        event = decode_event(payload, 0)
    except StoreFormatError as error:
        return str(error)
    return event if isinstance(event, EntityRequest) else f"{type(event).__name__} is no request to an entity"


def resets(message: Message) -> EntityReset | None:
    """What a person wants, if that is what the message brings."""
    if not message.control:
        return None
    try:
        event = decode_event(message.payload, 0)
    except StoreError:
        return None
    return event if isinstance(event, EntityReset) else None
