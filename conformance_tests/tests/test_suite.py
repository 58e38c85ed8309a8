"""The suite on the stores of this repository, and the plugin's manners. Each run is a pytest of its own, as an author of a backend
starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

Run = subprocess.CompletedProcess[str]

MEMORY = "durable_conformance.memory:MemoryHarness"
SQLITE = "durable_sqlite.testing:SqliteHarness"
POSTGRES = "durable_postgres.testing:PostgresHarness"
AZURITE = "durable_azure.testing:AzuriteHarness"


def run_suite(folder: Path, *arguments: str) -> Run:
    """Without the plugins that happen to be installed, so that the outcome is the same wherever this runs."""
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join((str(folder), *sys.path))}
    plugins = ["-p", "durable_conformance.plugin", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider", "-W", "error"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--pyargs", "durable_conformance.suite", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280)


def counts(output: str) -> dict[str, int]:
    """Of the last line: "3 failed, 120 passed, 1 deselected in 2 s"."""
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", output.splitlines()[-1])}


@pytest.fixture(scope="module")
def runs(begin: Callable[..., dict[str, Future[Any]]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[tuple[Run, Path]]]:
    """What the suite says of each of our own stores, and its certificate; by the store's name."""

    def run(backend: str, needs: set[str]) -> tuple[Run, Path]:
        folder = tmp_path_factory.mktemp("suite")
        return run_suite(folder, "--durable-backend", backend, "--certificate", "out.json", "--durable-seed", "7"), folder / "out.json"

    return begin("test_our_own_stores_pass", run)


@pytest.mark.parametrize(
    ("backend", "needs"),
    [
        (POSTGRES, {"server_clock"}),
        (AZURITE, {"proves_death", "server_clock"}),
        (SQLITE, {"cut_connection", "server_clock"}),
        (MEMORY, {"corrupt", "cut_connection", "durable", "multi_process", "proves_death", "server_clock"}),
        (
            "durable_sqlite.testing:SqliteInMemoryHarness",
            {"many_handles", "attach", "corrupt", "cut_connection", "durable", "server_clock"},
        ),
    ],
    ids=["postgres", "azurite", "sqlite", "memory", "sqlite in memory"],
)
@pytest.mark.timeout(300)
def test_our_own_stores_pass(
    request: pytest.FixtureRequest, runs: dict[str, Future[tuple[Run, Path]]], backend: str, needs: set[str]
) -> None:
    done, certificate = runs[request.node.callspec.id].result()
    assert done.returncode == 0, done.stdout
    found = json.loads(certificate.read_text())
    assert (found["verdict"], found["protocol_version"], found["seed"], found["profile"]) == ("conforms", 1, 7, "smoke")
    assert found["tests"]["passed"] > 150
    assert all(row["passed"] > 0 for row in found["properties"]), "every property is tested on every store"
    left_out = {entry["why"].removeprefix("they need ") for entry in found["not_run"] if entry["why"].startswith("they need ")}
    assert left_out == needs, "what a store does not declare is left out, nothing else"
    assert found["cases"]["random programs"] > 0
    assert all(name in done.stdout for name in ("certificate", "durability", "GENERATIONS", "random programs"))


