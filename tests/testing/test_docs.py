"""The code in docs/testing.md runs as it stands there, by pytest without any plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def files_in(document: Path) -> dict[str, str]:
    """Blocks that begin with a file's name."""
    return dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL))


def test_the_code_of_the_document_runs(tmp_path: Path) -> None:
    files = files_in(PROJECT / "docs" / "testing.md")
    assert list(files) == ["shop.py", "test_shop.py", "test_stuck.py", "export.py", "test_replay.py", "test_simulated.py"]
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "9 passed" in ended.stdout
    assert subprocess.run([sys.executable, "-c", "import export"], cwd=tmp_path, check=False).returncode == 0
