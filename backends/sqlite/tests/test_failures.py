"""When a disk is full, a COMMIT fails or a command cannot be written: what is raised, what is there, and that work goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable_conformance.driver import status_of
from durable_core.backend import CreateInstance, OutcomeStatus, SendMessage
from durable_core.errors import StoreFullError, StoreUnavailableError
from durable_sqlite import SqliteBackend
from durable_sqlite.testing import find_faults

PROGRAMS = Path(__file__).parent / "programs"


async def on_the_writer(backend: SqliteBackend, sql: str) -> Any:
    return await backend._store.writer.read(lambda connection: connection.execute(sql).fetchone())


async def test_a_full_disk_raises_writes_nothing_and_work_goes_on(handle: Any, drive: Any, store: Path) -> None:
    backend = await handle()
    hub = await drive(backend)
    await hub.create("before")
    (pages,) = await on_the_writer(backend, "PRAGMA page_count")
    await on_the_writer(backend, f"PRAGMA max_page_count = {pages + 5}")
    commits = backend.commits
    batch = [hub.creation(f"i{number}", start=b"x" * 10_000) for number in range(20)]
    with pytest.raises(StoreFullError, match="nothing of the failed commit was written") as caught:
        await backend.apply(batch)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    with pytest.raises(StoreFullError):
        await backend.apply(batch)
    assert await backend.get_instances([command.instance for command in batch]) == [None] * 20
    assert backend.commits == commits
    await hub.create("small")  # what fits is still written
    await on_the_writer(backend, "PRAGMA max_page_count = 1000000")
    assert status_of(await backend.apply(batch)) == [OutcomeStatus.OK] * 20
    with sqlite3.connect(store) as connection:
        assert find_faults(connection) == []
    connection.close()


async def test_every_call_of_a_failed_batch_gets_an_error_of_its_own(handle: Any, drive: Any) -> None:
    backend = await handle()
    hub = await drive(backend)
    await on_the_writer(backend, "PRAGMA max_page_count = 1")
    calls = [asyncio.ensure_future(backend.apply([hub.creation(f"i{number}", start=b"x" * 100_000)])) for number in range(5)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, StoreFullError) for error in errors)
    assert len({id(error) for error in errors}) == 5


@pytest.mark.parametrize("value", [1 << 70, "\ud800"], ids=["an integer beyond 64 bits", "a lone surrogate"])
async def test_what_cannot_be_written_is_rejected_alone(handle: Any, drive: Any, value: Any) -> None:
    backend = await handle()
    hub = await drive(backend)
    batch: list[Any] = [hub.creation(f"i{number}") for number in range(100)]
    batch[37] = hub.creation("bad", **({"delay_us": value} if isinstance(value, int) else {"name": value}))
    outcomes = await backend.apply(batch)
    assert [number for number, outcome in enumerate(outcomes) if outcome.status is not OutcomeStatus.OK] == [37]
    error = outcomes[37].error
    assert error is not None
    assert "CreateInstance of 'bad'" in str(error)
    assert error.__cause__ is not None
    assert await hub.record("bad") is None
    assert backend.commits < 15, "by halving, not one by one"


class Sabotaged:
    """A connection whose next COMMIT fails, before or after it took effect."""

    def __init__(self, connection: sqlite3.Connection, *, after: bool) -> None:
        self._connection = connection
        self._after = after

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return self._connection.execute(sql, *parameters)
        if self._after:
            self._connection.execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("after", [False, True], ids=["without effect", "with effect"])
async def test_after_an_error_in_commit_the_same_commands_may_be_submitted(handle: Any, drive: Any, after: bool) -> None:
    backend = await handle()
    hub = await drive(backend)
    turn = await hub.running()
    committer = backend._store.writer._committer
    broken = committer._open
    committer._open = Sabotaged(broken, after=after)
    batch = [hub.turn(turn, tasks=(hub.task("t"),)), hub.creation("j"), SendMessage(hub.message("i"))]
    with pytest.raises(StoreUnavailableError, match="submit the same commands again"):
        await backend.apply(batch)
    assert committer._open is not broken, "the connection was opened anew"
    expected = OutcomeStatus.ALREADY_APPLIED if after else OutcomeStatus.OK
    assert status_of(await backend.apply(batch)) == [expected] * 3
    assert len(await hub.history()) == 2
    assert len((await hub.claim()).tasks) == 1


def test_a_commit_that_the_system_refuses(store: Path) -> None:
    """A limit on file sizes makes the write in COMMIT fail for real."""
    program = [sys.executable, str(PROGRAMS / "file_too_large.py"), str(store)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["refused", "OK", "faults:", "[]"]), done.stderr


async def test_a_lock_held_by_another_program_is_waited_for(handle: Any, drive: Any, store: Path) -> None:
    """Somebody works on the file with the sqlite3 shell: nobody sees "database is locked", and readers do not even wait."""
    backend = await handle()
    hub = await drive(backend)
    await hub.register()
    await hub.create("i")
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = asyncio.gather(hub.create("j"), hub.claim(), hub.register())
    assert await hub.record("i") is not None
    assert await hub.record("j") is None
    await asyncio.sleep(0.3)
    assert not writes.done()
    other.execute("ROLLBACK")
    other.close()
    await writes
    assert await hub.record("j") is not None


async def test_a_lock_that_is_never_let_go_of_is_unavailable(handle: Any, store: Path) -> None:
    backend = await handle("?lock_wait_s=0.05")
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked by another program"):
        await backend.apply([CreateInstance("i", "e", "orch", b"")])
    other.execute("ROLLBACK")
    other.close()
    await backend.apply([CreateInstance("i", "e", "orch", b"")])


async def test_a_call_after_the_close_is_answered(handle: Any) -> None:
    backend = await handle()
    writer = backend._store.writer
    await backend.close()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        await writer.submit([CreateInstance("i", "e", "orch", b"")])
