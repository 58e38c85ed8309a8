"""Where ids come from that nobody chose. A simulation puts another source in its place, so that a run can be repeated from a seed."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from uuid import uuid4

ids: ContextVar[Callable[[], str]] = ContextVar("ids", default=lambda: uuid4().hex)


def fresh_id() -> str:
    """One that has never been before."""
    return ids.get()()
