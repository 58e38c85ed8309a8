"""Nothing of a payload can be read in the store, and payloads of an old key are read after it was changed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")  # in the extra "dev"

from cryptography.fernet import Fernet

from durable_core import DurableEngine, JsonConverter, PayloadError
from examples.encrypting_converter import EncryptingConverter, Patient, inform, letter, main

SECRETS = (b"Ada", b"a cold", b"Grace")
PATIENCE = timedelta(seconds=20)


def bytes_in(folder: Path) -> bytes:
    """The file, and the log beside it while it is open."""
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


async def run_with(url: str, folder: Path, converter: Any) -> bytes:
    engine = DurableEngine(url, converter=converter)
    engine.register(letter, inform)
    async with engine:
        handle = await engine.client.schedule_new_orchestration(inform, Patient("Ada", "a cold"))
        await engine.client.raise_event(handle.id, "signed", "Dr. Grace")
        assert await handle.result(PATIENCE) == "Dear Ada, it is a cold. Dr. Grace"
        return bytes_in(folder)


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_the_example_goes_on_after_its_key_was_changed(tmp_path: Path, scheme: str) -> None:
    url = f"sqlite:///{tmp_path / 'clinic.db'}" if scheme == "sqlite" else "memory://clinic"
    assert asyncio.run(main(url)) == "Dear Ada, it is a cold. Dr. Grace"
    if scheme == "sqlite":
        assert not [secret for secret in SECRETS if secret in bytes_in(tmp_path)]


def test_the_store_holds_no_plain_text(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    stored = asyncio.run(run_with(url, tmp_path, EncryptingConverter(Fernet.generate_key())))
    assert b"inform" in stored, "names can be read"
    assert not [secret for secret in SECRETS if secret in stored]


def test_without_it_the_store_does(tmp_path: Path) -> None:
    stored = asyncio.run(run_with(f"sqlite:///{tmp_path / 'clinic.db'}", tmp_path, JsonConverter()))
    assert [secret for secret in SECRETS if secret in stored] == list(SECRETS)


def test_rotation_reads_the_old_and_writes_the_new() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    before = EncryptingConverter(old).encode({"n": 1}, dict[str, int])
    rotated = EncryptingConverter(new, old)
    assert rotated.decode(before, dict[str, int]) == {"n": 1}
    assert EncryptingConverter(new).decode(rotated.encode({"n": 2}, dict[str, int]), dict[str, int]) == {"n": 2}


def test_a_payload_without_a_key_is_a_clear_error() -> None:
    async def start_and_read() -> None:
        for key in (Fernet.generate_key(), Fernet.generate_key()):
            engine = DurableEngine("memory://lost-key", converter=EncryptingConverter(key))
            engine.register(letter, inform)
            async with engine:
                handle = await engine.client.schedule_new_orchestration(
                    inform, Patient("Ada", "a cold"), instance_id="i", reuse_policy="return_existing"
                )
                await engine.client.raise_event("i", "signed", "Dr. Grace")
                assert await handle.result(PATIENCE)

    with pytest.raises(PayloadError, match="the result of orchestrator 'inform': EncryptingConverter cannot decode str: InvalidToken"):
        asyncio.run(start_and_read())
