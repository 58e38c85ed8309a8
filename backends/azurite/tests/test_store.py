"""The log on a real emulator: races, damage, lost answers, new beginnings."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest

from durable_azure.blobs import Blobs
from durable_azure.frames import FrameKind, Tip, read_frames, write_frame
from durable_azure.log import Log, Place, log_name
from durable_azure.manifest import MANIFEST
from durable_core.backend import CreateInstance, InstanceFilter, OutcomeStatus
from durable_core.errors import EngineStateError, StoreError, StoreFormatError, StoreUnavailableError, StoreUrlError, StoreVersionError


def creation(number: int, start: bytes = b"start") -> CreateInstance:
    return CreateInstance(f"i{number}", f"e{number}", "orch", start, f"r{number}")


async def ids_in(backend: Any) -> list[str]:
    page = await backend.query_instances(InstanceFilter(), limit=10_000)
    return sorted(record.instance for record in page.records)


def frames(*bodies: bytes) -> bytes:
    tip, data = Tip(), b""
    for body in bodies:
        data += write_frame(tip, FrameKind.EFFECTS, body, bytes(16))
        *_, last = read_frames(Tip(), data, "x", 0)
        tip = last.tip
    return data


def test_frames_are_read_back() -> None:
    assert [frame.body for frame in read_frames(Tip(), frames(b"one", b"", b"three"), "x", 0)] == [b"one", b"", b"three"]


@pytest.mark.parametrize("at", range(len(frames(b"one", b"two"))))
def test_no_byte_of_a_frame_can_be_flipped_unnoticed(at: int) -> None:
    data = bytearray(frames(b"one", b"two"))
    data[at] ^= 4
    with pytest.raises((StoreFormatError, StoreVersionError)):
        list(read_frames(Tip(), bytes(data), "x", 0))


def test_a_frame_that_is_missing_or_doubled_is_noticed() -> None:
    one = len(frames(b"one"))
    data = frames(b"one", b"two")
    for wrong in (data[one:], data[:one] * 2, data[:-1]):
        with pytest.raises(StoreFormatError):
            list(read_frames(Tip(), wrong, "x", 0))


async def test_of_many_appends_at_one_position_one_counts(handle: Any) -> None:
    await handle()
    logs = [Log(await handle.blobs(), Place(), 1 << 20) for _ in range(8)]
    won = await asyncio.gather(*(log.append(b"%d" % number) for number, log in enumerate(logs)))
    assert won.count(True) == 1
    winner = won.index(True)
    for number, log in enumerate(logs):
        assert (await log.read())[0] == ([] if number == winner else [b"%d" % winner])


async def test_an_append_whose_answer_was_lost_counts_once(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is sent again, is refused, and what stands there is recognised as ours."""
    await handle()
    log = Log(await handle.blobs(), Place(), 1 << 20)
    once = Blobs.append

    async def twice(self: Blobs, *call: Any) -> bool:
        assert await once(self, *call)
        return await once(self, *call)

    monkeypatch.setattr(Blobs, "append", twice)
    assert await log.append(b"body")
    monkeypatch.undo()
    assert (await Log(log.blobs, Place(), 1 << 20).read())[0] == [b"body"]


async def test_handles_that_write_at_once_lose_nothing(handle: Any) -> None:
    handles = [await handle() for _ in range(3)]

    async def write(number: int) -> None:
        for step in range(10):
            (outcome,) = await handles[number].apply([creation(number * 10 + step)])
            assert outcome.status is OutcomeStatus.OK

    await asyncio.gather(*map(write, range(3)))
    for each in handles:
        assert await ids_in(each) == sorted(f"i{number}" for number in range(30))


