"""What the crash tests measured is shown at the end of the run, whether they passed or not: the figures are half of what they are for."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.children import Place
from tests.crash.stores import store_at
from tests.stores import DURABLE, new_store

Report = Callable[[str], None]
_lines: list[str] = []


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Say something that is shown in the end."""
    name = request.node.name
    return lambda line: _lines.append(f"{name}: {line}")


@pytest.fixture
def dice(report: Report) -> random.Random:
    """DURABLE_SEED repeats a run, as far as the machine does what it did then."""
    seed = int(os.environ.get("DURABLE_SEED") or random.SystemRandom().randrange(10**6))
    report(f"DURABLE_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=DURABLE)
def kind(request: pytest.FixtureRequest) -> str:
    """Each test runs on every store that outlives its process."""
    return str(request.param)


@pytest.fixture
def new_place(kind: str, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Places by name. What has passed is removed by the test; what remains is there to be looked at."""
    with ExitStack() as places:

        def new_place(name: str) -> Place:
            folder = tmp_path / name
            folder.mkdir()
            place = Place(folder, store_at(places.enter_context(new_store(kind, folder))))
            places.callback(place.leave)
            return place

        yield new_place


@pytest.fixture
def place(new_place: Callable[[str], Place]) -> Place:
    return new_place("place")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _lines:
        terminalreporter.section("crash tests")
        for line in _lines:
            terminalreporter.write_line(line)
