"""Whatever is damaged, deleted or newer is reported with what to do; nothing is skipped, and what is sound can be saved."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from durable_azure.__main__ import run
from durable_azure.blobs import Blobs
from durable_azure.codec import encode_body
from durable_azure.frames import FrameKind, Tip, write_frame
from durable_azure.log import log_name
from durable_azure.manifest import MANIFEST, load
from durable_azure.options import parse_emulator_url
from durable_azure.proxy import Answered, Proxy
from durable_core.backend import CreateInstance, InstanceFilter
from durable_core.errors import StoreFormatError, StoreReadOnlyError, StoreUnavailableError, StoreVersionError

COUNT = 12


async def a_hub(handle: Any, *, rolled: bool, start: bytes = b"start") -> Blobs:
    """With ``COUNT`` instances, each an append. ``rolled``: it has begun anew twice."""
    backend = await handle(**({"roll_bytes": 1_000} if rolled else {}))
    blobs: Blobs = await handle.blobs()
    for number in range(COUNT):
        await backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", start, f"r{number}")])
        if rolled and number in (COUNT // 2, COUNT - 2):
            begun = 2 if number == COUNT // 2 else 3
            async with asyncio.timeout(10):
                while (await load(blobs))[0].log < begun:
                    await asyncio.sleep(0.005)
    await backend.close()
    return blobs


async def write_anew(blobs: Blobs, name: str, data: bytes) -> None:
    kind = (await blobs.container.get_blob_client(name).get_blob_properties()).blob_type
    await blobs.delete(name)
    await blobs.container.upload_blob(name, data, blob_type=kind)


async def flip(blobs: Blobs, name: str, share: float) -> None:
    stored = await blobs.get(name)
    assert stored is not None
    data = bytearray(stored.data)
    data[int(len(data) * share)] ^= 1
    await write_anew(blobs, name, bytes(data))


async def named(blobs: Blobs, what: str) -> str:
    manifest, _ = await load(blobs)
    return {"manifest": MANIFEST, "log": log_name(manifest.log), "snapshot": str(manifest.snapshot)}[what]


async def saved(handle: Any, capsys: pytest.CaptureFixture[str]) -> int:
    """How many instances the tool saves from a damaged hub. They are the first ones, without a gap, and can be used."""
    url, new_url = handle.url, f"azurite://saved-{uuid4().hex}"
    assert await run("inspect", url, None) == 1
    assert "DAMAGED" in capsys.readouterr().out
    assert await run("recover", url, new_url) == 0
    said = capsys.readouterr().out
    handle.url = new_url
    backend = await handle(create=False)
    page = await backend.query_instances(InstanceFilter(), limit=1_000)
    count = len(page.records)
    assert sorted(record.instance for record in page.records) == sorted(f"i{n}" for n in range(count))
    assert ("Nothing is lost" in said) == (count == COUNT), said
    await backend.apply([CreateInstance("new", "e", "orch", b"", "r")])
    return count


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
@pytest.mark.parametrize(("what", "lost"), [("manifest", False), ("snapshot", False), ("log", True)])
async def test_a_flipped_byte(handle: Any, capsys: pytest.CaptureFixture[str], what: str, lost: bool, share: float) -> None:
    blobs = await a_hub(handle, rolled=what != "log")
    await flip(blobs, await named(blobs, what), share)
    with pytest.raises((StoreFormatError, StoreVersionError), match=r"(?i)(damaged|restore|newer)"):
        await handle()
    assert (await saved(handle, capsys) < COUNT) == lost


@pytest.mark.parametrize("what", ["manifest", "snapshot", "log"])
async def test_a_deleted_blob(handle: Any, capsys: pytest.CaptureFixture[str], what: str) -> None:
    blobs = await a_hub(handle, rolled=True)
    await blobs.delete(await named(blobs, what))
    with pytest.raises(StoreFormatError, match=r"(?i)restore"):
        await handle()
    assert 0 < await saved(handle, capsys) <= COUNT


@pytest.mark.parametrize("damage", ["flipped", "deleted"])
async def test_a_body_beside_the_log(handle: Any, damage: str) -> None:
    blobs = await a_hub(handle, rolled=False, start=bytes(5 << 20))
    (_, *_, name) = await blobs.names("body/")
    await (flip(blobs, name, 0.5) if damage == "flipped" else blobs.delete(name))
    with pytest.raises(StoreFormatError, match=r"body/.*(damaged|missing).*restore"):
        await handle()


async def test_a_log_that_is_damaged_while_handles_are_open(handle: Any) -> None:
    """Who has read the part before meets the damage with the next look, and adds nothing."""
    backend, other = await handle(), await handle()
    await backend.apply([CreateInstance("i", "e", "orch", b"", "r")])
    blobs = await handle.blobs()
    await flip(blobs, log_name(1), 0.9)
    for _ in range(2):
        with pytest.raises(StoreFormatError, match="damaged at byte"):
            await other.apply([CreateInstance("j", "e", "orch", b"", "s")])


async def test_a_log_that_was_cut_off(handle: Any) -> None:
    backend = await handle()
    await backend.apply([CreateInstance("i", "e", "orch", b"", "r")])
    blobs = await handle.blobs()
    data = await blobs.read(log_name(1))
    await write_anew(blobs, log_name(1), data[: len(data) // 2])
    with pytest.raises(StoreFormatError, match="shorter than it was"):
        await backend.get_instances(["i"])


@pytest.mark.parametrize("what", ["frame", "kind", "effect", "manifest"])
async def test_a_newer_version(handle: Any, what: str) -> None:
    await (await handle()).close()
    blobs = await handle.blobs()
    if what == "manifest":
        await blobs.container.upload_blob(MANIFEST, b'{"format": 2, "more": true}', overwrite=True)
    else:
        body = msgspec.msgpack.encode([[{"type": "PutSomethingNew", "row": 1}]]) if what == "effect" else encode_body([])
        frame = bytearray(write_frame(Tip(), FrameKind.EFFECTS if what != "kind" else 9, body, bytes(16)))  # type: ignore[arg-type]
        if what == "frame":
            frame[3:4] = b"2"
        await blobs.append(log_name(1), 0, bytes(frame))
    with pytest.raises(StoreVersionError, match=r"newer version of durable-core.*upgrade"):
        await handle()


@pytest.mark.parametrize("flaw", ["reads only", "expired", "not yet valid"])
async def test_a_sas_token_that_does_not_do(handle: Any, caplog: pytest.LogCaptureFixture, flaw: str) -> None:
    """A real one, signed with the account's key. Its signature is in no message and no log."""
    caplog.set_level("DEBUG")
    await handle()
    options = parse_emulator_url(handle.url, {})
    now = datetime.now(UTC)
    begins, ends = {"expired": (-2, -1), "not yet valid": (1, 2)}.get(flaw, (-1, 1))
    sas = generate_container_sas(
        "devstoreaccount1",
        options.container,
        account_key=options.key,
        permission=ContainerSasPermissions(read=True, list=True, write=flaw != "reads only", add=flaw != "reads only"),
        start=now + timedelta(hours=begins),
        expiry=now + timedelta(hours=ends),
    )

    async def use() -> None:
        await (await handle(sas=sas)).apply([CreateInstance("i", "e", "orch", b"", "r")])

    with pytest.raises(StoreReadOnlyError, match="has it expired") as caught:
        await use()
    signature = sas.rpartition("sig=")[2]
    assert all(signature not in text for text in (str(caught.value), repr(caught.value), caplog.text))


