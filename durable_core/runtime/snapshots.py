"""An entity's stored state: attribute name → text, as JSON."""

from __future__ import annotations

import msgspec


class EntitySnapshot(msgspec.Struct, omit_defaults=True):
    """``state`` None: the entity has no state (never used, or deleted)."""

    state: dict[str, str] | None = None


def encode_snapshot(snapshot: EntitySnapshot) -> bytes:
    return msgspec.json.encode(snapshot)


def decode_snapshot(data: bytes | None) -> EntitySnapshot:
    return msgspec.json.decode(data, type=EntitySnapshot) if data else EntitySnapshot()
