"""What the suite tests, each property under the number and name that a failing test shows.

The name comes from the failing assertion: a test ``proves`` one property, and where some of its assertions are about another one
they stand in a ``with proving(...)`` of their own. The innermost block that a failure leaves is what it breaks.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["Property", "broken_by", "entered", "proves", "proving", "refuses", "requires"]


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
    ATTEMPTS = (
        13,
        "the attempt number is the number of counted claims since the last accepted commit; that of a task, of its counted leases",
    )
    QUERY = (14, "a paged query equals the filter; what matches throughout is returned exactly once")
    BYTES = (15, "arbitrary bytes, ids and sizes survive")
    DEAF = (16, "progress needs no wake-up")

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text


entered: set[Property] = set()
"""What the running test has been about so far; whoever runs tests empties it."""

_NOTE = re.compile(r"property \d+, ([A-Z]+): ")


@contextmanager
def proving(property: Property, *, evidence: bool = True) -> Iterator[None]:
    """A failure inside is a breach of this property, unless it is already one of another. Without ``evidence`` a success says little:
    what is checked on the way to something else."""
    if evidence:
        entered.add(property)
    try:
        yield
    except BaseException as error:
        if broken_by(error) is None and not isinstance(error, KeyboardInterrupt):
            error.add_note(f"property {property.number}, {property.name}: {property.text}")
        raise


def broken_by(error: BaseException | None) -> Property | None:
    """Which property a failure is a breach of. A timeout says what the cancelled code was about, a group what its first member was."""
    if error is None:
        return None
    for note in getattr(error, "__notes__", ()):
        found = _NOTE.match(note)
        if found is not None:
            return Property[found[1]]
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__,)
    return next(filter(None, map(broken_by, members)), None)


def proves(property: Property) -> pytest.MarkDecorator:
    """What a test is evidence for, where its assertions do not say otherwise."""
    return pytest.mark.durable_property(property)


def requires(*names: str) -> pytest.MarkDecorator:
    """Capabilities of the store, or features of its harness, without which a test makes no sense."""
    return pytest.mark.durable_requires(*names)


def refuses(name: str) -> pytest.MarkDecorator:
    """The test is for stores that do *not* declare this capability: what they do not promise, they must not half do."""
    return pytest.mark.durable_refuses(name)
