"""docs/semantics.md: every statement names tests, and every test that it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "semantics.md"

_TEST = re.compile(r"`((?:tests|backends)/[\w/]+\.py::test_\w+)`")


def rows_of(text: str) -> list[tuple[str, list[str]]]:
    """Statement and tests of every row. Raises ``ValueError`` for what is neither a row, a heading nor the introduction."""
    introduction, *sections = re.split(r"^##+ ", text, flags=re.MULTILINE)
    if "|" in introduction:
        raise ValueError("a table before the first section")
    rows: list[tuple[str, list[str]]] = []
    for section in sections:
        title, *lines = section.splitlines()
        head, rule, *body = [line for line in lines if line]
        if (head, rule) != ("| statement | test |", "|---|---|") or not body:
            raise ValueError(f"section {title!r} is not a table of statements and tests")
        rows += map(_row, body)
    return rows


def _row(line: str) -> tuple[str, list[str]]:
    cells = [cell.strip() for cell in line.split("|")]
    if len(cells) != 4 or cells[0] or cells[3] or not cells[1]:
        raise ValueError(f"not a row of two cells: {line!r}")
    tests = cells[2].split("<br>")
    named = [match.group(1) for test in tests if (match := _TEST.fullmatch(test))]
    if len(named) != len(tests):
        raise ValueError(f"a statement without a test: {line!r}")
    return cells[1], named


def test_every_statement_names_tests_that_exist() -> None:
    rows = rows_of(PAGE.read_text())
    statements = [statement for statement, _ in rows]
    assert len(set(statements)) == len(statements) > 100
    named = sorted({test for _, tests in rows for test in tests})
    collecting = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *named]
    ended = subprocess.run(collecting, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = {line.partition("[")[0] for line in ended.stdout.splitlines() if "::" in line}
    assert found == set(named)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("| statement | test |\n|---|---|\n| It works. | |\n", "without a test"),
        ("| statement | test |\n|---|---|\n| It works. | `TODO` |\n", "without a test"),
        ("| statement | test |\n|---|---|\n| It works. | `tests/a.py::test_b`, `tests/a.py::test_c` |\n", "without a test"),
        ("| statement | test |\n|---|---|\n- It works.\n", "not a row"),
        ("It works.\n\n| statement | test |\n|---|---|\n| It | `tests/a.py::test_b` |\n", "not a table"),
        ("| statement | test |\n|---|---|\n", "not a table"),
    ],
)
def test_a_statement_without_a_test_is_seen(body: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rows_of(f"# Title\n\n## Section\n\n{body}")


def test_rows_are_read() -> None:
    text = "# T\n\nWords.\n\n## S\n\n| statement | test |\n|---|---|\n| It. | `tests/a.py::test_b`<br>`backends/x/tests/a.py::test_c` |\n"
    assert rows_of(text) == [("It.", ["tests/a.py::test_b", "backends/x/tests/a.py::test_c"])]
