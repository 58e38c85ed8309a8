"""The throw-away server: it is gone when its process is, and says what is missing when it cannot be."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from durable_core.errors import StoreUnavailableError
from durable_postgres import open_backend, servers
from durable_postgres.servers import Server, find_programs

KILLED = """
import sys
from durable_postgres.servers import Server
server = Server()
server.start()
print(server.folder, server.url, flush=True)
sys.stdin.readline()
"""


async def test_it_is_removed_also_if_its_process_is_killed() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    folder, url = (await process.stdout.readline()).decode().split()
    backend = open_backend(url)
    await backend.open()
    await backend.close()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    deadline = time.monotonic() + 30
    while Path(folder).exists():  # noqa: ASYNC240  # it takes a microsecond
        assert time.monotonic() < deadline, "the folder is still there"
        await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailableError):
        await open_backend(url).open()


def test_what_it_needs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "_DEBIAN", tmp_path)
    monkeypatch.setattr(servers, "PACKAGE", "no-such-package")
    with pytest.raises(RuntimeError, match=r"pip install no-such-package.*DURABLE_TEST_POSTGRES=postgresql://"):
        Server()


def test_the_machines_newest_programs_come_before_those_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "_DEBIAN", tmp_path)
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert find_programs() == tmp_path / "17" / "bin"


def test_programs_of_the_package_work_wherever_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As root the server's user may not look into the environment: it gets a copy. Here the package is a link to the machine's programs."""
    programs = find_programs()
    package = tmp_path / "a_package"
    package.mkdir(0o700)
    (package / "__init__.py").touch()
    (package / "pginstall").symlink_to(programs.parent, target_is_directory=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(servers, "_DEBIAN", tmp_path)
    monkeypatch.setattr(servers, "PACKAGE", "a-package")
    assert find_programs() == package / "pginstall" / "bin"
    with Server() as server:
        server.restart()
    assert not server.folder.exists()
