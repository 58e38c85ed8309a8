"""Replay may name ``random`` and ``uuid`` for what is computed from a seed or a name, never for what is drawn.

That no pure module imports a clock, a store, a socket or a thread is a contract of import-linter in pyproject.toml; this test
covers the four imports that the contract lets through.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPLAY = Path(__file__).resolve().parents[2] / "durable_core" / "replay"

COMPUTED = {"random": {"Random"}, "uuid": {"UUID", "uuid5", "NAMESPACE_OID"}}


def names_used(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) for ``from module import name`` and ``module.name``, also under an alias."""
    aliases = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in COMPUTED
    }
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module in COMPUTED:
                yield from ((node.lineno, module, alias.name) for alias in names)
            case ast.Attribute(value=ast.Name(id=name)) if name in aliases:
                yield node.lineno, aliases[name], node.attr


def drawn(source: str) -> list[str]:
    return [f"line {line} uses {module}.{name}" for line, module, name in names_used(ast.parse(source)) if name not in COMPUTED[module]]


@pytest.mark.parametrize("file", sorted(REPLAY.rglob("*.py")), ids=lambda file: file.name)
def test_replay_draws_nothing(file: Path) -> None:
    assert not drawn(file.read_text())


@pytest.mark.parametrize("source", ["from random import choice", "import random as r\nr.random()", "import uuid\nx = uuid.uuid4()"])
def test_a_draw_is_seen(source: str) -> None:
    assert len(drawn(source)) == 1
