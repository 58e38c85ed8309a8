"""What is known of a file, of a chunk of files, and of them all.

An ``Index`` stands for any number of files; merging is associative and commutative, so the end result does not depend on which file was
done first. It stays small however many files it stands for: its lists are cut to ``TOP``, and ``imports`` has an entry for each
top-level module, of which there are some hundreds.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

__all__ = ["TOP", "Chunk", "Failure", "FileReport", "Index", "Job", "merged"]

TOP = 10


@frozen
class Job:
    """All ``.py`` files under ``root``, in chunks of ``chunk_size``."""

    root: str
    chunk_size: int = 50


@frozen
class Chunk:
    """``paths`` are relative to ``root``; ``progress`` is the key of the entity that counts them."""

    root: str
    progress: str
    paths: list[str]


@frozen
class FileReport:
    """``imports`` are the top-level modules that the file imports, each once."""

    path: str
    lines: int
    functions: int
    classes: int
    imports: list[str]


@frozen
class Failure:
    """A file that cannot be read or does not parse, and why."""

    path: str
    reason: str


@frozen
class Size:
    path: str
    lines: int
    functions: int
    classes: int


@frozen
class Index:
    """``files`` counts those that parse, ``failed`` the others. ``imports``: module → how many files import it.

    ``largest`` is sorted by lines, ``failures`` by path; both are cut to ``TOP``.
    """

    files: int = 0
    failed: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    largest: list[Size] = field(factory=list)
    imports: dict[str, int] = field(factory=dict)
    failures: list[Failure] = field(factory=list)

    @classmethod
    def of(cls, report: FileReport) -> Index:
        size = Size(report.path, report.lines, report.functions, report.classes)
        return cls(1, 0, report.lines, report.functions, report.classes, [size], dict.fromkeys(report.imports, 1), [])

    @classmethod
    def of_failure(cls, failure: Failure) -> Index:
        return cls(failed=1, failures=[failure])

    def most_imported(self) -> list[tuple[str, int]]:
        return sorted(self.imports.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP]


def merged(parts: Iterable[Index]) -> Index:
    """One index for what the parts stand for."""
    parts = list(parts)
    imports: dict[str, int] = {}
    for part in parts:
        for module, files in part.imports.items():
            imports[module] = imports.get(module, 0) + files
    return Index(
        files=sum(part.files for part in parts),
        failed=sum(part.failed for part in parts),
        lines=sum(part.lines for part in parts),
        functions=sum(part.functions for part in parts),
        classes=sum(part.classes for part in parts),
        largest=sorted((size for part in parts for size in part.largest), key=lambda size: (-size.lines, size.path))[:TOP],
        imports=dict(sorted(imports.items())),
        failures=sorted((failure for part in parts for failure in part.failures), key=lambda failure: failure.path)[:TOP],
    )
