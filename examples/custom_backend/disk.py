"""The four things that are done to a disk, the lock that all handles share, and what the system's errors mean.

Everything that changes a file goes through a ``Disk``. A test puts another one in its place, which dies between any two steps and forgets
what was not synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from durable_core.errors import StoreError, StoreFormatError, StoreFullError, StoreReadOnlyError, StoreUnavailableError


class Disk:
    """Nothing but ``sync`` makes anything survive a power failure: of a file its bytes, of a folder its names."""

    def write(self, path: Path, data: bytes) -> None:
        """Make or overwrite a file, its folders too. Not atomic: see log.py."""
        try:
            path.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def sync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, path: Path, to: Path) -> None:
        """Atomic; replaces what is there."""
        path.replace(to)

    def remove(self, path: Path) -> None:
        """A file, or a folder and all in it; what is missing already is no error."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


DISK = Disk()


class Lock:
    """One handle at a time, of all processes. The file also keeps the latest time that anybody was told.

    ``flock`` and not ``lockf``: locks of the latter kind belong to the process, so that two handles in one would not exclude each other, and
    closing any one descriptor of the file would let go of all. The system lets go of a lock when its process dies.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._wait_s = wait_s

    @contextmanager
    def held(self) -> Iterator[None]:
        # Not a blocking call: a stopped process must not stop all others for ever.
        give_up = time.monotonic() + self._wait_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    raise StoreUnavailableError(f"another process has had the store for {self._wait_s:g} s: is it stopped?") from error
                time.sleep(0.001)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def not_before(self, now_us: int) -> int:
        """``now_us``, unless somebody was told a later time. A lock file that is lost with the power loses nothing: what was acknowledged
        has its time in the counters."""
        now_us = max(now_us, int(os.pread(self._file, 20, 0) or 0))
        os.pwrite(self._file, b"%020d" % now_us, 0)
        return now_us

    def close(self) -> None:
        os.close(self._file)


def translated(error: OSError | msgspec.DecodeError | ValueError) -> StoreError:
    """The one place where the system's errors become ours."""
    match error:
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return StoreFullError(f"the disk is full; nothing was written, and work goes on when there is space: {error}")
        case OSError(errno=errno.EROFS | errno.EACCES | errno.EPERM):
            return StoreReadOnlyError(f"the folder cannot be written: {error}")
        case OSError():
            return StoreUnavailableError(f"the file system does not answer as it should; the call may be repeated: {error}")
        case _:
            return StoreFormatError(f"a file of the store is damaged: {error}")
