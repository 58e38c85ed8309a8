"""Files that are missing, foreign, damaged, too new or not to be written: each error says what to do, and nothing is changed."""

# ruff: noqa: ASYNC240 # nothing else runs in these loops

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from durable_core.backend import CreateInstance
from durable_core.errors import StoreError, StoreFormatError, StoreReadOnlyError, StoreVersionError
from durable_sqlite import connection, open_backend
from durable_sqlite.migrate import SCHEMA_VERSION


async def _open(path: Path, *, create: bool = True) -> None:
    backend = open_backend(f"sqlite:///{path}")
    try:
        await backend.open(create=create)
    finally:
        await backend.close()


async def test_a_missing_file_is_made_unless_it_must_exist(store: Path) -> None:
    with pytest.raises(StoreFormatError, match="create=True"):
        await _open(store, create=False)
    assert not list(store.parent.iterdir()), "nothing was left behind"
    await _open(store)
    await _open(store, create=False)


async def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match=r"folder .*missing does not exist: create it"):
        await _open(tmp_path / "missing" / "hub.db")


async def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match="must name a file"):
        await _open(tmp_path)


async def test_an_empty_file_becomes_a_store_unless_it_must_be_one(store: Path) -> None:
    store.touch()
    with pytest.raises(StoreFormatError, match="empty"):
        await _open(store, create=False)
    await _open(store)


async def test_a_text_file(store: Path) -> None:
    store.write_text("not a database, but long enough to be looked at\n" * 100)
    before = store.read_bytes()
    with pytest.raises(StoreFormatError, match="not an SQLite database") as caught:
        await _open(store)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert store.read_bytes() == before


async def test_somebody_elses_database(store: Path) -> None:
    with sqlite3.connect(store) as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()
    before = store.read_bytes()
    with pytest.raises(StoreFormatError, match="not a durable-core store"):
        await _open(store)
    assert store.read_bytes() == before


async def test_a_damaged_store(store: Path) -> None:
    await _open(store)
    damaged = bytearray(store.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    store.write_bytes(damaged)
    with pytest.raises(StoreFormatError, match="restore a backup"):
        await _open(store)


async def test_a_store_without_its_tables(store: Path) -> None:
    await _open(store)
    with sqlite3.connect(store) as other:
        other.execute("DROP TABLE hub")
    other.close()
    with pytest.raises(StoreFormatError, match="its tables are not"):
        await _open(store)


async def test_damage_that_is_found_later_is_named(store: Path) -> None:
    backend = open_backend(f"sqlite:///{store}")
    await backend.open()
    await backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", b"x" * 1000) for number in range(200)])
    await backend.close()
    damaged = bytearray(store.read_bytes())
    damaged[40 * 4096 :] = b"\xff" * (len(damaged) - 40 * 4096)
    store.write_bytes(damaged)
    await backend.open()
    try:
        with pytest.raises(StoreFormatError, match="damaged"):
            await backend.get_instances([f"i{number}" for number in range(200)])
    finally:
        await backend.close()


async def test_a_newer_store(store: Path) -> None:
    await _open(store)
    with sqlite3.connect(store) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    other.close()
    before = store.read_bytes()
    with pytest.raises(StoreVersionError, match="upgrade durable-core"):
        await _open(store)
    assert store.read_bytes() == before


async def test_a_store_that_is_migrated_under_an_old_program(store: Path) -> None:
    backend = open_backend(f"sqlite:///{store}")
    await backend.open()
    try:
        with sqlite3.connect(store) as other:
            other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        other.close()
        with pytest.raises(StoreVersionError, match="upgrade this program"):
            await backend.apply([CreateInstance("i", "e", "orch", b"")])
    finally:
        await backend.close()


_TRY = """
import asyncio, os, sys
from durable_core.errors import StoreReadOnlyError
from durable_sqlite import open_backend
async def main():
    rehearsal = open_backend("sqlite:///:memory:")  # everything is imported and read while that is allowed
    await rehearsal.open()
    await rehearsal.close()
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    backend = open_backend("sqlite:///" + sys.argv[1])
    try:
        await backend.open()
    except StoreReadOnlyError as error:
        print("read-only:", error)
    else:
        await backend.close()
        print("opened")
asyncio.run(main())
"""


def _as_nobody(path: Path) -> str:
    """Open the store as an unprivileged user (root may write everything)."""
    done = subprocess.run([sys.executable, "-c", _TRY, str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that other users can reach, and with it this test's imports."""
    folder = tmp_path_factory.mktemp("reachable")
    for above in (folder, *folder.parents):
        if above.stat().st_uid == os.getuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    return folder


async def test_a_file_that_cannot_be_written(reachable: Path) -> None:
    path = reachable / "hub.db"
    await _open(path)
    reachable.chmod(0o777)
    path.chmod(0o444)
    assert "permission" in _as_nobody(path)
    path.chmod(0o666)
    (reachable / "hub.db-workers").chmod(0o777)
    for lock in (reachable / "hub.db-workers").iterdir():
        lock.chmod(0o666)
    assert _as_nobody(path) == "opened\n", "the counter-test: it was the permission"


async def test_a_folder_that_cannot_be_written(reachable: Path) -> None:
    path = reachable / "hub.db"
    await _open(path)
    path.chmod(0o666)
    reachable.chmod(0o555)
    text = _as_nobody(path)
    assert "folder" in text
    assert "permission" in text


async def test_lock_files_that_cannot_be_written(reachable: Path) -> None:
    path = reachable / "hub.db"
    await _open(path)
    path.chmod(0o666)
    reachable.chmod(0o777)
    for lock in (reachable / "hub.db-workers").iterdir():
        lock.chmod(0o444)
    assert "hub.db-workers" in _as_nobody(path)


def test_an_old_sqlite_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"needs 3\.35\.0 or later"):
        connection.check_library()


def test_read_only_errors_are_one_kind() -> None:
    assert issubclass(StoreReadOnlyError, StoreError)
