"""What the suite tests, each property under the number and name that a failing test shows."""

from __future__ import annotations

import enum

import pytest

__all__ = ["Property", "proves", "requires"]


class Property(enum.Enum):
    """The promises of ``durable_core.backend``, one by one."""

    FENCE = (1, "a commit with a stale epoch or version changes nothing at all")
    HISTORY = (2, "history is the concatenation of accepted commits: dense, immutable, in order")
    CONSERVATION = (3, "every accepted message is in the inbox, consumed exactly once, or dropped for a stated reason")
    LEASE = (4, "at most one current lease a key")
    ATOMICITY = (5, "after a crash at any point, all of a turn is visible or none of it")
    BATCHING = (6, "how turns are batched or split does not change the final state")
    RETRY = (7, "submitting a command again is a no-op")
    TIMERS = (8, "timers: never early, at most once, never after a commit that cancelled them")
    PROGRESS = (9, "nothing blocks others; nothing due is passed over; a held instance still receives its inbox")
    ORDER = (10, "order is kept per (sender, target)")
    GENERATIONS = (11, "nothing is lost across continue-as-new")
    PURGE = (12, "nothing survives a purge, and nothing resurrects")
    ATTEMPTS = (13, "the attempt number is the number of counted claims since the last accepted commit")
    QUERY = (14, "a paged query equals the filter; what matches throughout is returned exactly once")
    BYTES = (15, "arbitrary bytes, ids and sizes survive")
    DEAF = (16, "progress needs no wake-up")

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text


def proves(*properties: Property) -> pytest.MarkDecorator:
    """Which properties a test is evidence for."""
    return pytest.mark.durable_property(*properties)


def requires(*names: str) -> pytest.MarkDecorator:
    """Capabilities of the store, or features of its harness, without which a test makes no sense."""
    return pytest.mark.durable_requires(*names)
