"""What a request does, by the names that this package counts them under, and what it costs.

The prices are list prices of a general-purpose account (US$ a million, 2026, locally redundant, hot), to reckon with and to compare by; an
invoice has its own. A refused request is billed like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

__all__ = ["READS", "WRITES", "dollars", "operation_of"]

WRITES = frozenset({"append", "create log", "put", "put block", "put blocks", "list", "create container", "unanswered"})
"""And what nobody knows: an "unanswered" request."""
READS = frozenset({"read", "ask"})
_WRITE_DOLLARS = 5.5e-6
_READ_DOLLARS = 0.44e-6
_PARTS = {"appendblock": "append", "block": "put block", "blocklist": "put blocks", "list": "list", "properties": "ask"}


def operation_of(method: str, url: str, headers: Mapping[str, str]) -> str:
    """``headers`` by lower-case names. Deleting is free, whatever is not in ``WRITES`` or ``READS``."""
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    part = _PARTS.get(query.get("comp", [""])[0])
    if part is not None:
        return part
    if method == "PUT":
        kind = headers.get("x-ms-blob-type")
        return "create container" if kind is None else "create log" if kind == "AppendBlob" else "put"
    if method == "GET":
        return "ask" if "restype" in query else "read"
    return {"HEAD": "ask", "DELETE": "delete"}.get(method, method.lower())


def dollars(operations: Mapping[str, int]) -> float:
    writes = sum(count for name, count in operations.items() if name in WRITES)
    reads = sum(count for name, count in operations.items() if name in READS)
    return writes * _WRITE_DOLLARS + reads * _READ_DOLLARS
