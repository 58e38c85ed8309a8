"""A new beginning: the hub at the end of a log, written down, so that a reader needs nothing that is older.

Order makes every step repeatable: the next log exists, then the old one ends, then the snapshot is there, then ``hub.json`` names it, and only
then older blobs are removed. Dying in between leaves a longer log to read and blobs that a later round removes. A handle that is too slow and
finds its log gone begins anew at ``hub.json``. The last beginning but one is kept for those.

The file is the log's: frames of effects, chained, so that one check finds damage in either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from uuid import uuid4

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

__all__ = ["begin_anew", "restore"]

_EFFECTS_PER_FRAME = 1_000
_TRIES = 5


async def restore(blobs: Blobs, limits: Capabilities, roll_bytes: int) -> tuple[Replica, Log]:
    """The hub as ``hub.json``, its snapshot and the log say. Raises ``StoreFormatError`` if something is missing or damaged."""
    missing: BlobMissing | None = None
    for _ in range(_TRIES):
        manifest, _ = await manifests.load(blobs)
        replica = Replica(limits)
        try:
            await _load(blobs, manifest, replica)
            log = Log(blobs, Place(manifest.log, tip=Tip(manifest.number, manifest.log_checksum)), roll_bytes)
            for body in await log.read():
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


async def begin_anew(blobs: Blobs, log: Place, effects: Iterable[fx.Effect], hub: str) -> bool:
    """Write the hub as it is at ``log``, which has just begun. False: somebody else has written a later one."""
    name = f"snapshot/{log.number:010d}-{uuid4().hex}"
    data = await asyncio.to_thread(_encode, effects)
    await blobs.put_new(name, data)
    manifest = Manifest(manifests.FORMAT, hub, log.number, log.tip.number, log.tip.checksum, name)
    replaced = await manifests.store(blobs, manifest)
    if replaced is None:
        await blobs.delete(name)
        return False
    for prefix in ("log/", "body/", "snapshot/"):
        for old in await blobs.names(prefix):
            if number_of(old) < replaced.log:
                await blobs.delete(old)
    return True


async def _load(blobs: Blobs, manifest: Manifest, replica: Replica) -> None:
    if manifest.snapshot is None:
        return
    stored = await blobs.get(manifest.snapshot)
    if stored is None:
        raise BlobMissing(manifest.snapshot)
    where = f"{manifest.snapshot} of {blobs.options.where}"
    frames = read_frames(Tip(), stored.data, where, 0)
    if not frames or frames[-1].kind is not FrameKind.ROLLED:
        raise StoreFormatError(f"{where} is not whole. Restore it from a backup")
    for frame in frames[:-1]:
        replica.absorb(decode_body(frame.body, where), News())


def _encode(effects: Iterable[fx.Effect]) -> bytes:
    rest, tip, frames = iter(effects), Tip(), list[bytes]()
    while part := list(islice(rest, _EFFECTS_PER_FRAME)):
        frames.append(write_frame(tip, FrameKind.EFFECTS, encode_body([encode_effects(part)]), bytes(16)))
        tip = read_frames(tip, frames[-1], "a snapshot", 0)[0].tip
    return b"".join((*frames, write_frame(tip, FrameKind.ROLLED, b"", bytes(16))))
