"""Each example gives what the same computation gives without the engine, on each store; and again when it is started again."""

from __future__ import annotations

import asyncio
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import examples
from examples.catalogue import EXAMPLES, load

PROJECT = Path(__file__).resolve().parents[2]
OTHERS = {"__main__", "catalogue", "index_stdlib", "encrypting_converter", "custom_backend"}
"""The demo and the store in plain files have tests of their own."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_gives_what_the_computation_without_engine_gives(name: str, url: str) -> None:
    example = load(name)
    result, expected = asyncio.run(example.main(url)), asyncio.run(example.without_engine())
    assert result == expected
    assert repr(result) == repr(expected)  # types and orders that == does not look at


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "parallel_processing"])  # which starts anew each time
def test_started_again_it_finds_what_it_did(name: str, durable_url: str) -> None:
    example = load(name)
    first = asyncio.run(example.main(durable_url))
    assert asyncio.run(example.main(durable_url)) == first


def test_the_catalogue_and_the_table_name_every_example() -> None:
    found = {module.name for module in pkgutil.iter_modules(examples.__path__)} - OTHERS
    assert set(EXAMPLES) == found
    table = (PROJECT / "examples" / "README.md").read_text()
    assert not [name for name in EXAMPLES if f"({name}.py)" not in table and f"({name}/)" not in table]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_shows_both_results_for_each_store() -> None:
    ended = run("sum_aggregation", "progress_log")
    assert ended.returncode == 0, ended.stderr
    lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    assert [line for line in lines if " on " in line] == [
        f"{n} on {s}" for n in ("sum_aggregation", "progress_log") for s in ("memory", "sqlite")
    ]
    assert lines.count("engine ['READY', 'STEADY', 'GO', 'DONE']") == lines.count("without engine ['READY', 'STEADY', 'GO', 'DONE']") == 2


def test_the_command_fails_if_one_differs(file_url: str) -> None:
    """The store holds a finished run of other items under the example's id."""
    other = "import asyncio, examples.progress_log as example\nexample.BATCHES = [['other']]\n"
    subprocess.run([sys.executable, "-c", f"{other}asyncio.run(example.main({file_url!r}))"], cwd=PROJECT, check=True, timeout=60)
    ended = run("progress_log", "sum_aggregation", file_url)
    assert ended.returncode == 1
    assert "THEY DIFFER" in ended.stdout
    assert "1 of 2 runs" in ended.stdout


def test_the_command_knows_its_examples() -> None:
    ended = run("no_such_example")
    assert ended.returncode == 1
    assert "no_such_example" in ended.stderr
