"""Starting the program, watching it, and killing it: by the process's own id, never by a name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.crash.stores import Row, Store

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.crash.program"
KILLS = int(os.environ.get("DURABLE_KILLS") or 12)
LONG = KILLS >= 100
"""Whether this is the long run: every point, more of everything."""
TIMEOUT_S = 0 if LONG else 400
"""Of one test; none in the long run."""
PATIENCE_S = 60.0
"""How long anything may take before a test is given up. The machine may be busy."""


def strace_works() -> bool:
    """Whether it is there and may trace."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


@define
class Death:
    """A process that was killed, and until when it lived at least."""

    pid: int
    at: float


@define
class Place:
    """Where a test's effect log and error outputs are, a new folder, and its store."""

    folder: Path
    store: Store
    deaths: list[Death] = field(factory=list)
    children: list[Child] = field(factory=list)

    @property
    def url(self) -> str:
        return self.store.url

    @property
    def log(self) -> Path:
        return self.folder / "effects"

    def start(self, mode: str, *more: str, program: str = PROGRAM, wrapper: tuple[str, ...] = ()) -> Child:
        child = Child(self, program, mode, *more, number=len(self.children) + 1, wrapper=wrapper)
        self.children.append(child)
        return child

    def start_worker(self, *more: str, **options: object) -> Child:
        """``options`` are ``WorkerOptions``. It works until ``stop``."""
        return self.start("work", "--stop", str(self.folder / "stop"), "--options", json.dumps(options), *more)

    def left(self) -> int:
        """Orchestrations that have not ended."""
        [(count,)] = self.store.rows("SELECT count(*) FROM instances WHERE status IN ('PENDING', 'RUNNING')")
        assert isinstance(count, int)
        return count

    def registered(self) -> list[Row]:
        """Workers that live, or whose death nobody has noticed yet."""
        return self.store.rows("SELECT id FROM workers")

    def stop(self) -> None:
        """Workers may end."""
        (self.folder / "stop").touch()

    def make_way(self) -> None:
        """For workers after those that were stopped."""
        (self.folder / "stop").unlink(missing_ok=True)

    def copy(self) -> Store:
        """The store as it lies there, to be looked at."""
        return self.store.as_it_lies(self.folder / "copy")

    def leave(self) -> None:
        """Nobody stays behind, also when the test has failed."""
        for child in self.children:
            child.kill()
        self.store.close()

    def remove(self) -> None:
        """Of a test that has passed. Of one that failed, the folder stays to be looked at."""
        shutil.rmtree(self.folder)

    def errors(self) -> str:
        """What all processes wrote to stderr."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("*.err")))


class Child:
    """A running process of a program. ``wrapper`` is a command that runs it, as strace does."""

    def __init__(self, place: Place, program: str, mode: str, *more: str, number: int, wrapper: tuple[str, ...] = ()) -> None:
        self._place = place
        self._wrapped = bool(wrapper)
        self._out = place.folder / f"{number}.out"
        self._err = place.folder / f"{number}.err"
        self._reports: list[tuple[str, float]] = []
        self._news = threading.Condition()
        reading, writing = os.pipe()
        command = [*wrapper, sys.executable, "-m", program, mode]
        command += ["--url", place.url, "--log", str(place.log), "--report", str(writing), *more]
        self.started = time.time()
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=(writing,), start_new_session=True
            )
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The program's, also if something runs it."""
        return int(next(iter(self.times("process")), self.process.pid))

    def _read(self, descriptor: int) -> None:
        with open(descriptor, "rb") as pipe:
            for line in pipe:
                what, _, at = line.decode().partition(" ")
                with self._news:
                    self._reports.append((what, float(at)))
                    self._news.notify_all()
        with self._news:
            self._reports.append(("end", time.time()))
            self._news.notify_all()

    def times(self, what: str) -> list[float]:
        """When the process reported this, so far."""
        with self._news:
            return [at for name, at in self._reports if name == what]

    def wait_for(self, what: str, count: int = 1) -> bool:
        """Until it has reported this so often; False if it ended before."""
        with self._news:
            arrived = self._news.wait_for(lambda: self._heard(what) >= count or self._heard("end"), PATIENCE_S)
            assert arrived, f"nothing was heard of {what!r} in {PATIENCE_S:g} s; stderr: {self._err.read_text()}"
            return self._heard(what) >= count

    def wait_until(self, at: float) -> bool:
        """Until this time; False if it ended before."""
        with self._news:
            return not self._news.wait_for(lambda: self._heard("end"), max(0.0, at - time.time()))

    def _heard(self, what: str) -> int:
        return sum(name == what for name, _ in self._reports)

    def kill(self) -> bool:
        """kill -9; False if it had ended by itself."""
        alive = time.time()
        if self._wrapped and self.process.poll() is None:
            self.send_to_group(signal.SIGKILL)  # what strace runs would outlive it
        self.process.kill()  # does nothing if it has ended
        status = self.process.wait()
        self._reader.join(PATIENCE_S)
        if status == -signal.SIGKILL:
            self._place.deaths.append(Death(self.pid, alive))
        return status == -signal.SIGKILL

    def wait_for_death(self) -> int:
        """It kills itself, or ends as it should; the status."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        if status != 0:
            seen_alive = [at for what, at in self._reports if what not in ("process", "end")]
            self._place.deaths.append(Death(self.pid, max(seen_alive, default=self.started)))
        return status

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """As a terminal does: to its children too. It leads a session of its own, in which is nobody else."""
        assert self.process.poll() is None
        os.killpg(self.process.pid, number)

    def finish(self, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for a clean end; what it printed."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {timeout:g} s; stderr: {self._err.read_text()}") from None
        self._reader.join(PATIENCE_S)
        assert status == 0, f"ended with {status}; stderr: {self._err.read_text()}"
        answer: dict[str, Any] = json.loads(self._out.read_text())
        return answer
