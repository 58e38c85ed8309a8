"""The first example that anybody reads."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from examples import parallel_processing

PROJECT = Path(__file__).resolve().parents[2]
[CODE, *_] = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-W", "error", "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"{asyncio.run(parallel_processing.without_engine())}\n"), ended.stderr


def test_the_readme_is_that_example() -> None:
    definitions = CODE[CODE.index("engine =") : CODE.index("async def main")]
    assert definitions in Path(parallel_processing.__file__).read_text()