def test_a_store_on_the_clock_of_its_server(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--durable-backend", "durable_postgres.testing:ServerClockHarness", "-k", "test_clocks_of_workers")
    assert done.returncode == 0, done.stdout
    assert counts(done.stdout)["passed"] == 1


def test_several_stores_in_one_run(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "--durable-backend", MEMORY, "--durable-backend", SQLITE, "-k", "test_entities", "--certificate", "out.json")
    assert done.returncode == 0, done.stdout
    assert counts(done.stdout)["passed"] == 14
    assert [found["backend"] for found in json.loads((tmp_path / "out.json").read_text())] == [MEMORY, SQLITE]


HARNESSES = """
from durable_core.testing.memory import MemoryBackend
from durable_conformance.broken.memory import EarlyTimers
from durable_conformance.memory import MemoryHarness

class Exempt(EarlyTimers):
    exemptions = {"test_a_timer_is_never_early_and_fires_once": "timers are a little early, we know"}

class Stale(MemoryHarness):
    exemptions = {"test_a_timer_is_never_early_and_fires_once": "repaired long ago"}

class Cut(MemoryHarness):
    features = frozenset({"cut_connection"})

class Misspelt(MemoryHarness):
    features = frozenset({"many_handels"})

class Listed(MemoryHarness):
    features = ["many_handles"]

class Bare:
    features = frozenset()
    capabilities = MemoryBackend("x").capabilities

class Handless(MemoryHarness):
    async def open(self):
        return object()

class Needy:
    def __init__(self, url):
        pass
"""


@pytest.mark.parametrize(("harness", "status", "verdict"), [("Exempt", 0, "conforms with exemptions"), ("Stale", 1, "fails")])
def test_an_exemption_that_passes_is_a_failure(tmp_path: Path, harness: str, status: int, verdict: str) -> None:
    (tmp_path / "harnesses.py").write_text(HARNESSES)
    keyword = "test_a_timer_is_never_early_and_fires_once"
    done = run_suite(tmp_path, "--durable-backend", f"harnesses:{harness}", "-k", keyword, "--certificate", "out.json")
    assert done.returncode == status, done.stdout
    assert json.loads((tmp_path / "out.json").read_text())["verdict"] == verdict


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--durable-backend URL"),
        (["--durable-backend", "nonsense"], "neither a store URL nor module:factory"),
        (["--durable-backend", "nosuchscheme://x"], "no harness is installed for nosuchscheme://"),
        (["--durable-backend", "durable_conformance.memory:Missing"], "has no Missing"),
        (["--durable-backend", "no_such_module:Harness"], "No module named"),
        (["--durable-backend", "durable_conformance.broken.memory:Unreachable"], "nobody answers"),
        (["--durable-backend", "postgresql:///:temp:"], "127.0.0.1:1"),
        (["--durable-backend", "postgresql://somewhere/else"], "DURABLE_TEST_POSTGRES"),
        (["--durable-backend", "harnesses:Cut"], "declares 'cut_connection' and has no 'cut_connection': add it, or do not declare"),
        (["--durable-backend", "harnesses:Misspelt"], "choose from many_handles, "),
        (["--durable-backend", "harnesses:Listed"], "write frozenset("),
        (["--durable-backend", "harnesses:Bare"], "it has no 'open'"),
        (["--durable-backend", "harnesses:Handless"], "gave object(), which has no 'open'"),
        (["--durable-backend", "harnesses:Needy"], "missing 1 required positional argument: 'url'"),
    ],
)
def test_a_store_that_cannot_be_tested_is_a_usage_error_never_a_skip(
    tmp_path: Path, arguments: list[str], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harnesses.py").write_text(HARNESSES)
    monkeypatch.setenv("DURABLE_TEST_POSTGRES", "postgresql://somebody@127.0.0.1:1/nothing")
    done = run_suite(tmp_path, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert hint in done.stderr
    assert "passed" not in done.stdout


def test_processes_find_the_harness_where_the_suite_found_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.py").write_text("from durable_sqlite.testing import SqliteHarness\n")
    arguments = ["-o", f"pythonpath={tmp_path / 'elsewhere'}", "-k", "test_workers_in_processes"]
    done = run_suite(tmp_path, "--durable-backend", "mine:SqliteHarness", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout)["passed"] == 1


def test_a_broken_store_fails_by_name(tmp_path: Path) -> None:
    """The name is in what a person reads."""
    done = run_suite(tmp_path, "--durable-backend", "durable_conformance.broken.memory:EarlyTimers", "-k", "test_timers")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "property 8, TIMERS: " in done.stdout


def test_the_plugin_imports_pytest_alone() -> None:
    """It is loaded for every user of pytest: neither the core nor hypothesis, and no option of a common name."""
    heavy = "('durable_core', 'hypothesis', 'attrs', 'msgspec')"
    code = f"import sys, pytest, durable_conformance.plugin; print([name for name in sys.modules if name.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
