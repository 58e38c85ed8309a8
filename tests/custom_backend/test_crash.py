"""The store of examples/custom_backend dies at every step of every call: of the process, and of the machine.

A reference run notes what lies in the folder after each call. A run that dies in call N must leave, once reopened, exactly what was there
before N or after it; and N submitted again must lead to what is there after it.

Every third step is tried, other ones in each call; with DURABLE_POINTS=all every step.
"""

from __future__ import annotations

import asyncio
import copy
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from durable_core.backend import (
    AbandonWorker,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Message,
    NewTask,
    NextExecution,
    ParentRef,
    Purge,
    Selectors,
    SendMessage,
)
from examples.custom_backend import FilesBackend
from examples.custom_backend import log as log_module
from tests.custom_backend.disk import NEVER, DiedError, DyingDisk

ALL = Selectors(frozenset({"orch"}), frozenset({"act"}), frozenset({"counter"}))
HOUR_US = 3_600_000_000
STRIDE = 1 if os.environ.get("DURABLE_POINTS") == "all" else 3
Call = Callable[[FilesBackend], Awaitable[Any]]


def message(id: str, target: str, **fields: Any) -> Message:
    return Message(id, target, b'"payload"', **fields)


def turn(version: int, **fields: Any) -> CommitTurn:
    return CommitTurn("a", "a1", 1, version, "w", f"commit {version}", b"[1]", 1, hold_us=HOUR_US, **fields)


CALLS: list[Call] = [
    lambda store: store.heartbeat("w", ttl_us=HOUR_US),
    lambda store: store.apply(
        [CreateInstance("a", "a1", "orch", b"start", "r1", worker="w"), CreateInstance("b", "b1", "orch", b"", "r2")]
    ),
    lambda store: store.apply([SendMessage(message("m1", "a")), SendMessage(message("m2", "b")), SendMessage(message("m1", "a"))]),
    lambda store: store.apply(
        [
            turn(
                0,
                consumes=("m1",),
                tasks=(NewTask("t1", "act", b"in", claim=True), NewTask("t2", "act", b"in")),
                timers=(message("timer", "a", due_us=1 << 52),),
                messages=(message("to b", "b"), message("to e", "@counter@k", creates="counter")),
                creates=(CreateInstance("child", "c1", "orch", b"", parent=ParentRef("a", "a1")),),
                obituaries=(message("obituary", "b"),),
            ),
            SendMessage(message("m3", "child")),
        ]
    ),
    lambda store: store.claim("w", claim_id="claim", turns=10, tasks=10, selectors=ALL),
    lambda store: store.apply([CompleteTask("t2", message("t2", "a", execution="a1")), turn(1, settles=("t1",), cancel_timers=("timer",))]),
    lambda store: store.apply([turn(2, consumes=("t2",), next_execution=NextExecution("a2", b"again"))]),
    lambda store: store.apply([CreateInstance("a", "a3", "orch", b"new", "r3", reuse="terminate_and_replace", obituaries=())]),
    lambda store: store.apply([Purge("a", force=True), AbandonWorker("w")]),
    lambda store: store.apply([SendMessage(message("m4", "b", execution="b1")), Purge("child", force=True)]),
]


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the lock and the log."""
    files = [file for file in root.rglob("*") if file.is_file() and file.name != "lock" and file.parent.name != "log"]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def store_on(disk: DyingDisk) -> FilesBackend:
    return FilesBackend(disk.root, clock_us=lambda: 1_700_000_000_000_000, disk=disk)


async def visit(disk: DyingDisk, call: Call | None, dies_at: int = NEVER) -> int:
    """A process that opens the store and makes one call; how many steps that call took. It dies at one of them, or (without a call) at one
    of the steps of opening."""
    store = store_on(disk)
    disk.steps, disk.dies_at = 0, dies_at if call is None else NEVER
    try:
        await store.open()
        if call is not None:
            disk.steps, disk.dies_at = 0, dies_at
            await call(store)
        return disk.steps
    finally:
        disk.dies_at = NEVER
        await store.close()


async def recovered(disk: DyingDisk, *, power: bool, seed: int) -> DyingDisk:
    """Open what is left; whoever does so dies on the way, too, if there is enough of a way."""
    for dies_at in (seed % 11 + 1, NEVER):
        if power:
            disk.cut_power()
            disk = disk.found()
        try:
            await visit(disk, None, dies_at)
        except DiedError:
            pass
    return disk


async def die_and_recover(disk: DyingDisk, call: Call | None, step: int, *, power: bool) -> DyingDisk:
    """After the death of a process, another that had the store open goes on with it; after a power failure it is opened anew."""
    survivor = None
    if call is not None and not power:
        survivor = store_on(disk)
        await survivor.open()
    with pytest.raises(DiedError):
        await visit(disk, call, step)
    if survivor is None:
        return await recovered(disk, power=power, seed=step)
    await survivor.get_instances(["a"])
    await survivor.close()
    return disk


def run(root: Path, *, power: bool) -> int:
    """Every point of every call; how many there were."""
    spare, points = root.with_name("spare"), 0
    disk = DyingDisk(root)
    for number, call in enumerate([None, *CALLS]):
        before, disk_before = contents(root), copy.deepcopy(disk)
        if root.exists():
            shutil.copytree(root, spare)
        steps = asyncio.run(visit(disk, call))
        after, disk_after = contents(root), disk
        assert before != after, f"call {number} did nothing"
        finished = shutil.copytree(root, root.with_name("finished"))
        for step in range(1 + number % STRIDE, steps + 1, STRIDE):
            shutil.rmtree(root)
            if spare.exists():
                shutil.copytree(spare, root)
            disk = copy.deepcopy(disk_before)
            disk = asyncio.run(die_and_recover(disk, call, step, power=power))
            found = contents(root)
            assert found in ([after] if call is None else [before, after]), f"call {number} is half there after a death at step {step}"
            asyncio.run(visit(disk, call))
            assert contents(root) == after, f"call {number}, repeated after a death at step {step}, gives something else"
        points += steps
        shutil.rmtree(root)
        finished.rename(root)
        shutil.rmtree(spare, ignore_errors=True)
        disk = disk_after
    return points


@pytest.mark.parametrize("power", [False, True], ids=["process", "machine"])
def test_each_command_is_whole_or_absent_after_a_death_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: bool) -> None:
    monkeypatch.setattr(log_module, "CHECKPOINT_AFTER", 3)
    assert run(tmp_path / "hub", power=power) > 200
