"""The guard judges what the orchestrator's own code does, and nothing else that happens during its turn."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import pdb
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError, orchestrator
from durable_core.runtime.worker.guard import TurnGuard
from tests.runtime.support import PATIENCE, engine_with


@pytest.fixture
def turn(run: Any) -> Callable[[Callable[[], Any]], Any]:
    """Call a function in a turn of an orchestrator, and give what it returns."""

    def in_turn(function: Callable[[], Any]) -> Any:
        @orchestrator
        async def calling(ctx: OrchestrationContext) -> Any:
            return function()

        async def main() -> Any:
            engine: DurableEngine = engine_with(calling)
            async with engine.open("memory://"):
                return await (await engine.client.schedule_new_orchestration(calling)).result(PATIENCE)

        return run(main)

    return in_turn


@pytest.fixture
def note(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Writes a file, which is I/O of whoever calls it; afterwards it must have been called."""
    path = tmp_path / "note"

    def write(*_: object) -> None:
        with path.open("a") as file:
            file.write("x")

    yield write
    assert path.read_text() == "x"


ONE_ZONE = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 7200, 0, 0) + b"ABC\0"


def test_a_time_zone_is_loaded_in_a_turn(turn, tmp_path):
    """Of a database of our own: a machine may have none."""
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Somewhere").write_bytes(ONE_ZONE)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    try:
        at = datetime(2026, 7, 1, 12, tzinfo=UTC)
        assert turn(lambda: at.astimezone(zoneinfo.ZoneInfo("Europe/Somewhere")).isoformat()) == "2026-07-01T14:00:00+02:00"
    finally:
        zoneinfo.reset_tzpath(to=before)


def test_what_libraries_read_of_themselves_is_let_through(turn):
    import importlib.metadata
    import importlib.resources
    import inspect
    import mimetypes

    def reading() -> list[Any]:
        mimetypes.init()
        return [
            importlib.metadata.version("msgspec") != "",
            importlib.resources.files("json").joinpath("__init__.py").read_text() != "",
            Path(os.__file__).read_bytes() != b"",
            len(list(Path(pytest.__file__).parent.iterdir())) > 0,
            inspect.getsource(test_what_libraries_read_of_themselves_is_let_through) != "",
            mimetypes.guess_type("a.html")[0],
        ]

    assert turn(reading) == [True, True, True, True, True, "text/html"]


@pytest.mark.parametrize(
    "doing",
    [
        lambda path: path.read_text(),
        lambda path: path.write_text("x"),
        lambda path: os.open(path, os.O_RDONLY),
        lambda path: Path(os.__file__).with_name("durable-core-test.txt").write_text("x"),
        lambda path: list(path.parent.iterdir()),
        lambda path: socket.create_connection(("127.0.0.1", 9)),
        lambda path: subprocess.run([sys.executable, "-V"], check=True),
    ],
)
def test_what_the_orchestrator_does_itself_is_refused(turn, tmp_path, doing):
    path = tmp_path / "file"
    path.write_text("content")
    with pytest.raises(OrchestrationFailedError, match=r"does I/O: .*test_guard.py:\d+"):
        turn(lambda: doing(path))
    assert path.read_text() == "content"


class Cyclic:
    """Only the garbage collector finds it."""

    def __init__(self) -> None:
        self.itself = self


class Noting(Cyclic):
    def __init__(self, note: Callable[[], None]) -> None:
        super().__init__()
        self.note = note

    def __del__(self) -> None:
        self.note()


def collecting(prepare: Callable[[], object]) -> int:
    """Something of the host's becomes garbage, and is collected in this turn."""
    prepare()
    gc.collect()
    return 1


def generator(note: Callable[[], None], itself: list[Any]) -> Iterator[int]:
    try:
        yield len(itself)
    finally:
        note()


def garbage_generator(note: Callable[[], None]) -> None:
    itself = list[Any]()
    itself.append(generator(note, itself))
    next(itself[0])


REFERENCES: list[Any] = []


def garbage_with_reference(note: Callable[[object], None]) -> None:
    REFERENCES.append(weakref.ref(Cyclic(), note))


