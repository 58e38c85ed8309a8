"""One file: read, parsed, counted. Nothing in here knows of durable-core."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from examples.index_stdlib.records import FileReport

__all__ = ["analyse", "python_files"]


def python_files(root: Path) -> list[str]:
    """All ``.py`` files under ``root``, relative to it and sorted; ``site-packages`` is other people's code."""
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if "site-packages" not in path.parts and not path.is_dir()
    )


def analyse(root: Path, path: str) -> FileReport:
    """Raises ``OSError`` if the file cannot be read, ``SyntaxError`` and its like if it does not parse."""
    source = (root / path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old tests hold invalid escapes
        tree = ast.parse(source, filename=path)
    nodes = list(ast.walk(tree))
    return FileReport(
        path=path,
        lines=len(source.splitlines()),
        functions=sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=sorted({module for node in nodes for module in _imported(node)}),
    )


def _imported(node: ast.AST) -> Iterator[str]:
    """Top-level modules; relative imports name no module that others could import."""
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield alias.name.partition(".")[0]
        case ast.ImportFrom(module=str(module), level=0):
            yield module.partition(".")[0]
