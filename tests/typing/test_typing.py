"""The public API as type checkers see it: what they accept and infer, and which mistakes they find. Both mypy --strict and pyright."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = re.compile(r"# (E\d+)$", re.MULTILINE)


def run(folder: Path, *command: str) -> str:
    """Where no configuration is found: as a user's project would be checked."""
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout


def mypy(file: Path) -> dict[int, str]:
    """Line → complaint."""
    output = run(file.parent, "mypy", "--strict", "--output=json", "--cache-dir=.mypy_cache", file.name)
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {each["line"]: each["message"] for each in found if each["severity"] == "error"}


def pyright(file: Path) -> dict[int, str]:
    report = json.loads(run(file.parent, "pyright", "--pythonpath", sys.executable, "--outputjson", file.name))
    assert report["summary"]["filesAnalyzed"] == 1
    return {each["range"]["start"]["line"] + 1: each["message"] for each in report["generalDiagnostics"] if each["severity"] == "error"}


checkers = pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda checker: checker.__name__)


@checkers
def test_what_is_right_is_accepted_and_inferred(tmp_path: Path, checker: Callable[[Path], dict[int, str]]) -> None:
    file = tmp_path / "accepted.py"
    file.write_text((HERE / "accepted.py").read_text())
    assert checker(file) == {}


@checkers
def test_mistakes_are_found_and_nothing_else(tmp_path: Path, checker: Callable[[Path], dict[int, str]]) -> None:
    source = (HERE / "errors.py").read_text()
    header, _, rest = source.partition("\n")
    assert header == "# mypy: ignore-errors"
    file = tmp_path / "errors.py"
    file.write_text(f"\n{rest}")
    marked = {number: mark[1] for number, line in enumerate(source.splitlines(), 1) if (mark := MARK.search(line))}
    assert [*marked.values()] == [f"E{number}" for number in range(1, 21)]
    found = checker(file)
    missed = {mark for line, mark in marked.items() if line not in found}
    beside = {line: message for line, message in found.items() if line not in marked}
    assert (missed, beside) == (set(), {})
