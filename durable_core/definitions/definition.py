"""What activities, orchestrators and entity operations have in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

from durable_core.errors import RegistrationError
from durable_core.ids import check_text
from durable_core.parameters import callable_hints

P = ParamSpec("P")
R = TypeVar("R")


class Definition:
    """A function under the name that a history remembers."""

    kind: ClassVar[str]
    skip: int
    """How many parameters the engine passes itself (``self``, ``ctx``)."""

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        functools.update_wrapper(self, fn, updated=())  # type: ignore[arg-type]
        self.__name__ = name
        self.fn = fn
        self.name = name
        self.what = f"{self.kind} {name!r}"
        self.is_async = inspect.iscoroutinefunction(fn)

    def __repr__(self) -> str:
        return f"<{self.what}>"

    def _with(self, **options: Any) -> Self:
        copy: Self = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update({name: value for name, value in options.items() if value})
        return copy


def takes_context(fn: Callable[..., Any], context: type, position: int = 0) -> bool:
    """Whether the parameter in this position is annotated with the class ``context``: as itself, as a text that means it, or, if the text
    means nothing at run time (imported under TYPE_CHECKING), as one that ends in its name."""
    parameters = list(inspect.signature(fn).parameters.values())[position : position + 1]
    try:
        return [callable_hints(fn, {each.name}).get(each.name) for each in parameters] == [context]
    except Exception:
        return str(parameters[0].annotation).rpartition(".")[2] == context.__name__


def refuse_options(kind: str, decorated: Any, unknown: Iterable[str], *known: str) -> None:
    """What a decorator was given and does not have."""
    if unknown := list(unknown):
        raise RegistrationError(f"@{kind} has no option {', '.join(map(repr, unknown))}; it has: {', '.join(known)}")
    if isinstance(decorated, str):
        raise RegistrationError(f"@{kind} takes its name by keyword; write: @{kind}(name={decorated!r})")


def checked_name(fn: Any, name: str | None, kind: str, how: str) -> str:
    """The name to register ``fn`` under."""
    if isinstance(fn, Definition):
        raise RegistrationError(f"{fn!r} is an {fn.kind} already")
    if name is not None:
        try:
            return check_text(name, f"the name of an {kind}")
        except (TypeError, ValueError) as error:
            raise RegistrationError(str(error)) from None
    name = getattr(fn, "__name__", "")
    if not name or name == "<lambda>":
        raise RegistrationError(f"an {kind} needs a name that stays the same after a restart: {how}, or pass name=...")
    return name
