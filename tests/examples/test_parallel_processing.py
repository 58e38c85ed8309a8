"""The first example that anybody reads."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.parallel_processing import main

PROJECT = Path(__file__).resolve().parents[2]
RESULT = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/orders.db"])
def test_the_example(tmp_path: Path, url: str) -> None:
    assert asyncio.run(main(url.format(folder=tmp_path))) == RESULT


def test_the_readme_is_that_example(tmp_path: Path) -> None:
    [code, *_] = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"{RESULT}\n"), ended.stderr
