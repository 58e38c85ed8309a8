"""Locks of the operating system beside the database file, in the folder ``<database>-workers``.

* ``Lives``: each incarnation holds a lock on a file of its own as long as its process lives. The kernel lets go of it whatever
  the process dies of, so who finds it unlocked has *proof* of the death, and need not wait for a heartbeat to run out.
* ``WriterQueue``: the writers of all processes queue here instead of hammering SQLite's lock (whose waiters sleep up to 100 ms
  between attempts and overtake each other: renewals behind another process's group commits had a p99 of 1.3 s).

``flock`` belongs to the open file, not to the process: two handles in one process exclude each other like two processes, and
closing some other descriptor of the file does not let go of the lock (with POSIX locks it does). A forked child would share the
lock and outlive its parent with it, so children close what they inherit. Where there is no ``flock`` (Windows) deaths are found
by expiry and SQLite's own lock has to do.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import time
from pathlib import Path

from durable_core.errors import StoreUnavailableError

if sys.platform != "win32":
    import fcntl

__all__ = ["PROVES_DEATH", "Lives", "WriterQueue", "folder_for"]

PROVES_DEATH = sys.platform != "win32"

_POLL_S_MIN, _POLL_S_MAX = 0.0001, 0.002
_inherited: set[int] = set()


def _close_inherited() -> None:
    """In a forked child: an inherited descriptor would keep the parent's locks when the parent is dead."""
    for descriptor in _inherited:
        os.close(descriptor)
    _inherited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def folder_for(database: Path) -> Path:
    return database.with_name(database.name + "-workers")


def _open(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
    _inherited.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor in _inherited:  # otherwise this is a forked child, which has closed it already
        _inherited.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool = False) -> bool:
    """Without waiting; whether it was free."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class WriterQueue:
    """A turnstile: whoever is next holds ``queue`` while it waits for ``writer``. Who has just written and wants to write again finds
    ``queue`` taken, so it cannot overtake. Polling rather than a blocking ``flock``, which knows no limit of waiting.

    While nobody waits, ``queue`` is left out: a byte of shared memory says whether somebody does. (A system call lets go of the
    GIL, which a busy thread then keeps for 5 ms.) If whoever waits dies, the byte stays set until the next one has passed the
    turnstile: slower, not wrong.
    """

    def __init__(self, folder: Path, wait_s_max: float) -> None:
        self._wait_s_max = wait_s_max
        self._where = folder
        self._queue = _open(folder / "queue", os.O_CREAT)
        self._writer = _open(folder / "writer", os.O_CREAT)
        os.truncate(self._queue, 1)
        self._waiting = mmap.mmap(self._queue, 1)

    def acquire(self) -> None:
        """Raises ``StoreUnavailableError`` when ``wait_s_max`` is over."""
        if self._waiting[0] or not _lock(self._writer):
            self._pass_the_turnstile()

    def _pass_the_turnstile(self) -> None:
        deadline = time.monotonic() + self._wait_s_max
        self._wait_for(self._queue, deadline, _POLL_S_MAX)
        self._waiting[0] = 1
        try:
            self._wait_for(self._writer, deadline, _POLL_S_MIN)
        finally:
            self._waiting[0] = 0
            _unlock(self._queue)

    def release(self) -> None:
        _unlock(self._writer)

    def close(self) -> None:
        self._waiting.close()
        _close(self._queue)
        _close(self._writer)

    def _wait_for(self, descriptor: int, deadline: float, pause: float) -> None:
        """Ever more often, so that of several who wait the oldest is the likeliest to be next."""
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                text = f"another process has held the write lock in {self._where} for {self._wait_s_max:g} s"
                raise StoreUnavailableError(f"{text}: look for one that is stopped (SIGSTOP, a debugger)")
            time.sleep(pause)
            pause = max(pause * 0.8, _POLL_S_MIN)


class Lives:
    """The locks that prove whether incarnations live: ``hold`` one's own, ask about others'."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, worker: str) -> None:
        """From now until ``bury``, or the end of this process, the incarnation is provably alive. To be called *before* it is
        registered in the store."""
        if worker in self._held:
            return
        path = self._path(worker)
        while True:
            try:
                descriptor = _open(path, os.O_CREAT)
            except OSError:
                return  # a full disk, a folder that was removed: then its death will be found by expiry
            locked = _lock(descriptor)
            if locked and _is_at(descriptor, path):
                self._held[worker] = descriptor
                return
            _close(descriptor)
            if not locked:
                return  # another handle vouches for this incarnation

    def is_dead(self, worker: str) -> bool:
        """Whether that is proven. A missing file proves nothing: somebody may have cleaned up, or copied the database alone."""
        if worker in self._held or not PROVES_DEATH:
            return False
        try:
            descriptor = _open(self._path(worker), 0)
        except OSError:
            return False
        try:
            return _lock(descriptor, shared=True)  # shared: two that ask at once both learn it
        finally:
            _close(descriptor)

    def bury(self, worker: str) -> None:
        """The store has given up the incarnation (or it went by itself): remove its file. One of another process that lives on
        keeps an unlinked file: harmless."""
        try:
            self._path(worker).unlink(missing_ok=True)
        except OSError:
            pass  # a file more in the folder, nothing else
        descriptor = self._held.pop(worker, None)
        if descriptor is not None:
            _close(descriptor)

    def drop_all(self) -> None:
        """As the kernel does when a process dies: unlock, leave the files."""
        for descriptor in self._held.values():
            _close(descriptor)
        self._held.clear()

    def _path(self, worker: str) -> Path:
        # Hashed: a worker's name is any text, and some file systems do not tell upper from lower case.
        name = hashlib.sha256(worker.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self._folder / f"{name}.alive"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that was locked is still the one under that name (another may have been unlinked in between)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
