"""The conformance kit on the store of examples/custom_backend, started as its author would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_size import total

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "examples" / "custom_backend"


@pytest.mark.timeout(300)
def test_it_passes(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.json"
    arguments = [
        "--durable-backend",
        "examples.custom_backend.testing:Harness",
        "--certificate",
        str(certificate),
        "-p",
        "no:cacheprovider",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", "--pyargs", "durable_conformance.suite", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(certificate.read_text())["verdict"] == "conforms"


def test_it_is_small() -> None:
    """The backend without its harness."""
    assert total(file for file in EXAMPLE.glob("*.py") if file.name != "testing.py") < 500
