"""The conformance kit where one request in ten is broken: its tests do not repeat a call, so the store has to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = "test_random_programs or test_concurrency or test_entities or test_commit"


@pytest.mark.timeout(300)
def test_the_kit_on_a_bad_network(tmp_path: Path) -> None:
    plugins = ["-p", "durable_conformance.plugin", "-p", "no:cacheprovider"]
    suite = ["--pyargs", "durable_conformance.suite", "--durable-backend", "durable_azure.testing:BadNetworkHarness", "-k", TESTS]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *suite, "--certificate", "out.json"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["verdict"], found["tests"]["passed"] > 30) == ("conforms", True)
