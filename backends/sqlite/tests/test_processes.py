"""Several processes on one file: they share the work, survive each other's deaths, and never see "database is locked"."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from durable_core.backend import HistoryRange, InstanceStatus, Selectors
from durable_sqlite.testing import find_faults

pytestmark = pytest.mark.crash

PROGRAMS = Path(__file__).parent / "programs"
ALL = Selectors(frozenset({"orch"}), frozenset({"act"}))
HOUR_US = 3_600_000_000


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@contextmanager
def victim(store: Path, how: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that says that it is ready and is certainly gone afterwards."""
    process = start("work_until_killed.py", store, how)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready.startswith("ready"), process.communicate()
        yield process, ready
    finally:
        process.kill()
        process.communicate()


def faults(store: Path) -> list[str]:
    connection = sqlite3.connect(store)
    try:
        return find_faults(connection)
    finally:
        connection.close()


async def test_four_processes_share_the_work_and_each_turn_is_done_once(store: Path, handle: Any) -> None:
    processes, instances = 4, 25
    running = [start("share_the_work.py", store, number, processes, instances) for number in range(processes)]
    turns = Counter(line for process in running for line in finish(process).splitlines())
    names = [f"{number}-{index}" for number in range(processes) for index in range(instances)]
    assert turns == Counter(f"{name} {version}" for name in names for version in (0, 1))
    backend = await handle()
    records = await backend.get_instances(names)
    assert {(record.status, record.version, record.history_length) for record in records} == {(InstanceStatus.COMPLETED, 2, 2)}
    assert faults(store) == []


@pytest.mark.parametrize("round", range(3))
async def test_processes_that_create_the_store_at_once(store: Path, round: int) -> None:
    at = time.time() + 0.7
    running = [start("open_at.py", store, at, f"{round}{number}", 1) for number in range(4)]
    assert [finish(process) for process in running] == ["OK "] * 4
    assert faults(store) == []


async def test_processes_that_come_and_go(store: Path) -> None:
    """The last one out clears the log away just when the next one comes in."""
    running = [start("open_at.py", store, 0, number, 40) for number in range(3)]
    assert [finish(process) for process in running] == ["OK " * 40] * 3
    assert faults(store) == []


async def test_the_leases_of_a_killed_process_are_free_at_once(store: Path, handle: Any) -> None:
    backend = await handle()
    await backend.heartbeat("heir", ttl_us=HOUR_US)
    with victim(store, "hold") as (process, _):
        claim = await backend.claim("heir", claim_id="1", turns=5, tasks=5, selectors=ALL)
        assert (claim.turns, claim.tasks) == ((), ())
        process.send_signal(signal.SIGKILL)
        process.wait()
    claim = await backend.claim("heir", claim_id="2", turns=5, tasks=5, selectors=ALL)
    assert [(turn.instance, turn.attempt) for turn in claim.turns] == [("claimed", 2)]
    assert [(task.id, task.attempt) for task in claim.tasks] == [("t", 2)]
    assert not (await backend.heartbeat("victim", ttl_us=HOUR_US)).alive


async def test_a_death_wakes_whoever_listens(store: Path, handle: Any) -> None:
    backend = await handle()
    hints = backend.wakeups()
    with victim(store, "hold") as (process, _):
        await anext(hints)  # what the victim wrote
        process.send_signal(signal.SIGKILL)
        process.wait()
        await anext(hints)


async def test_a_forked_child_does_not_keep_its_dead_parent_alive(store: Path, handle: Any) -> None:
    backend = await handle()
    await backend.heartbeat("heir", ttl_us=HOUR_US)
    with victim(store, "fork") as (process, ready):
        child = int(ready.split()[1])
        try:
            process.send_signal(signal.SIGKILL)
            process.wait()
            os.kill(child, 0)  # it lives
            claim = await backend.claim("heir", claim_id="1", turns=5, tasks=5, selectors=ALL)
            assert [turn.instance for turn in claim.turns] == ["claimed"]
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_acknowledged_survives_a_kill_at_any_moment(store: Path, handle: Any, seed: int) -> None:
    with victim(store, "commit") as (process, _):
        await asyncio.sleep(random.Random(seed).uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
    acknowledged = int(out.splitlines()[-1]) if out.splitlines() and out.endswith("\n") else len(out.splitlines()) - 1
    backend = await handle()
    (record,) = await backend.get_instances(["i"])
    assert record.version in (acknowledged, acknowledged + 1), "the last one may have been committed and not yet told"
    assert record.history_length == record.version
    (page,) = await backend.read_history([HistoryRange("i", max_bytes=1 << 30)])
    assert [row.first for row in page.rows] == list(range(record.version))
    assert faults(store) == []
