"""The suite on the stores of this repository, and the plugin's manners. Each run is a pytest of its own, as an author of a backend
starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = "durable_conformance.memory:MemoryHarness"
SQLITE = "durable_sqlite.testing:SqliteHarness"
POSTGRES = "durable_postgres.testing:PostgresHarness"


def run_suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Without the plugins that happen to be installed, so that the outcome is the same wherever this runs."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = ["-p", "durable_conformance.plugin", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider", "-W", "error"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--pyargs", "durable_conformance.suite", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=110)


def counts(output: str) -> dict[str, int]:
    """Of the last line: "3 failed, 120 passed, 1 deselected in 2 s"."""
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", output.splitlines()[-1])}


@pytest.mark.parametrize(
    ("backend", "deselected"),
    [(MEMORY, 1), (SQLITE, 0), (POSTGRES, 0), ("durable_sqlite.testing:SqliteInMemoryHarness", 3)],
    ids=["memory", "sqlite", "postgres", "sqlite in memory"],
)
def test_our_own_stores_pass(tmp_path: Path, backend: str, deselected: int) -> None:
    done = run_suite(tmp_path, "--durable-backend", backend)
    assert done.returncode == 0, done.stdout
    assert counts(done.stdout).get("deselected", 0) == deselected, "what a store does not declare is left out, nothing else"
    assert counts(done.stdout)["passed"] > 120
    assert deselected == 0 or "tests were not run: they need" in done.stdout


def test_several_stores_in_one_run(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--durable-backend", MEMORY, "--durable-backend", SQLITE, "-k", "test_entities")
    assert done.returncode == 0, done.stdout
    assert counts(done.stdout)["passed"] == 14


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--durable-backend URL"),
        (["--durable-backend", "nonsense"], "neither a store URL nor module:factory"),
        (["--durable-backend", "nosuchscheme://x"], "no harness is installed for nosuchscheme://"),
        (["--durable-backend", "durable_conformance.memory:Missing"], "has no Missing"),
        (["--durable-backend", "no_such_module:Harness"], "No module named"),
        (["--durable-backend", "durable_conformance.broken:Unreachable"], "nobody answers"),
    ],
)
def test_a_missing_store_is_a_usage_error_never_a_skip(tmp_path: Path, arguments: list[str], hint: str) -> None:
    done = run_suite(tmp_path, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert hint in done.stderr
    assert "passed" not in done.stdout


@pytest.mark.parametrize(
    ("harness", "broken"),
    [
        ("durable_conformance.broken:FenceIgnored", "FENCE"),
        ("durable_conformance.broken:Watermark", "CONSERVATION"),
        ("durable_conformance.broken:EarlyTimers", "TIMERS"),
        ("durable_conformance.broken:Forgetful", "RETRY"),
    ],
)
def test_a_broken_store_fails_by_name(tmp_path: Path, harness: str, broken: str) -> None:
    """The first teeth: stores that break one promise each."""
    done = run_suite(tmp_path, "--durable-backend", harness, "-k", "not random")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert re.search(rf"property \d+, {broken}: ", done.stdout), done.stdout


def test_the_plugin_imports_pytest_alone() -> None:
    """It is loaded for every user of pytest: neither the core nor hypothesis, and no option of a common name."""
    heavy = "('durable_core', 'hypothesis', 'attrs', 'msgspec')"
    code = f"import sys, pytest, durable_conformance.plugin; print([name for name in sys.modules if name.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
