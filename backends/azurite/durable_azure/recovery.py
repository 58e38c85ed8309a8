"""A damaged hub: how much of it is sound, and a new hub made of that.

There is more than ``hub.json`` says: the beginning before the last one is kept, with the logs since. So a snapshot that is damaged or
missing costs nothing, and a lost ``hub.json`` neither, since every snapshot says where it belongs. What lies behind a damaged frame of a log is
lost: effects cannot be left out in the middle.

Nothing is changed where the damage is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

from attrs import define, field
from msgspec.structs import replace

from durable_azure import manifest as manifests
from durable_azure.blobs import Blobs
from durable_azure.codec import decode_body
from durable_azure.errors import BlobMissing
from durable_azure.frames import FrameKind, Tip, read_frames
from durable_azure.log import FIRST_LOG, Log, Place, log_name, number_of
from durable_azure.manifest import MANIFEST, Manifest
from durable_azure.replica import News, Replica
from durable_azure.snapshots import encode_snapshot, load_snapshot, snapshot_name
from durable_core.backend import Capabilities
from durable_core.errors import StoreError, StoreFormatError

__all__ = ["Found", "find", "save"]


@define
class Found:
    """A way to read a hub. ``frames``: how many of its appends are in ``replica``. ``damage``: why no more are."""

    beginning: Manifest
    replica: Replica
    frames: int = 0
    logs: dict[str, int] = field(factory=dict)
    """Log → bytes that were read."""
    damage: list[str] = field(factory=list)


async def find(blobs: Blobs, limits: Capabilities) -> tuple[Found, list[str]]:
    """The way that leads furthest, and everything that is wrong. Raises ``StoreFormatError`` if none leads anywhere."""
    wrong: list[str] = []
    best: Found | None = None
    async for beginning in _beginnings(blobs, wrong):
        found = await _read(blobs, beginning, limits, wrong)
        if found is not None and (best is None or found.frames > best.frames):
            best = found
    if best is None:
        raise StoreFormatError(f"there is no hub in {blobs.options.where}, or nothing of it is sound: {'; '.join(wrong) or 'it is empty'}")
    return best, list(dict.fromkeys([*wrong, *best.damage]))


async def save(found: Found, into: Blobs) -> None:
    """A new hub, as ``found``; the container must be empty. Raises ``StoreFormatError``."""
    if await into.names(""):
        raise StoreFormatError(f"{into.options.where} is not empty: name a new container")
    beginning = Manifest(manifests.FORMAT, uuid4().hex, FIRST_LOG)
    name = snapshot_name(FIRST_LOG)
    await into.put_new(name, await encode_snapshot(beginning, found.replica.as_effects()))
    await into.create_log(log_name(FIRST_LOG))
    await into.replace(MANIFEST, manifests.encode(replace(beginning, snapshot=name)), None)


async def _beginnings(blobs: Blobs, wrong: list[str]) -> AsyncIterator[Manifest]:
    try:
        manifest, _ = await manifests.load(blobs)
        yield manifest
    except StoreError as error:
        wrong.append(str(error))
    for name in sorted(await blobs.names("snapshot/"), reverse=True):
        try:
            beginning = await load_snapshot(blobs, name, Replica(_NO_LIMITS))
            assert beginning is not None
            yield replace(beginning, snapshot=name)
        except (StoreError, BlobMissing) as error:
            wrong.append(str(error))
    yield Manifest(manifests.FORMAT, "", FIRST_LOG)


async def _read(blobs: Blobs, beginning: Manifest, limits: Capabilities, wrong: list[str]) -> Found | None:
    found = Found(beginning, Replica(limits), beginning.number)
    try:
        await load_snapshot(blobs, beginning.snapshot, found.replica)
    except (StoreError, BlobMissing) as error:
        wrong.append(str(error) if isinstance(error, StoreError) else f"{beginning.snapshot} is missing")
        return None
    tip, number = Tip(beginning.number, beginning.log_checksum), beginning.log
    there = {number_of(name) for name in await blobs.names("log/")}
    if number not in there:
        found.damage.append(f"{log_name(number)} of {blobs.options.where} is missing")
        return found if beginning.hub else None
    while number in there:
        ended, tip = await _read_log(blobs, found, number, tip)
        if not ended:
            break
        number += 1
        if number not in there:
            found.damage.append(f"{log_name(number)} of {blobs.options.where} is missing")
    return found


async def _read_log(blobs: Blobs, found: Found, number: int, tip: Tip) -> tuple[bool, Tip]:
    """Whether it ends with the frame that says so, and the last sound frame."""
    name = log_name(number)
    where = f"{name} of {blobs.options.where}"
    log = Log(blobs, Place(number, tip=tip), 1)
    found.logs[name] = 0
    try:
        for frame in read_frames(tip, await blobs.read(name) or b"", where, 0):
            if frame.kind in (FrameKind.EFFECTS, FrameKind.SPILLED):
                found.replica.absorb(decode_body(await log.body(frame, number), where), News())
            tip = frame.tip
            found.frames = tip.number
            found.logs[name] += frame.size
            if frame.kind is FrameKind.ROLLED:
                return True, tip
    except (StoreError, BlobMissing) as error:
        found.damage.append(str(error))
    return False, tip


_NO_LIMITS = Capabilities(durability="replicated", multi_process=True, proves_death=False)
