"""The exchange between Pythons, on one Python: nothing is wrong there, and what is wrong would be counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from durable_core.events import ExecutionCompleted, TaskScheduled
from tests.core.replay.driver import encode_row
from tests.core.replay.exchange import continued, go_on, program_of, record, recorded

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
NUMBERS = range(6)


def test_here_every_program_goes_on_as_it_began(tmp_path: Path) -> None:
    record(tmp_path / "here", NUMBERS)
    found = continued(tmp_path / "here")
    assert found["programs"] == len(NUMBERS)
    assert found["equal"] > 10 * len(NUMBERS)
    assert found["told"] == found["wrong"] == 0


def test_another_order_is_told_and_another_end_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "here", NUMBERS)
    told = wrong = 0
    for _, number, history in recorded(tmp_path / "here"):
        program = program_of(number)
        calls = [index for index, event in enumerate(history) if isinstance(event, TaskScheduled)]
        other = list(history)
        other[calls[0]] = replace(other[calls[0]], name="another")
        told += go_on(program, other, len(other)) == "told"
        if isinstance(history[-1], ExecutionCompleted):
            other = [*history[:-1], replace(history[-1], result='"another"')]
            assert go_on(program, other, 0).startswith(f"event {len(history) - 1}: ")
            (tmp_path / "other").write_text(json.dumps(["3.0", number, encode_row(other).decode()]) + "\n")
            wrong += continued(tmp_path / "other")["wrong"]
    assert told == len(NUMBERS)
    assert wrong
    assert "begun on 3.0" in capsys.readouterr().out


def test_programs_are_the_same_under_their_number() -> None:
    assert program_of(7).args == program_of(7).args
    assert program_of(7).args != program_of(8).args
