"""The built wheel, installed with its declared needs alone, in an empty folder: what a user gets from the registry.

In an editable install the whole tree is importable, and .venv holds packages that nothing declares. Here neither is so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "durable_core",
    "backends/sqlite/durable_sqlite",
    "backends/postgres/durable_postgres",
    "backends/azurite/durable_azure",
    "conformance_tests/durable_conformance",
)


def run(command: Sequence[str | Path], folder: Path) -> None:
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**without, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, PROJECT], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, its declared needs, those of the conformance kit and the drivers."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", f"{wheel}[conformance,postgres,azure]"], folder)
    return python


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in archive.namelist() if name.endswith("LICENSE"))
        assert b"MIT" in archive.read(licence)
    expected = {
        str(file.relative_to((PROJECT / package).parent))
        for package in PACKAGES
        for file in (PROJECT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == expected
    for package in PACKAGES:
        assert f"{Path(package).name}/py.typed" in names


@pytest.mark.timeout(300)
def test_it_works_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("user_program.py"), tmp_path)
    run([python, "-W", "error", "user_program.py"], tmp_path)


@pytest.mark.timeout(300)
def test_it_is_typed_for_its_users(python: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("user_program.py"), tmp_path)
    run([sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "user_program.py"], tmp_path)
    run([sys.executable, "-m", "pyright", "--pythonpath", python, "user_program.py"], tmp_path)


@pytest.mark.timeout(600)
def test_a_stranger_proves_a_backend_of_his_own(python: Path, tmp_path: Path) -> None:
    """A copy of the example's backend beside nothing else, started as its author would."""
    (tmp_path / "examples").mkdir()
    shutil.copytree(PROJECT / "examples" / "custom_backend", tmp_path / "examples" / "custom_backend")
    suite: list[str | Path] = [python, "-m", "pytest", "-q", "-W", "error", "--pyargs", "durable_conformance.suite"]
    run([*suite, "--durable-backend", "examples.custom_backend.testing:Harness", "--certificate", "certificate.json"], tmp_path)
    assert json.loads((tmp_path / "certificate.json").read_text())["verdict"] == "conforms"


def test_the_kit_finds_a_store_by_its_scheme(python: Path, tmp_path: Path) -> None:
    run(
        [python, "-m", "pytest", "-q", "--pyargs", "durable_conformance.suite", "--durable-backend", "memory://", "-k", "entities"],
        tmp_path,
    )


def test_the_pytest_plugin_costs_other_projects_nothing(python: Path, tmp_path: Path) -> None:
    """It is loaded for every pytest user of an environment: nothing heavy may come with it."""
    check = "import sys, durable_conformance.plugin; assert not {'hypothesis', 'durable_core', 'msgspec', 'cattrs'} & set(sys.modules)"
    run([python, "-c", check], tmp_path)
