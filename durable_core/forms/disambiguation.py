"""Which class of a union a JSON object is of.

cattrs knows how: by a common field whose Literals differ, else by required fields that only one of them has. It looks
at annotations as they are written, though, which are strings in many modules, and at attrs classes and dataclasses
only; so it is shown *shadows* of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_origin

import attrs

from durable_core.forms.form import Fault, Form, expected
from durable_core.forms.hints import field_hints, plain
from durable_core.forms.records import fields_of

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["tell_apart"]


def tell_apart(records: list[Form], lookup: Callable[[Any], Form], converter: Converter) -> Callable[[Any], Any]:
    """A decoder for objects that are one of ``records``."""
    from cattrs.disambiguators import create_default_dis_func

    shadows: dict[Any, Form] = {_shadow(record.record, lookup): record for record in records}
    class_of: Callable[[Any], Any] = shadows.__getitem__
    try:
        class_of = create_default_dis_func(converter, *shadows)
        sound = all(class_of(sample) is shadow for shadow in shadows for sample in _samples(shadow))
    except TypeError:
        sound = False
    if not sound:
        raise Fault(
            f"{' and '.join(record.name for record in records)} cannot be told apart: give them a common field with different Literals"
        )

    def decode(native: Any) -> Any:
        try:
            record = shadows[class_of(native)]
        except (KeyError, TypeError, ValueError):
            raise expected(" | ".join(record.name for record in records), native) from None
        return record.decode(native)

    return decode


def _shadow(hint: Any, lookup: Callable[[Any], Form]) -> Any:
    """A class with the same fields, their hints resolved and their Literals as they are in JSON."""
    fields: dict[str, Any] = {}
    hints = field_hints(hint)
    for field in fields_of(get_origin(hint) or hint, hints):
        meant = plain(hints.get(field.name, Any))
        choices = lookup(meant).choices if get_origin(meant) is Literal else None
        kind: Any = Literal[choices] if choices else Any
        fields[field.name] = attrs.field(type=kind, default=attrs.NOTHING if field.required else None)
    return attrs.make_class("Shadow", fields, kw_only=True)


def _samples(shadow: Any) -> Iterator[dict[str, Any]]:
    """Objects such as instances of the class become, with each value of each Literal."""
    choices = {field.name: getattr(field.type, "__args__", (None,)) for field in attrs.fields(shadow)}
    usual = {name: values[0] for name, values in choices.items()}
    yield usual
    yield from (usual | {name: value} for name, values in choices.items() for value in values)