async def test_a_container_that_is_not_there(handle: Any) -> None:
    with pytest.raises(StoreFormatError, match="create it, or open the store with create=True"):
        await handle(create=False)
    with pytest.raises(StoreFormatError, match="create it"):
        await run("inspect", handle.url, None)


async def test_the_tool_on_a_sound_hub(handle: Any) -> None:
    """As a person runs it."""
    await a_hub(handle, rolled=True)

    async def tool(*arguments: str) -> tuple[int | None, str, str]:
        command = [sys.executable, "-m", "durable_azure", *arguments]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, errors = await process.communicate()
        return process.returncode, out.decode(), errors.decode()

    status, out, errors = await tool("inspect", handle.url)
    assert (status, errors) == (0, "")
    assert all(text in out for text in (f"{COUNT} PENDING", "then log/", "begins with snapshot/"))
    status, _, errors = await tool("recover", handle.url, handle.url)
    assert (status, "is not empty: name a new container" in errors) == (2, True)


async def test_back_pressure_while_no_snapshot_can_be_written(handle: Any, proxy: Proxy) -> None:
    """The log grows to twice its length and no further; it goes on as soon as there is a snapshot."""
    backend = await handle(endpoint=proxy.endpoint, roll_bytes=4_000, patience_s=0.2)
    proxy.rule = lambda request: Answered(503, "ServerBusy") if request.operation == "put" else None

    number = 0

    async def add() -> None:
        nonlocal number
        await backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", bytes(300), f"r{number}")])
        number += 1

    async def add_many() -> None:
        while number < 100:
            await add()

    with pytest.raises(StoreUnavailableError, match="no snapshot can be written"):
        await add_many()
    assert 5 < number < 40
    assert len(await (await handle.blobs()).read(log_name(2)) or b"") < 10_000
    assert len((await backend.query_instances(InstanceFilter(), limit=100)).records) == number, "reading goes on"
    proxy.rule = lambda _request: None
    await backend._store._snapshot
    await add()
    assert len((await (await handle()).query_instances(InstanceFilter(), limit=100)).records) == number
