"""The runtime reads time and waits for it in ``clock.py`` alone, so that a test can put another clock in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "durable_core" / "runtime"
APART = {"clock.py", "guard.py"}  # the clock, and the watchdog of turns that really block
TIMED = {"timeout", "timeout_at", "wait_for", "now", "utcnow"}


def timed(source: str) -> Iterator[str]:
    """What reads a clock or waits for one, but not on ``clock``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(alias.name == "time" for alias in names):
                yield f"line {node.lineno} imports time"
            case ast.ImportFrom(module="time"):
                yield f"line {node.lineno} imports from time"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(value=0)]):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio" | "datetime"), attr=name)) if name in {*TIMED, "sleep"}:
                yield f"line {node.lineno} calls {name}"
            case ast.Call(func=ast.Attribute(value=value, attr="call_later" | "call_at" as name)):
                if not ast.unparse(value).endswith("clock"):
                    yield f"line {node.lineno} calls {name}"


@pytest.mark.parametrize("file", sorted(RUNTIME.rglob("*.py")), ids=lambda file: file.name)
def test_the_runtime_has_one_clock(file: Path) -> None:
    assert bool(list(timed(file.read_text()))) is (file.name in APART)


@pytest.mark.parametrize(
    "source",
    ["import time", "from time import monotonic", "asyncio.sleep(1)", "asyncio.timeout(2)", "datetime.now(UTC)", "loop.call_later(1, f)"],
)
def test_another_clock_is_seen(source: str) -> None:
    assert len(list(timed(source))) == 1


@pytest.mark.parametrize("source", ["asyncio.sleep(0)", "self._clock.call_later(1, f)", "clock.sleep(1)"])
def test_what_is_no_clock_of_its_own_is_let_through(source: str) -> None:
    assert not list(timed(source))
