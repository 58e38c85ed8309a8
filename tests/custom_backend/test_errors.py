"""The store of examples/custom_backend: opening what is no store, and a disk that does not do as it is told."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path

import pytest

from durable_core.backend import CreateInstance, OutcomeStatus
from durable_core.errors import (
    EngineStateError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreUrlError,
    StoreVersionError,
)
from examples.custom_backend import FilesBackend, open_backend
from examples.custom_backend.disk import Disk

CREATE = CreateInstance("a", "a1", "orch", b"start", "r1")


def opens(folder: Path, *, create: bool = True) -> None:
    async def main() -> None:
        store = FilesBackend(folder)
        try:
            await store.open(create=create)
        finally:
            await store.close()

    asyncio.run(main())


def test_a_missing_store_is_made_only_if_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match="create=True"):
        opens(tmp_path / "hub", create=False)
    assert not (tmp_path / "hub").exists()
    opens(tmp_path / "hub")
    opens(tmp_path / "hub", create=False)


def test_a_foreign_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(StoreFormatError, match=r"letter\.txt"):
        opens(tmp_path)
    assert os.listdir(tmp_path) == ["letter.txt"]  # noqa: PTH208 # shorter


@pytest.mark.parametrize(("format", "error"), [("2", StoreVersionError), ("?", StoreFormatError)])
def test_what_it_cannot_read_it_does_not_touch(tmp_path: Path, format: str, error: type[StoreError]) -> None:
    opens(tmp_path / "hub")
    (tmp_path / "hub" / "FORMAT").write_text(format)
    with pytest.raises(error):
        opens(tmp_path / "hub")


def test_urls() -> None:
    assert isinstance(open_backend("files:///orders"), FilesBackend)
    for url in ("files://orders", "files:///", "sqlite:///orders"):
        with pytest.raises(StoreUrlError):
            open_backend(url)


class FailingDisk(Disk):
    """``fails_at``: the file or folder whose sync fails."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fails_at = ""

    def sync(self, path: Path) -> None:
        if path.name == self.fails_at:
            raise OSError(self.number, os.strerror(self.number))
        super().sync(path)


@pytest.mark.parametrize(
    ("number", "fails_at", "error", "repeated"),
    [
        (errno.ENOSPC, "temporary", StoreFullError, OutcomeStatus.OK),
        (errno.EROFS, "temporary", StoreReadOnlyError, OutcomeStatus.OK),
        (errno.EIO, "temporary", StoreUnavailableError, OutcomeStatus.OK),
        # The intent has its name: that it is full now does not mean that nothing was written.
        (errno.ENOSPC, "log", StoreUnavailableError, OutcomeStatus.ALREADY_APPLIED),
    ],
)
def test_a_failed_commit_has_written_nothing_or_is_recognised(
    tmp_path: Path, number: int, fails_at: str, error: type[StoreError], repeated: OutcomeStatus
) -> None:
    async def main() -> None:
        disk = FailingDisk(number)
        store = FilesBackend(tmp_path / "hub", disk=disk)
        await store.open()
        disk.fails_at = fails_at
        with pytest.raises(StoreError) as raised:
            await store.apply([CREATE])
        assert type(raised.value) is error
        assert isinstance(raised.value.__cause__, OSError)
        disk.fails_at = ""
        [outcome] = await store.apply([CREATE])
        assert outcome.status is repeated
        await store.close()

    asyncio.run(main())


def test_who_waits_too_long_for_a_stopped_process_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        store = FilesBackend(tmp_path / "hub", lock_wait_s=0.01)
        await store.open()
        with (tmp_path / "hub" / "lock").open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(StoreUnavailableError, match="stopped"):
                await store.get_instances(["a"])
        assert await store.get_instances(["a"]) == [None]
        with pytest.raises(EngineStateError, match="open already"):
            await store.open()
        await store.close()
        with pytest.raises(EngineStateError):
            await store.get_instances(["a"])

    asyncio.run(main())


def test_time_does_not_run_backwards_for_anybody(tmp_path: Path) -> None:
    """What one handle was told, without anything being written, another one whose clock is behind goes on from."""

    async def main() -> None:
        ahead, behind = (FilesBackend(tmp_path / "hub", clock_us=clock) for clock in (lambda: 2_000_000, lambda: 1_000_000))
        await ahead.open()
        await behind.open()
        await ahead.get_instances([])
        assert (await behind.heartbeat("w", ttl_us=1)).now_us == 2_000_000
        await ahead.close()
        await behind.close()

    asyncio.run(main())


def test_wakeups_tell_of_commits_and_end(tmp_path: Path) -> None:
    async def main() -> None:
        store, other = FilesBackend(tmp_path / "hub"), FilesBackend(tmp_path / "hub")
        await store.open()
        await other.open()
        hints = store.wakeups()
        await anext(hints)
        waiting = asyncio.ensure_future(anext(hints))
        await other.apply([CREATE])
        await waiting
        await store.close()
        with pytest.raises(StopAsyncIteration):
            await anext(hints)
        await other.close()

    asyncio.run(main())
