"""What one append consists of.

    magic "dlf1" | kind u8 | length u32 | number u64 | nonce 16 bytes | checksum u32 | body

``number`` counts the hub's appends, whatever log they are in. The checksum covers the frame and the checksum of the one before it, across
logs too, so that a frame that is lost, doubled or out of place is found as surely as a flipped byte. The nonce is fresh for each attempt to
append something new: bytes that are read back are ours only if we wrote them.

An append is written as a whole or not at all, so a bad frame is never a torn one: it is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum

from attrs import frozen

from durable_core.errors import StoreFormatError, StoreVersionError

__all__ = ["Frame", "FrameKind", "Tip", "read_frames", "write_frame"]

_MAGIC = b"dlf"
_VERSION = b"1"
_HEAD = struct.Struct(">4sBIQ16sI")
HEAD_BYTES = _HEAD.size


class FrameKind(IntEnum):
    EFFECTS = 1
    """The body is what was decided."""
    SPILLED = 2
    """The body is the name of the blob that holds it, and its checksum: it was too large for an append."""
    ROLLED = 3
    """The log ends here; the next one goes on."""
    RESERVED = 4
    """Whoever wrote this has lost too often: the others are asked to let it write next."""


_KINDS = frozenset(int(kind) for kind in FrameKind)


@frozen
class Tip:
    """The end of what a reader has read: the number and the checksum of the last frame."""

    number: int = 0
    checksum: int = 0


@frozen
class Frame:
    kind: FrameKind
    body: bytes
    size: int
    tip: Tip


def write_frame(tip: Tip, kind: FrameKind, body: bytes, nonce: bytes) -> bytes:
    """The frame that follows ``tip``."""
    head = _HEAD.pack(_MAGIC + _VERSION, kind, len(body), tip.number + 1, nonce, 0)[:-4]
    return head + _checksum(tip, head, body).to_bytes(4) + body


def read_frames(tip: Tip, data: bytes, where: str, position: int) -> Iterator[Frame]:
    """The frames of ``data``, which begins at ``position`` of a log and ends with a frame. Raises ``StoreFormatError`` at the first that is
    damaged."""
    at = 0
    while at < len(data):
        frame = _read_frame(tip, data, at)
        if isinstance(frame, str):
            raise StoreFormatError(
                f"{where} is damaged at byte {position + at}: {frame}. Nothing was skipped: stop all workers, and restore the container "
                "from a backup, or save what is sound: python -m durable_azure recover"
            )
        yield frame
        at += frame.size
        tip = frame.tip


def _read_frame(tip: Tip, data: bytes, at: int) -> Frame | str:
    if len(data) - at < HEAD_BYTES:
        return "it ends in the middle of a frame"
    magic, kind, length, number, _, checksum = _HEAD.unpack_from(data, at)
    if magic[:3] == _MAGIC and magic[3:] > _VERSION and magic[3:].isdigit():
        raise StoreVersionError("the log was written by a newer version of durable-core: upgrade this program")
    if magic != _MAGIC + _VERSION:
        return "no frame begins here"
    body = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
    if len(body) < length:
        return "it ends in the middle of a frame"
    if _checksum(tip, data[at : at + HEAD_BYTES - 4], body) != checksum:
        return "a checksum is wrong"
    if number != tip.number + 1:
        return f"frame {tip.number + 1} is missing"
    if kind not in _KINDS:
        raise StoreVersionError("the log holds a frame of a newer version of durable-core: upgrade this program")
    return Frame(FrameKind(kind), body, HEAD_BYTES + length, Tip(number, checksum))


def _checksum(tip: Tip, head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(head, tip.checksum))
