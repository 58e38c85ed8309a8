"""Obituaries as bytes: a JSON list that a person can read, payloads in base64."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable

from msgspec.structs import asdict

from durable_core.backend import Message


def encode_messages(messages: Iterable[Message]) -> bytes:
    return json.dumps([asdict(message) | {"payload": b64encode(message.payload).decode()} for message in messages]).encode()


def decode_messages(data: bytes) -> tuple[Message, ...]:
    return tuple(Message(**fields | {"payload": b64decode(fields["payload"])}) for fields in json.loads(data))
