"""What idling costs, what a commit costs, and how soon a wake-up arrives."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from durable_conformance.driver import ALL, HOUR_US, ended
from durable_core.backend import CreateInstance, Message, Purge, SendMessage
from durable_sqlite import SqliteBackend

PROGRAMS = Path(__file__).parent / "programs"


def files(store: Path) -> dict[str, tuple[int, int]]:
    stats = {path.name: path.stat() for path in store.parent.iterdir() if path.name.startswith("hub.db") and path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items() if not name.endswith("-shm")}


async def claim(backend: SqliteBackend, claim_id: str) -> int:
    found = await backend.claim("w", claim_id=claim_id, turns=10, tasks=10, selectors=ALL)
    return len(found.turns) + len(found.tasks)


async def test_an_idle_worker_writes_nothing(handle: Any, store: Path) -> None:
    backend = await handle()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    await backend.apply([CreateInstance("unknown", "e", "unheard of", b""), CreateInstance("later", "f", "orch", b"", delay_us=HOUR_US)])
    await asyncio.sleep(0.05)  # the hint that these writes gave is over
    hints = backend.wakeups()
    waiting = asyncio.ensure_future(anext(hints))
    commits, before = backend.commits, files(store)
    for number in range(50):
        assert await claim(backend, f"c{number}") == 0
    await asyncio.sleep(0.3)
    assert (backend.commits, files(store)) == (commits, before)
    assert not waiting.done(), "nothing happened, nobody is woken"
    waiting.cancel()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    assert backend.commits == commits + 1, "a heartbeat is one write"


async def test_calls_that_are_made_together_share_a_commit(handle: Any) -> None:
    backend = await handle()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    commits = backend.commits
    calls: list[Any] = [backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", b"")]) for number in range(200)]
    await asyncio.gather(*calls, claim(backend, "c"), backend.heartbeat("w", ttl_us=HOUR_US))
    assert backend.commits - commits <= 3


async def test_a_refused_command_costs_no_commit(handle: Any) -> None:
    backend = await handle()
    commits = backend.commits
    await backend.apply([SendMessage(Message("m", "nobody", b""))])
    assert backend.commits == commits


async def test_wakeups_arrive_from_this_handle_and_from_others(handle: Any) -> None:
    mine, other = await handle(), await handle()
    hints = mine.wakeups()
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0.05)
    for backend, number in ((mine, 1), (other, 2), (mine, 3), (other, 4)):
        await backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", b"")])
        await asyncio.wait_for(waiting, 10)
        waiting = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(0.05)
        if waiting.done():  # a commit of this handle may be told twice, not more often
            waiting = asyncio.ensure_future(anext(hints))
    await mine.close()
    try:
        await asyncio.wait_for(waiting, 10)
    except StopAsyncIteration:
        pass
    else:
        raise AssertionError("the hints end with the handle")


async def test_an_end_is_told_to_whoever_waits_for_it(handle: Any, drive: Any) -> None:
    mine, other = await handle(), await handle()
    hub = await drive(mine)
    turn = await hub.started()
    for backend in (mine, other):
        hints = backend.wakeups()
        waiting = asyncio.ensure_future(_until_ended(hints))
        await asyncio.sleep(0.05)
        if backend is mine:
            await hub.commit(turn, record=ended())
        else:
            await hub.create("j", worker="w")
            await hub.one(Purge("j", force=True))
        await asyncio.wait_for(waiting, 10)


async def _until_ended(hints: Any) -> None:
    async for hint in hints:
        if hint.ended:
            return


def _count_syncs(log: str) -> int:
    return len(re.findall(r"^(?:\[pid +\d+\] |\d+ +)?f(?:data)?sync\(", log, re.MULTILINE))


def test_every_commit_is_synced_to_the_disk(store: Path, tmp_path: Path) -> None:
    """The counter against the system calls, where strace can be used."""
    program = [sys.executable, str(PROGRAMS / "some_commits.py"), str(store)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == 20
    strace, log = shutil.which("strace"), tmp_path / "strace.log"
    if strace is None:
        return
    traced = subprocess.run(
        [strace, "-f", "-o", str(log), "-e", "trace=fsync,fdatasync", *program], capture_output=True, text=True, timeout=60
    )
    if traced.returncode == 0:
        assert _count_syncs(log.read_text()) >= int(traced.stdout)
    else:
        assert "ptrace" in traced.stderr, traced.stderr