GARBAGE: dict[str, Callable[[Callable[..., None]], object]] = {
    "__del__": lambda note: Noting(note),
    "weakref.finalize": lambda note: weakref.finalize(Cyclic(), note),
    "weakref.ref": garbage_with_reference,
    "generator": garbage_generator,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_finalizers_that_a_garbage_collection_runs_are_the_hosts(turn, note, kind):
    gc.collect()
    gc.disable()
    try:
        assert turn(lambda: collecting(lambda: GARBAGE[kind](note))) == 1
    finally:
        gc.enable()


def test_callbacks_of_the_garbage_collector_are_the_hosts(turn, note):
    def once(phase: str, _info: object) -> None:
        if phase == "start":
            gc.callbacks.remove(once)
            note()

    def collect() -> int:
        gc.callbacks.append(once)
        gc.collect()
        return 1

    assert turn(collect) == 1


@pytest.mark.parametrize("kind", ["function", "variable", "method"])
def test_a_signal_handler_is_the_hosts(turn, note, kind):
    class Handling:
        def method(self, number: int, frame: object) -> None:
            helper()

    def function(number: int, frame: object) -> None:
        signal.signal(signal.SIGUSR1, before)
        helper()

    def variable(*args: object) -> None:
        helper()

    def helper() -> None:
        note()

    before = signal.signal(signal.SIGUSR1, {"function": function, "variable": variable, "method": Handling().method}[kind])

    def interrupted() -> int:
        signal.raise_signal(signal.SIGUSR1)
        return sum(range(1000))

    try:
        assert turn(interrupted) == 499500
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("hook", ["settrace", "setprofile"])
def test_tracers_and_profilers_are_the_hosts(turn, note, hook):
    before = getattr(sys, hook.replace("set", "get"))()

    def trace(frame: Any, event: str, arg: object) -> None:
        getattr(sys, hook)(before)
        note()

    def traced() -> int:
        def called() -> int:
            return 1

        getattr(sys, hook)(trace)
        return called()

    try:
        assert turn(traced) == 1
    finally:
        getattr(sys, hook)(before)


def test_the_debugger_stops_in_an_orchestrator_and_the_watchdog_is_silent(turn, tmp_path, monkeypatch, caplog):
    """``breakpoint()`` reads ``~/.pdbrc``, and a person takes his time."""
    guard = TurnGuard.install()
    typed: list[str] = []

    class Person(io.StringIO):
        def readline(self, *_: Any) -> str:  # type: ignore[override]
            typed.append("line")
            if len(typed) == 1:
                return "path.read_text()\n"
            deadline = time.monotonic() + 20
            while guard._told_of != guard._since and time.monotonic() < deadline:
                pass  # until the watchdog has looked
            return "continue\n"

    (tmp_path / ".pdbrc").write_text("up\ndown\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    path, said = tmp_path / ".pdbrc", io.StringIO()

    def stopping() -> int:
        found = path  # noqa: F841  # what the person looks at
        pdb.Pdb(stdin=Person(), stdout=said).set_trace()
        return 1

    with caplog.at_level(logging.WARNING, "durable_core.engine"):
        assert turn(stopping) == 1
    assert "up\\ndown" in said.getvalue()
    assert "blocked the engine" not in caplog.text
    assert len(typed) == 2


def test_a_log_handler_may_open_its_file(turn, tmp_path):
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logger = logging.getLogger("tests.guard")
    logger.addHandler(handler)
    try:
        assert turn(lambda: logger.warning("said")) is None
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert "said" in (tmp_path / "log").read_text()


def test_the_loop_of_the_host_may_open_files_between_turns(run, tmp_path):
    path = tmp_path / "file"
    path.write_text("content")

    @orchestrator
    async def waiting(ctx: OrchestrationContext) -> str:
        return await ctx.wait_for_external_event("go", return_type=str)

    async def main() -> None:
        engine = engine_with(waiting)
        async with engine.open("memory://"):
            handle = await engine.client.schedule_new_orchestration(waiting)
            await engine.client.wait_for_start(handle.id, PATIENCE)
            await engine.client.raise_event(handle.id, "go", await asyncio.to_thread(path.read_text))
            assert path.read_text() == await handle.result(PATIENCE)

    run(main)
