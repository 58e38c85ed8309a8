"""Large payloads of messages that are handed out, fetched when it is known which (``load`` left them behind)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from durable_core.backend import ClaimedTurn, Message, Outcome
from durable_postgres.lanes import Connection
from durable_postgres.queries import query
from durable_postgres.rows import Partial

__all__ = ["Missing", "complete_outcomes", "complete_turns"]

_BYTES_PER_TURN = 64 << 20
"""Payloads handed out with one turn, the first message in any case; the others come with the commit's outcome."""


class Missing(Exception):
    """A message was consumed by somebody else meanwhile: what was loaded is out of date."""


async def complete_outcomes(connection: Connection, part: Partial, outcomes: list[Outcome]) -> list[Outcome]:
    if not part.unread:
        return outcomes
    completed: list[Outcome] = []
    for outcome in outcomes:
        if outcome.turn is not None:
            (turn,) = await complete_turns(connection, part, (outcome.turn,))
            completed.append(replace(outcome, turn=turn))
        elif outcome.messages:
            messages, more = await _complete(connection, part, outcome.messages, outcome.more)
            completed.append(replace(outcome, messages=messages, more=more))
        else:
            completed.append(outcome)
    return completed


async def complete_turns(connection: Connection, part: Partial, turns: Sequence[ClaimedTurn]) -> tuple[ClaimedTurn, ...]:
    if not part.unread:
        return tuple(turns)
    completed: list[ClaimedTurn] = []
    for turn in turns:
        messages, more = await _complete(connection, part, turn.messages, turn.more)
        completed.append(replace(turn, messages=messages, more=more))
    return tuple(completed)


async def _complete(connection: Connection, part: Partial, messages: tuple[Message, ...], more: bool) -> tuple[tuple[Message, ...], bool]:
    """The messages with their payloads, as many as fit."""
    taken: list[Message] = []
    fetch: dict[tuple[int, bytes], int] = {}
    size = 0
    for message in messages:
        # An empty payload: a message of the same id may have taken the stored one's place in this very batch.
        length = part.unread.get((message.target, message.id)) if message.payload == b"" else None
        size += len(message.payload) if length is None else length
        if taken and size > _BYTES_PER_TURN and not message.control:
            more = True
            continue
        if length is not None:
            fetch[part.keys[message.target], message.id.encode()] = len(taken)
        taken.append(message)
    found: list[Any] = []
    if fetch:
        found = await connection.fetch(query("load_payloads"), [key for key, _ in fetch], [id for _, id in fetch])
    if len(found) < len(fetch):
        raise Missing
    for key, id, payload in found:
        index = fetch[key, id]
        taken[index] = replace(taken[index], payload=payload)
    return tuple(taken), more
