"""A disk that dies: before any of its steps, or in the middle of a write; and that forgets, in the worst way, what was not synced."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import define, field

from examples.custom_backend.disk import Disk

NEVER = -1


class DiedError(BaseException):
    """Nothing that a program could handle."""


@define(eq=False)
class Bytes:
    """A file: what of it is there after a power failure."""

    kept: bytes


@define
class DyingDisk(Disk):
    """``durable``: the names in each folder when it was last synced, and the files that they meant (None: a folder)."""

    root: Path
    dies_at: int = NEVER
    steps: int = 0
    files: dict[Path, Bytes] = field(factory=dict)
    durable: dict[Path, dict[str, Bytes | None]] = field(factory=dict)
    removed: set[Path] = field(factory=set)

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise DiedError

    def write(self, path: Path, data: bytes) -> None:
        """What was overwritten and not synced may be torn, now or by a power failure."""
        self._step()
        half = data[: len(data) // 2]
        super().write(path, half)
        self.removed.discard(path)
        self.files.setdefault(path, Bytes(half)).kept = half
        self._step()
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._step()
        super().sync(path)
        if path.is_file():
            self.files[path].kept = path.read_bytes()
        else:
            self.durable[path] = self._names(path)

    def rename(self, path: Path, to: Path) -> None:
        self._step()
        super().rename(path, to)
        self.removed.discard(to)
        self.files[to] = self.files.pop(path)

    def remove(self, path: Path) -> None:
        """A folder goes file by file."""
        for file in sorted(file for file in self.files if file == path or path in file.parents):
            self._step()
            super().remove(file)
            del self.files[file]
            self.removed.add(file)
        self._step()
        super().remove(path)

    def cut_power(self) -> None:
        """Leave of the folder what a power failure leaves at the least. Of removals that were not synced the first is taken back, the others
        are not: they may reach the disk in any order."""
        shutil.rmtree(self.root)
        self._restore(self.root)

    def _restore(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        durable = self.durable.get(folder, {})
        gone = sorted(name for name in durable if folder / name in self.removed)[1:]
        for name, file in durable.items():
            if name in gone:
                continue
            if file is None:
                self._restore(folder / name)
            else:
                (folder / name).write_bytes(file.kept)

    def found(self) -> DyingDisk:
        """Another one on what lies in the folder now, all of it durable."""
        disk = DyingDisk(self.root)
        disk.files = {file: Bytes(file.read_bytes()) for file in self.root.rglob("*") if file.is_file() and file.name != "lock"}
        for folder in (self.root, *(path for path in self.root.rglob("*") if path.is_dir())):
            disk.durable[folder] = disk._names(folder)
        return disk

    def _names(self, folder: Path) -> dict[str, Bytes | None]:
        return {path.name: self.files.get(path) for path in folder.iterdir() if path.name != "lock"}
