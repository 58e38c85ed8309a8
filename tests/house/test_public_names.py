"""A public name is re-exported explicitly, documented, and seen by type checkers as well as at run time."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest

import durable_core

PACKAGES = ("durable_core", "durable_core.testing", "durable_core.testing.simulation", "durable_sqlite", "durable_conformance")


def public_names(package: str) -> list[str]:
    """What ``__all__`` lists, or what the package's ``__init__`` imports ``as`` itself."""
    module = importlib.import_module(package)
    present = [name for name, value in vars(module).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)]
    names: list[str] = getattr(module, "__all__", [name for name in present if name != "annotations"])
    assert len(set(names)) == len(names)
    return names


def test_the_version_is_said_once() -> None:
    assert durable_core.__version__ == version("durable-core")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_classes_and_functions_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    bare = [
        name
        for name in public_names(package)
        if (inspect.isclass(value := getattr(module, name)) or inspect.isroutine(value)) and not (inspect.getdoc(value) or "").strip()
    ]
    assert not bare


@pytest.mark.parametrize("checker", [("mypy", "--strict"), ("pyright", "--pythonpath", sys.executable)], ids=lambda checker: checker[0])
def test_type_checkers_see_every_public_name(tmp_path: Path, checker: tuple[str, ...]) -> None:
    lines = [f"from {package} import {name}" for package in PACKAGES for name in public_names(package)]
    (tmp_path / "names.py").write_text("\n".join(f"{line} as _{number}" for number, line in enumerate(lines)) + "\n")
    ended = subprocess.run(
        [sys.executable, "-m", *checker, "names.py"],
        cwd=tmp_path,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
