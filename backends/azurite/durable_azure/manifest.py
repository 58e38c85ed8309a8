"""``hub.json``: where a reader begins. Replaced by compare and swap, and only ever by a later beginning.

    {"format": 1, "hub": id, "log": 7, "number": 1234, "log_checksum": 99, "snapshot": "snapshot/0000000007-…", "checksum": "…"}

The hub at the beginning of that log is what the snapshot holds (none: an empty hub). ``number`` and ``log_checksum`` are those of the frame
before it, which the first frame of the log follows.
"""

from __future__ import annotations

import hashlib
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from durable_azure.blobs import Blobs, Stored
from durable_azure.errors import BlobMissing
from durable_azure.log import FIRST_LOG, log_name
from durable_core.errors import StoreFormatError, StoreVersionError

__all__ = ["MANIFEST", "Manifest", "load", "load_or_create", "store"]

MANIFEST = "hub.json"
FORMAT = 1


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    hub: str
    log: int
    number: int = 0
    log_checksum: int = 0
    snapshot: str | None = None
    checksum: str = ""


class _Any(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.encode(replace(manifest, checksum=_checksum(manifest)))


def decode(data: bytes, where: str) -> Manifest:
    """Raises ``StoreVersionError`` and ``StoreFormatError``."""
    try:
        written_as = msgspec.json.decode(data, type=_Any).format
        if written_as > FORMAT:
            raise StoreVersionError(f"{where} was written by a newer version of durable-core (format {written_as}): upgrade this program")
        manifest = msgspec.json.decode(data, type=Manifest)
        if _checksum(manifest) == manifest.checksum:
            return manifest
        cause = "its checksum is wrong"
    except msgspec.DecodeError as error:
        cause = str(error)
    raise StoreFormatError(
        f"{MANIFEST} of {where} is damaged ({cause}). Restore that blob as it was; the logs and snapshots stay as they are"
    )


async def load(blobs: Blobs) -> tuple[Manifest, Stored]:
    """Raises ``StoreFormatError`` if there is none."""
    stored = await blobs.get(MANIFEST)
    if stored is None:
        raise StoreFormatError(
            f"there is no task hub in {blobs.options.where}: {MANIFEST} is missing. Restore it from a backup, or open with create=True"
        )
    return decode(stored.data, blobs.options.where), stored


async def load_or_create(blobs: Blobs, *, create: bool) -> Manifest:
    """A new hub begins with an empty log, which is there before ``hub.json`` says so."""
    if await blobs.get(MANIFEST) is None and create:
        others = [name for name in await blobs.names("") if name != log_name(FIRST_LOG)]
        if MANIFEST not in others:
            if others or await _has_data(blobs):
                raise StoreFormatError(
                    f"{blobs.options.where} holds blobs but no {MANIFEST}: it is another program's, or damaged. Choose an empty container, or restore "
                    f"{MANIFEST} from a backup"
                )
            await blobs.create_log(log_name(FIRST_LOG))
            await blobs.replace(MANIFEST, encode(Manifest(FORMAT, uuid4().hex, FIRST_LOG)), None)
    return (await load(blobs))[0]


async def _has_data(blobs: Blobs) -> bool:
    try:
        return bool(await blobs.read(log_name(FIRST_LOG)))
    except BlobMissing:
        return False


async def store(blobs: Blobs, manifest: Manifest) -> Manifest | None:
    """Replace what is there, unless that begins at the same log or later. The one that was replaced; None if it was not."""
    while True:
        current, stored = await load(blobs)
        if current.log >= manifest.log:
            return None
        if await blobs.replace(MANIFEST, encode(manifest), stored.etag):
            return current
        if (await load(blobs))[0] == replace(manifest, checksum=_checksum(manifest)):
            return current


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(replace(manifest, checksum=""))).hexdigest()[:16]