async def test_a_large_write_gets_its_turn_among_many_small_ones(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes so long to send that it would lose for ever."""
    sizes, append = list[int](), Log.append

    async def counted(self: Log, body: bytes) -> bool:
        sizes.append(len(body))
        return await append(self, body)

    monkeypatch.setattr(Log, "append", counted)
    large, *small = [await handle() for _ in range(4)]
    stop = asyncio.Event()

    async def write(number: int) -> None:
        for step in itertools.count(1_000_000 * (number + 1)):
            if stop.is_set():
                return
            await small[number].apply([creation(step)])

    writing = [asyncio.create_task(write(number)) for number in range(3)]
    await asyncio.sleep(0.3)
    for round in range(3):
        await large.apply([creation(10_000 * round + number, bytes(1_000)) for number in range(2_000)])
    stop.set()
    await asyncio.gather(*writing)
    assert sum(size > 1_000_000 for size in sizes) <= 3 * 5


async def test_who_has_reserved_a_turn_and_died_is_waited_for_a_moment_only(handle: Any) -> None:
    backend, log = await handle(), Log(await handle.blobs(), Place(), 1 << 20)
    assert await log.reserve()
    (outcome,) = await backend.apply([creation(1)])
    assert outcome.status is OutcomeStatus.OK


async def test_of_many_creates_of_one_id_one_is_carried_out(handle: Any) -> None:
    handles = [await handle() for _ in range(4)]
    answers = await asyncio.gather(*(each.apply([CreateInstance("i", f"e{n}", "orch", b"", f"r{n}")]) for n, each in enumerate(handles)))
    assert sorted(outcome.status.value for (outcome,) in answers) == ["exists", "exists", "exists", "ok"]


async def test_calls_that_are_made_together_share_an_append(handle: Any) -> None:
    backend = await handle()
    await asyncio.gather(*(backend.apply([creation(number)]) for number in range(200)))
    assert backend.commits <= 3


async def test_a_log_that_is_long_begins_anew_and_nothing_is_lost(handle: Any) -> None:
    backend = await handle(roll_bytes=2_000)
    sleeper = await handle()
    for number in range(60):
        await backend.apply([creation(number)])
    blobs = await handle.blobs()
    everything = sorted(f"i{number}" for number in range(60))
    async with asyncio.timeout(10):
        while log_name(1) in await blobs.names("log/") or len(await blobs.names("snapshot/")) > 2:
            await asyncio.sleep(0.01)
    assert await ids_in(await handle()) == everything
    assert await ids_in(sleeper) == everything, "who was left behind reads the hub anew"
    assert backend.capabilities.multi_process


async def test_a_body_that_is_too_large_for_an_append_lies_beside_the_log(handle: Any) -> None:
    backend = await handle()
    await backend.apply([creation(1, bytes(9 << 20))])
    assert len(await (await handle.blobs()).names("body/")) == 1
    (record,) = await (await handle()).get_instances(["i1"])
    assert record.start == bytes(9 << 20)


async def test_a_log_that_was_deleted_is_reported_and_not_made_again(handle: Any) -> None:
    backend = await handle()
    await backend.apply([creation(1)])
    await (await handle.blobs()).delete(log_name(1))
    for _ in range(2):
        with pytest.raises(StoreFormatError, match="restore"):
            await handle()
        with pytest.raises(StoreFormatError, match="restore"):
            await backend.apply([creation(2)])


async def test_a_lost_hub_json_is_reported(handle: Any) -> None:
    await (await handle()).apply([creation(1)])
    await (await handle.blobs()).delete(MANIFEST)
    with pytest.raises(StoreFormatError, match="backup"):
        await handle()


async def test_a_wrong_credential_is_reported_and_never_shown(handle: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await handle()
    signature = "c2VjcmV0LXNpZ25hdHVyZQ=="
    sas = f"sv=2021-08-06&ss=b&srt=sco&sp=rwdlac&se=2020-01-01T00:00:00Z&sig={signature}"
    with pytest.raises(StoreError) as caught:
        await handle(sas=sas)
    assert "credential" in str(caught.value)
    assert signature not in str(caught.value)
    assert signature not in repr(caught.value)
    assert "Authorization: AccountName" not in caplog.text


async def test_nobody_answers(handle: Any) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await handle(endpoint="http://127.0.0.1:9/devstoreaccount1", patience_s=0)


async def test_a_handle_that_is_not_open(handle: Any) -> None:
    backend = await handle()
    await backend.close()
    await backend.close()
    with pytest.raises(EngineStateError):
        await backend.apply([creation(1)])


@pytest.mark.parametrize("container", ["a", "Upper", "two--hyphens", "with_underscore", ""])
def test_a_name_that_no_container_can_have(container: str) -> None:
    from durable_azure import open_emulator

    with pytest.raises(StoreUrlError):
        open_emulator(f"azurite://{container}")


def test_a_credential_is_not_in_the_options_text() -> None:
    from durable_azure.options import parse_url

    options = parse_url("azure://account/container?key=a+b/c==", {})
    assert options.key == "a+b/c=="
    assert "a+b" not in repr(options)
