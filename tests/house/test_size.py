"""The core stays small enough to be read in an afternoon: code lines without blank lines, comments and docstrings."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "durable_core"
APART = ("runtime", "testing")

NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docstrings)


def total(files: Iterable[Path]) -> int:
    return sum(code_lines(file.read_text()) for file in files)


def test_code_lines_are_counted_as_described() -> None:
    source = (
        '"""Docstring\nof two lines."""\n\n# comment\nx = """a\nb"""  # code of two lines\n\n\ndef f():\n    "docstring"\n    return 1\n'
    )
    assert code_lines(source) == 4


# Ratchets: raised only for what users can do more or rely on, never for how it is done. Room was made for what keeps an honest program from
# wrong results (primitives that are the same on every Python, arguments held against the history, deliveries of a task that are counted,
# payloads that arrive as they were sent, control messages that need no code, anyio in an orchestrator).
CORE_LINES_MAX = 5_100
RUNTIME_LINES_MAX = 3_100


def test_the_core_stays_small() -> None:
    assert total(file for file in CORE.rglob("*.py") if file.relative_to(CORE).parts[0] not in APART) <= CORE_LINES_MAX


def test_the_runtime_stays_small() -> None:
    assert total((CORE / "runtime").rglob("*.py")) <= RUNTIME_LINES_MAX
