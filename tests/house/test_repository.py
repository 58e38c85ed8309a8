"""What must not be in any file of the repository, and what must be."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# Written so that they do not match themselves.
ADDRESSES = {
    "a home folder": re.compile(r"/(?:root|home/\w+|Users/\w+)/(?!\.\.\.)"),
    "a work folder": re.compile(r"(?<![\w.*])/(?:work|opt|srv|mnt)/\w"),
    "a package registry": re.compile(r"(?:pypi|pythonhosted|npmjs)[.](?:org|com)|(?:extra-)?index[-]url"),
    "this checkout": re.compile(re.escape(str(PROJECT))),
}

# One statement's opening words. Transaction control and pragmas are not queries and may stand in code.
SQL = re.compile(
    r"""(?ix) \b select \s .+ \s from \b | \b insert \s+ (?: or \s+ \w+ \s+ )? into \b | \b update \s+ \w+ \s+ set \b
    | \b delete \s+ from \b | \b create \s+ (?: unique \s+ | temp \w* \s+ )? (?: table | index | view | trigger | function | schema ) \b
    | \b (?: drop | alter ) \s+ (?: table | index | view | schema ) \b
    | \b with \s+ (?: recursive \s+ )? \w+ (?: \s* \( [^)]* \) )? \s+ as \s* \(""",
    re.DOTALL,
)


def files() -> list[Path]:
    """Everything that is or could be committed; without git (a source archive) everything that is not made by tools."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        found = [PROJECT / name for name in listed.stdout.split("\0") if name]
    else:
        made = re.compile(r"\.venv|\.git|\..*_cache|__pycache__|\.hypothesis|dist|build")
        found = [file for file in PROJECT.rglob("*") if not any(made.match(part) for part in file.relative_to(PROJECT).parts)]
    return [file for file in found if file.is_file()]


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    problems: list[str] = []
    for file in files():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        for what, pattern in ADDRESSES.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                problems.append(f"{file.relative_to(PROJECT)}:{line} names {what}: {match.group()!r}")
    assert not problems, "\n".join(problems)


def strings_of(source: str) -> list[ast.Constant]:
    """String constants that are not docstrings (an expression of its own)."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def test_sql_stands_in_sql_files() -> None:
    """SQL has a name and a sentence, in a .sql file; Python says the name."""
    problems = [
        f"{file.relative_to(PROJECT)}:{node.lineno} holds SQL: {str(node.value).strip()[:60]!r}"
        for file in (PROJECT / "backends").glob("*/durable_*/**/*.py")
        for node in strings_of(file.read_text())
        if SQL.search(str(node.value))
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a\nFROM b",
        "insert or ignore into t values (1)",
        "WITH x AS (SELECT 1)",
        "create unique index i",
        "DROP SCHEMA s CASCADE",
        "Update t set a = 1",
    ],
)
def test_sql_is_recognised(text: str) -> None:
    assert SQL.search(text)


@pytest.mark.parametrize("text", ["BEGIN IMMEDIATE", "PRAGMA data_version", "select the row with care", "update it", "deleted from disk"])
def test_prose_is_not_sql(text: str) -> None:
    assert not SQL.search(text)


def test_the_commands_of_the_readme_exist() -> None:
    """`make X` in any document is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]:
        for match in re.finditer(r"(?:`|^)make ([a-z-]+)(?=`| [A-Z]+=| +#)", document.read_text(), re.MULTILINE):
            assert match[1] in targets, f"{document.name} speaks of make {match[1]}"


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(file.name for file in (PROJECT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in names] == list(range(len(names)))
