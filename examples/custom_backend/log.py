"""Several files change together or not at all.

A change is first written down as a whole, as an *intent*: ``log/N.intent``. It counts from the moment at which it has that name and the name
is on the disk. Only then the files themselves are written, in place, unsynced; then the intent is called ``log/N.done``.

* A process that dies before the rename has changed nothing; one that dies after it leaves an ``.intent``. Whoever gets the lock next
  carries it out (again): it holds whole files, so twice is the same as once.
* After a power failure, the files may hold anything that was written since the last *checkpoint*. Whoever opens the store therefore carries
  out all that is in the log, in order.
* A checkpoint syncs the files that the log names, and only then removes it. Removals may reach the disk in any order, and an old intent
  without the later ones would undo these: so ``log/N.checkpoint`` first says, durably, that everything up to N is void.

This costs two syncs a commit, however many files it touches.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import msgpack

from durable_core.errors import StoreUnavailableError
from examples.custom_backend.disk import Disk

Changes = list[tuple[str, bytes | None]]
"""Paths, and what is in them from now on; None: nothing. In order."""

CHECKPOINT_AFTER = 64


class Log:
    """All but the constructor must be called under the store's lock."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self._root, self._folder, self._disk = root, root / "log", disk

    def redo(self, *, everything: bool = False) -> None:
        """Before anything is read: carry out what somebody who died has left. ``everything`` that the log has, for whoever opens the store:
        nobody knows what of it a power failure took back."""
        checkpoint, numbers = self._numbers()
        for number in sorted(numbers):
            if number > checkpoint and (everything or numbers[number] == ".intent"):
                self._carry_out(number, numbers[number])

    def commit(self, changes: Changes) -> None:
        """Returns when the changes are durable. If it fails before the intent has its name, nothing has happened."""
        checkpoint, numbers = self._numbers()
        number = max((checkpoint, *numbers)) + 1
        self._name(self._folder / f"{number:012}.intent", msgpack.encode(changes))
        try:
            self._disk.sync(self._folder)
            self._carry_out(number, ".intent")
            if len(numbers) >= CHECKPOINT_AFTER:
                self._checkpoint(number)
        except OSError as error:
            # It is written, or will be by whoever comes next: its author has to ask.
            raise StoreUnavailableError(f"whether the commit is on the disk is not known; repeat it: {error}") from error

    def _numbers(self) -> tuple[int, dict[int, str]]:
        """The last checkpoint, and what the log holds."""
        entries = [path for path in self._folder.iterdir() if path.stem.isdigit()]
        checkpoint = max((int(path.stem) for path in entries if path.suffix == ".checkpoint"), default=0)
        return checkpoint, {int(path.stem): path.suffix for path in entries if path.suffix != ".checkpoint"}

    def _name(self, path: Path, data: bytes) -> None:
        """A file that is there with all its bytes, or not at all."""
        temporary = self._folder / "temporary"
        self._disk.write(temporary, data)
        self._disk.sync(temporary)
        self._disk.rename(temporary, path)

    def _read(self, path: Path) -> Changes:
        return msgpack.decode(path.read_bytes(), type=Changes)

    def _carry_out(self, number: int, suffix: str) -> None:
        path = self._folder / f"{number:012}{suffix}"
        for name, data in self._read(path):
            if data is None:
                self._disk.remove(self._root / name)
            else:
                self._disk.write(self._root / name, data)
        if suffix == ".intent":
            self._disk.rename(path, path.with_suffix(".done"))

    def _checkpoint(self, number: int) -> None:
        old = [path for path in self._folder.iterdir() if path.stem.isdigit()]
        names = {name for path in old if path.suffix == ".done" for name, _ in self._read(path)}
        files = {self._root / name for name in names}
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self._root)}
        for path in (*sorted(files), *sorted(folders)):
            if path.exists():
                self._disk.sync(path)
        self._name(self._folder / f"{number:012}.checkpoint", b"")
        self._disk.sync(self._folder)
        for path in old:
            self._disk.remove(path)
