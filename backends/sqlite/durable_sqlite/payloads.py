"""Large payloads of messages that are handed out, fetched one statement a turn (``rows.py`` left them behind)."""

from __future__ import annotations

from typing import TypedDict

from msgspec.structs import replace

from durable_core.backend import Message
from durable_sqlite.queries import Rows
from durable_sqlite.rows import Partial

__all__ = ["fetch_unread"]

_LOAD_PAYLOADS = Rows("load_payloads")
_BYTES_PER_TURN = 64 << 20
"""Payloads handed out with one turn, the first message in any case; the others come with the commit's outcome."""


class Handed(TypedDict):
    """The two fields of an ``Outcome`` or ``ClaimedTurn``."""

    messages: tuple[Message, ...]
    more: bool


def fetch_unread(part: Partial, target: str, messages: tuple[Message, ...], more: bool) -> Handed:
    """The messages with their payloads, as many as fit."""
    taken: list[Message] = []
    positions: dict[int, int] = {}
    size = 0
    for message in messages:
        # An empty payload: a message of the same id may have taken the stored one's place in this very batch.
        position, length = part.unread.get((target, message.id), (None, 0)) if message.payload == b"" else (None, len(message.payload))
        size += length
        if taken and size > _BYTES_PER_TURN and not message.control:
            more = True
            continue
        if position is not None:
            positions[position] = len(taken)
        taken.append(message)
    for text, parameters in _LOAD_PAYLOADS.chunks(list(positions)):
        for position, payload in part.connection.execute(text, parameters).fetchall():
            index = positions[position]
            taken[index] = replace(taken[index], payload=payload)
    return {"messages": tuple(taken), "more": more}
