"""(That the store passes the conformance kit is shown where a stranger would stand: ``tests/house/test_wheel.py``.)"""

from __future__ import annotations

from pathlib import Path

from tests.house.test_size import total

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_backend"


def test_it_is_small() -> None:
    """The backend without its harness."""
    assert total(file for file in EXAMPLE.glob("*.py") if file.name != "testing.py") < 520
