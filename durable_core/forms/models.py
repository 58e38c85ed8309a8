"""Pydantic models, by pydantic's own rules in strict mode. Nothing here imports pydantic: a model's program has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from durable_core.forms.form import ALL_KINDS, Fault, Form, expected
from durable_core.forms.hints import hint_name

__all__ = ["is_model", "model_form"]


def is_model(cls: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(cls, type) and issubclass(cls, pydantic.BaseModel)


def model_form(cls: Any, encode_any: Callable[[Any], Any]) -> Form:
    name = hint_name(cls)
    dump = msgspec.json.Encoder().encode

    def encode(value: Any) -> Any:
        if type(value) is not cls and (not isinstance(value, cls) or type(value).model_fields.keys() != cls.model_fields.keys()):
            raise expected(name, value)
        try:
            return encode_any(value.model_dump(mode="json", by_alias=True))  # encode_any: a NaN becomes no null
        except ValueError as error:
            raise Fault(f"{name} cannot be dumped: {error}") from error

    def decode(native: Any) -> Any:
        try:
            return cls.model_validate_json(dump(native), strict=True)
        except ValueError as error:
            raise _located(name, error) from error

    root = issubclass(cls, sys.modules["pydantic"].RootModel)
    return Form(name, encode, decode, ALL_KINDS if root else frozenset({"dict"}), (cls,))


def _located(name: str, error: Any) -> Fault:
    """A ``pydantic.ValidationError`` as a fault at its first place."""
    first = error.errors(include_url=False)[0]
    fault = Fault(f"{name}: {first['msg']}")
    for step in reversed(first["loc"]):
        fault.at(f".{step}" if isinstance(step, str) else f"[{step}]")
    return fault
