"""What is kept of an exception when its process is gone: exception -> ``FailureDetails``.

Nothing in here may fail: ``__str__`` and attributes of user exceptions are called with care, texts are made storable
and cut to a size.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from durable_core.errors import FailureDetails, TaskFailedError, qualified_name

_DEPTH_MAX = 10
_MEMBERS_MAX = 100
_NOTES_MAX = 20
_FRAMES_MAX = 50
_TEXT_CHARS_MAX = 16_384
_CHARS_MAX = 262_144
_CHARS_MIN = 200
"""Of each text, when there are so many that ``_CHARS_MAX`` is used up."""
_ENGINE = __file__.removesuffix("failures.py")  # the package's directory, as its code objects spell it


def describe(exception: BaseException) -> FailureDetails:
    """The failure, its causes (``__cause__``, else ``__context__``; at most ten deep, cycles cut) and the members of
    groups (at most 100 in all).

    The details that a ``TaskFailedError`` brings from elsewhere become its cause. Of an exception's own attributes
    two count: ``non_retriable`` (true: no policy retries it) and ``failure_properties`` (a mapping of strings, or a
    method that returns one).
    """
    if isinstance(exception, DescribedElsewhere):
        return exception.details
    return _Description().of(exception, _DEPTH_MAX, frozenset())


class DescribedElsewhere(Exception):
    """A failure in another process, which has described it."""

    def __init__(self, details: FailureDetails) -> None:
        super().__init__(details)
        self.details = details


class _Description:
    """One call of ``describe``: members and characters are counted over the whole tree, or nested groups would multiply."""

    def __init__(self) -> None:
        self._members_left = iter(range(_MEMBERS_MAX))
        self._chars_left = _CHARS_MAX

    def of(self, exception: BaseException, depth: int, above: frozenset[int]) -> FailureDetails:
        above |= {id(exception)}
        parts = exception.exceptions if isinstance(exception, BaseExceptionGroup) else ()
        described = zip(parts if depth > 1 else (), self._members_left, strict=False)
        return FailureDetails(
            type=qualified_name(type(exception)),
            message=_safely(lambda: self._text(str(exception)), "(its __str__ failed)"),
            stack=_safely(lambda: self._text(_stack(exception)), ""),
            members=tuple(self.of(part, depth - 1, above) for part, _ in described),
            inner=self._inner(exception, depth - 1, above),
            properties=_safely(lambda: self._properties(exception), {}),
            non_retriable=_safely(lambda: bool(getattr(exception, "non_retriable", False)), False),
            member_count=len(parts),
            notes=_safely(lambda: tuple(self._text(str(note)) for note in exception.__notes__[:_NOTES_MAX]), ()),
        )

    def _inner(self, exception: BaseException, depth: int, above: frozenset[int]) -> FailureDetails | None:
        if isinstance(exception, TaskFailedError):
            return _cut(exception.details, depth)
        cause = exception.__cause__ if exception.__suppress_context__ else exception.__context__
        return None if cause is None or depth <= 0 or id(cause) in above else self.of(cause, depth, above)

    def _properties(self, exception: BaseException) -> dict[str, str]:
        offered: Any = getattr(exception, "failure_properties", None)
        offered = offered() if callable(offered) else offered
        return {self._text(str(key)): self._text(str(value)) for key, value in offered.items()} if isinstance(offered, Mapping) else {}

    def _text(self, text: str) -> str:
        """Without lone surrogates (file names have them), which no store takes, and of bounded length."""
        storable = text.encode("utf-8", "backslashreplace").decode("utf-8")
        allowed = max(_CHARS_MIN, min(_TEXT_CHARS_MAX, self._chars_left))
        self._chars_left -= len(storable[:allowed])
        return storable if len(storable) <= allowed else f"{storable[:allowed]}… ({len(storable) - allowed} more characters)"


def _cut(details: FailureDetails, depth: int) -> FailureDetails | None:
    """At most ``depth`` levels of a failure that came from elsewhere, and may be ten deep itself."""
    if depth <= 0:
        return None
    inner = details.inner and _cut(details.inner, depth - 1)
    return replace(details, inner=inner, members=tuple(cut for member in details.members if (cut := _cut(member, depth - 1))))


def _stack(exception: BaseException) -> str:
    """The innermost frames, without those of durable-core."""
    frames = [entry for entry in traceback.walk_tb(exception.__traceback__) if not entry[0].f_code.co_filename.startswith(_ENGINE)]
    return "".join(traceback.StackSummary.extract(iter(frames[-_FRAMES_MAX:])).format())


def _safely(make: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return make()
    except Exception:
        return otherwise
