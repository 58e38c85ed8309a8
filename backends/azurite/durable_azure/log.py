"""The shared log: append blobs ``log/0000000001``, ``log/0000000002``, …, one after the other.

Each handle has its own place in it: everything before was read (or written) by this handle. An append succeeds only if the log ends at that
place, so whoever succeeds has read everything that was there. A log that has become long ends with a frame that says so, written like any
other: exactly one handle ends it, everybody reads that, and nobody appends to the next one before.

*Turns.* A large append takes longer than a small one, so among handles that write small things all the time it would lose for ever. Who has lost
too often reserves the next turn, by a frame that says so: it is small. Nobody can write without having read it; who has read it waits until
something else was written, or for a moment. That is courtesy alone: the fence is the position.

*Unknown outcome.* A request may be carried out though its answer was lost, and so may one that was sent twice. Sent again at the same position, it
is refused; then what stands there tells: our bytes (the nonce is ours alone), or somebody else's. An append that nobody waits for any more
may still arrive late. It then is a frame like any other: read, absorbed, and what was submitted again is recognised by the hub's rules.
"""

from __future__ import annotations

import zlib
from copy import copy
from uuid import uuid4

from attrs import define, field

from durable_azure.blobs import Blobs
from durable_azure.errors import BlobMissing
from durable_azure.frames import Frame, FrameKind, Tip, read_frames, write_frame
from durable_core.errors import StoreFormatError

__all__ = ["FIRST_LOG", "Log", "Place", "body_name", "log_name", "number_of"]

FIRST_LOG = 1
_APPEND_BYTES_MAX = 4 << 20
_FRAMES_MAX = 20_000
"""The service allows 50,000 appends a blob."""


def log_name(number: int) -> str:
    return f"log/{number:010d}"


def body_name(number: int, nonce: str) -> str:
    return f"body/{number:010d}-{nonce}"


def number_of(name: str) -> int:
    """Which log a blob belongs to."""
    return int(name.partition("/")[2][:10])


@define
class Place:
    """How far a handle has read: ``position`` bytes and ``frames`` of log ``number``. ``reserved``: the last one asks to let its writer write."""

    number: int = FIRST_LOG
    position: int = 0
    frames: int = 0
    tip: Tip = field(factory=Tip)
    reserved: bool = False

    def pass_(self, frame: Frame) -> None:
        self.position += frame.size
        self.frames += 1
        self.tip = frame.tip
        self.reserved = frame.kind is FrameKind.RESERVED

    def turned_over(self) -> Place:
        """The beginning of the next log."""
        return Place(self.number + 1, tip=self.tip)


@define
class Log:
    """One handle's view. Not reentrant: one call at a time. Raises ``BlobMissing`` if the log at its place is gone: others have gone on to a
    later one, or somebody has deleted it."""

    blobs: Blobs
    place: Place
    roll_bytes: int

    @property
    def is_long(self) -> bool:
        return self._share >= 1

    @property
    def is_too_long(self) -> bool:
        """It should have begun anew by now."""
        return self._share >= 2

    @property
    def _share(self) -> float:
        return max(self.place.position / self.roll_bytes, self.place.frames / _FRAMES_MAX)

    async def append(self, body: bytes) -> bool:
        """Write what was decided. False: somebody else has written; read it first."""
        nonce = uuid4()
        kind = FrameKind.EFFECTS
        if len(body) > _APPEND_BYTES_MAX - 1_000:
            kind, name = FrameKind.SPILLED, body_name(self.place.number, nonce.hex)
            await self.blobs.put_new(name, body)
            body = b"%s %08x" % (name.encode(), zlib.crc32(body))
        return await self._append(write_frame(self.place.tip, kind, body, nonce.bytes))

    async def reserve(self) -> bool:
        """Ask all others to hold back; False: somebody else has written."""
        if not await self._append(write_frame(self.place.tip, FrameKind.RESERVED, b"", uuid4().bytes)):
            return False
        self.place.reserved = False  # for oneself
        return True

    async def roll(self) -> bool:
        """End this log, and stand at the beginning of the next. False: somebody else has written."""
        after = log_name(self.place.number + 1)
        if not await self.blobs.create_log(after):
            await self.blobs.read(after)  # that it is there has to be true: to end this log without it would end the hub
        if not await self._append(write_frame(self.place.tip, FrameKind.ROLLED, b"", uuid4().bytes)):
            return False
        self.place = self.place.turned_over()
        return True

    async def read(self) -> tuple[list[bytes], Place]:
        """The bodies that others have written since, in order, and where they end: this handle's place when it has made them its own.
        (Until then it stays where it is: what fails half-way is read again.)"""
        bodies: list[bytes] = []
        place = copy(self.place)
        while True:
            number, name = place.number, log_name(place.number)
            data = await self.blobs.read(name, place.position)
            if data is None:
                raise StoreFormatError(
                    f"{self._where(name)} is shorter than it was: somebody has written it anew. Stop all workers, and restore the container "
                    "from a backup"
                )
            for frame in read_frames(place.tip, data, self._where(name), place.position):
                place.pass_(frame)
                if frame.kind is FrameKind.ROLLED:
                    place = place.turned_over()
                elif frame.kind is not FrameKind.RESERVED:
                    bodies.append(await self.body(frame, number))
            if place.number == number:
                return bodies, place

    async def _append(self, data: bytes) -> bool:
        place = self.place
        (frame,) = read_frames(place.tip, data, "a frame to be written", place.position)
        if not await self.blobs.append(log_name(place.number), place.position, data):
            there = await self.blobs.read(log_name(place.number), place.position)
            if there is None or not there.startswith(data):
                return False
        place.pass_(frame)
        return True

    async def body(self, frame: Frame, number: int) -> bytes:
        """Of a frame of log ``number``."""
        if frame.kind is not FrameKind.SPILLED:
            return frame.body
        name, _, checksum = frame.body.decode().partition(" ")
        stored = await self.blobs.get(name)
        if stored is not None and f"{zlib.crc32(stored.data):08x}" == checksum:
            return stored.data
        if stored is None and await self.blobs.get(log_name(number)) is None:
            raise BlobMissing(name)
        what = "missing" if stored is None else "damaged"
        raise StoreFormatError(
            f"{self._where(name)} is {what}, which the log refers to: restore it from a backup, or save what is sound: python -m durable_azure recover"
        )

    def _where(self, name: str) -> str:
        return f"{name} of {self.blobs.options.where}"
