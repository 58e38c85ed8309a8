"""The import contracts in pyproject.toml have teeth: each breach below, made in a copy, is reported under its contract's name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "durable_core",
    "backends/sqlite/durable_sqlite",
    "backends/postgres/durable_postgres",
    "backends/azurite/durable_azure",
    "conformance_tests/durable_conformance",
)
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"


def lint_imports(copy: Path) -> tuple[int, str]:
    roots = os.pathsep.join(
        str(copy / folder) for folder in ("", "backends/sqlite", "backends/postgres", "backends/azurite", "conformance_tests")
    )
    ended = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": roots, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in FOLDERS:
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("durable_core/hub/__init__.py", "import time", "pure modules"),
        ("durable_core/replay/machine.py", "import uuid", "pure modules"),
        ("durable_core/events.py", "import threading", "pure modules"),
        ("durable_core/hub/__init__.py", "import asyncio", "asyncio lives"),
        ("durable_core/errors.py", "import durable_core.events", "layers point one way"),
        ("durable_core/replay/machine.py", "import durable_core.hub", "layers point one way"),
        ("durable_core/new_module.py", "", "layers point one way"),
        ("durable_core/backend.py", "import durable_sqlite", "names no backend"),
        ("backends/sqlite/durable_sqlite/__init__.py", "import durable_core.replay", "know the protocol"),
        ("backends/postgres/durable_postgres/__init__.py", "import durable_core.runtime", "know the protocol"),
        ("backends/azurite/durable_azure/__init__.py", "import durable_core.runtime", "know the protocol"),
        ("backends/sqlite/durable_sqlite/__init__.py", "from durable_core import DurableEngine", "not the façade"),
    ],
)
def test_a_breach_is_reported(copy: Path, file: str, line: str, contract: str) -> None:
    with (copy / file).open("a") as source:
        source.write(f"\n{line}\n")
    code, output = lint_imports(copy)
    assert code == 1
    assert any(contract in text and "BROKEN" in text for text in output.splitlines()), output


def test_the_unbroken_twin_passes(copy: Path) -> None:
    code, output = lint_imports(copy)
    assert code == 0, output
