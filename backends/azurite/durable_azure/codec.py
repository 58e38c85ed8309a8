"""Effects as bytes: msgpack, each effect under the name of its class.

A log lives long, so the rule is that of history events: a field with a default may be added at any time, any other change is a new class. An
effect that this version does not know means that a newer one writes here.

A body is a list of lists, one a command: each is encoded when it is decided, so that what cannot be encoded (a text that is no Unicode)
is that command's fault alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Union

import msgspec

from durable_core.errors import StoreFormatError, StoreVersionError, UsageError
from durable_core.hub import effects as fx

__all__ = ["decode_body", "encode_body", "encode_effects"]

_KINDS = tuple(kind for kind in vars(fx).values() if isinstance(kind, type) and issubclass(kind, fx.Effect) and kind is not fx.Effect)
_any_effect: Any = Union[_KINDS]  # noqa: UP007  # of a tuple
_dump = msgspec.msgpack.Encoder().encode
_load = msgspec.msgpack.Decoder(list[list[_any_effect]]).decode


def encode_effects(effects: Sequence[fx.Effect]) -> bytes:
    """Raises ``UsageError`` for a text or a number that cannot be stored."""
    try:
        return _dump(effects)
    except (UnicodeEncodeError, OverflowError) as error:
        raise UsageError(f"a command holds what cannot be stored: {error}") from error


def encode_body(commands: Iterable[bytes]) -> bytes:
    return _dump([msgspec.Raw(encoded) for encoded in commands])


def decode_body(body: bytes, where: str) -> list[fx.Effect]:
    """All effects, in order."""
    try:
        return [effect for command in _load(body) for effect in command]
    except msgspec.ValidationError as error:
        if "type" in str(error) and "Invalid value" in str(error):
            raise StoreVersionError(
                f"{where} holds an effect of a newer version of durable-core ({error}): upgrade this program"
            ) from error
        raise StoreFormatError(f"{where} holds effects that cannot be read: {error}. Restore the container from a backup") from error
    except msgspec.DecodeError as error:
        raise StoreFormatError(f"{where} holds effects that cannot be read: {error}. Restore the container from a backup") from error
