"""Ids and random numbers that are the same on every replay: derived from the execution id, never drawn."""

from __future__ import annotations

import hashlib
import random
from uuid import NAMESPACE_OID, UUID, uuid5


def derived_uuid(instance_id: str, execution_id: str, counter: int) -> UUID:
    return uuid5(NAMESPACE_OID, f"{instance_id}\x1f{execution_id}\x1f{counter}")


def seeded_random(execution_id: str) -> random.Random:
    return random.Random(execution_id)


def hash_salt(execution_id: str) -> int:
    """60 bits, the low ones included: a set looks at those first, and thousands of executions share asyncio's set of all tasks."""
    return int.from_bytes(hashlib.blake2b(execution_id.encode(), digest_size=8).digest()) >> 4
