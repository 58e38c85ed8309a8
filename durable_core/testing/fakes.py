"""Fake activities: what an engine knows, with some of its activities replaced.

A fake is called with decoded arguments, and its result is encoded as that of the activity it replaces: what could not travel for real
cannot for a fake either. It runs on the event loop, also in place of an activity that has a thread or a process, so that tests need no
locks and repeat exactly.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import NonCallableMock

from durable_core.definitions.activity import Activity, ActivityContext
from durable_core.definitions.definition import takes_context
from durable_core.definitions.registry import Callee, Registry
from durable_core.errors import NotRegisteredError, RegistrationError


class _Fake(Activity[..., Any]):
    """The original's name, signature and options."""

    def __init__(self, original: Activity[..., Any], fake: Callable[..., Any]) -> None:
        self.__dict__.update(original.__dict__, is_async=True, takes_context=True)
        self._skip = original.skip
        self._fake = fake
        self._wants_context = _wants_context(fake)

    @property
    def skip(self) -> int:  # type: ignore[override]
        return self._skip

    async def __call__(self, context: ActivityContext, *args: Any) -> Any:
        result = self._fake(context, *args) if self._wants_context else self._fake(*args)
        return await result if inspect.isawaitable(result) else result


def with_fakes(registry: Registry, fakes: Mapping[Any, Any]) -> Registry:
    """A copy. Keys are activities, the functions they decorate, or names. Raises ``NotRegisteredError`` for an activity that is not there,
    ``RegistrationError`` for a fake that cannot be called as the activity is."""
    faked = copy.copy(registry)
    faked.activities = dict(registry.activities)
    for key, fake in fakes.items():
        original = registry.activity(key)
        if not original.known:
            known = ", ".join(sorted(registry.activities)) or "none"
            raise NotRegisteredError(f"there is no activity {key!r} to be replaced by a fake; this engine has: {known}")
        _check(original, fake)
        faked.activities[original.name] = Callee(_Fake(original.definition, fake), registry.converter)
    return faked


def _check(original: Callee[Activity[..., Any]], fake: Any) -> None:
    """It must take what the original takes, with and without the optional ones; names do not matter, since arguments travel by position."""
    what = f"the fake for activity {original.name!r}"
    if not callable(fake):
        raise RegistrationError(f"{what} must be a function, got {fake!r}; write: lambda *args: {fake!r}")
    if isinstance(fake, NonCallableMock):
        return  # takes anything
    signature = inspect.signature(original.fn)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_POSITIONAL][original.definition.skip :]
    required = sum(each.default is each.empty for each in parameters)
    context = [None] * _wants_context(fake)
    try:
        for count in {required, len(parameters)}:
            inspect.signature(fake).bind(*context, *[None] * count)
    except TypeError as error:
        raise RegistrationError(f"{what} must take its arguments, {signature}: {error}") from None


def _wants_context(fake: Any) -> bool:
    """Not a mock, whose signature early patch releases of Python 3.11 cannot tell."""
    return not isinstance(fake, NonCallableMock) and takes_context(fake, ActivityContext)
