"""A new beginning: the hub at the end of a log, written down, so that a reader needs nothing that is older.

Order makes every step repeatable: the next log exists, then the old one ends, then the snapshot is there, then ``hub.json`` names it, and only
then older blobs are removed. Dying in between leaves a longer log to read and blobs that a later round removes. A handle that is too slow and
finds its log gone begins anew at ``hub.json``. The last beginning but one is kept for those.

The file is the log's: frames of effects, chained, so that one check finds damage in either. The last frame says where it belongs, so that a
lost ``hub.json`` can be made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from uuid import uuid4

from msgspec.structs import replace

from durable_azure import manifest as manifests
from durable_azure.blobs import Blobs
from durable_azure.codec import decode_body, encode_body, encode_effects
from durable_azure.errors import BlobMissing
from durable_azure.frames import FrameKind, Tip, read_frames, write_frame
from durable_azure.log import Log, Place, number_of
from durable_azure.manifest import Manifest
from durable_azure.replica import News, Replica
from durable_core.backend import Capabilities
from durable_core.errors import StoreFormatError
from durable_core.hub import effects as fx

__all__ = ["begin_anew", "encode_snapshot", "load_snapshot", "restore", "snapshot_name"]

_EFFECTS_PER_FRAME = 1_000
_TRIES = 5


async def restore(blobs: Blobs, limits: Capabilities, roll_bytes: int) -> tuple[Replica, Log]:
    """The hub as ``hub.json``, its snapshot and the log say. Raises ``StoreFormatError`` if something is missing or damaged."""
    missing: BlobMissing | None = None
    for _ in range(_TRIES):
        manifest, _ = await manifests.load(blobs)
        replica = Replica(limits)
        try:
            await load_snapshot(blobs, manifest.snapshot, replica)
            log = Log(blobs, Place(manifest.log, tip=Tip(manifest.number, manifest.log_checksum)), roll_bytes)
            bodies, log.place = await log.read()
            for body in bodies:
                replica.absorb(decode_body(body, blobs.options.where), News())
            return replica, log
        except BlobMissing as error:
            missing = error
            if (await manifests.load(blobs))[0] == manifest:
                break  # nobody has moved on meanwhile: it is really missing
    raise StoreFormatError(
        f"a log or snapshot of {blobs.options.where} is missing that {manifests.MANIFEST} needs. Somebody has deleted it: stop all workers, and restore "
        "it (soft delete keeps it) or the whole container from a backup"
    ) from missing


async def encode_snapshot(beginning: Manifest, effects: Iterable[fx.Effect]) -> bytes:
    """In a thread: it may take a while."""
    return await asyncio.to_thread(_encode, beginning, effects)


async def begin_anew(blobs: Blobs, beginning: Manifest, data: bytes) -> bool:
    """Make a snapshot the hub's beginning. False: somebody else has made a later one. May be repeated if it fails."""
    name = snapshot_name(beginning.log)
    await blobs.put_new(name, data)
    manifest = replace(beginning, snapshot=name)
    replaced = await manifests.store(blobs, manifest)
    if replaced is None:
        await blobs.delete(name)
        return False
    for prefix in ("log/", "body/", "snapshot/"):
        for old in await blobs.names(prefix):
            if number_of(old) < replaced.log:
                await blobs.delete(old)
    return True


def snapshot_name(log: int) -> str:
    return f"snapshot/{log:010d}-{uuid4().hex}"


async def load_snapshot(blobs: Blobs, name: str | None, replica: Replica) -> Manifest | None:
    """Absorb it; where it says that it belongs. None is the snapshot of an empty hub."""
    if name is None:
        return None
    stored = await blobs.get(name)
    if stored is None:
        raise BlobMissing(name)
    where = f"{name} of {blobs.options.where}"
    frames = list(read_frames(Tip(), stored.data, where, 0))
    if not frames or frames[-1].kind is not FrameKind.ROLLED:
        raise StoreFormatError(f"{where} is not whole. Restore it from a backup")
    for frame in frames[:-1]:
        replica.absorb(decode_body(frame.body, where), News())
    return manifests.decode(frames[-1].body, where)


def _encode(beginning: Manifest, effects: Iterable[fx.Effect]) -> bytes:
    rest, tip, frames = iter(effects), Tip(), list[bytes]()
    while part := list(islice(rest, _EFFECTS_PER_FRAME)):
        frames.append(write_frame(tip, FrameKind.EFFECTS, encode_body([encode_effects(part)]), bytes(16)))
        tip = next(read_frames(tip, frames[-1], "a snapshot", 0)).tip
    return b"".join((*frames, write_frame(tip, FrameKind.ROLLED, manifests.encode(beginning), bytes(16))))
