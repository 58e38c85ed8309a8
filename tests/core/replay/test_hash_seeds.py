"""The order of a set of strings differs from process to process; a history must not.

Across versions of Python the same is done by tools/matrix.py, which has the other interpreters: it dumps on each and replays on all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable_core.events import TaskScheduled
from tests.core.replay import histories
from tests.core.replay.driver import encode_row
from tests.core.replay.programs import PROGRAMS

PROJECT = Path(__file__).resolve().parents[3]


def under_hash_seeds(*seeds: str, module: str = "tests.core.replay.histories") -> list[dict[str, str]]:
    """The digests that one process a seed prints, side by side."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    results = []
    for process in started:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        results.append(json.loads(out))
    return results


def test_histories_are_the_same_under_every_hash_seed() -> None:
    first, *others = under_hash_seeds("0", "1", "42", "random")
    assert set(first) == set(PROGRAMS)
    for digests in others:
        assert digests == first, [name for name in first if digests[name] != first[name]]


def test_a_program_that_iterates_over_a_set_of_texts_would_be_seen() -> None:
    """The comparison has teeth: this is what a salted hash does."""
    print_order = "import json; print(json.dumps({'order': ''.join({f'name {i}' for i in range(50)})}))"
    orders = [
        subprocess.run([sys.executable, "-c", print_order], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True).stdout
        for seed in ("0", "1")
    ]
    assert orders[0] != orders[1]


def test_what_one_process_dumps_another_replays(tmp_path: Path) -> None:
    file = tmp_path / "histories"
    assert histories.dump(file) >= len(PROGRAMS) * len(histories.SEEDS)
    assert histories.replay(file) == []


def test_a_dumped_history_that_does_not_fit_is_told(tmp_path: Path) -> None:
    file = tmp_path / "histories"
    history = list(next(history for name, _, history in histories.histories() if name == "nested_helpers"))
    position = next(position for position, event in enumerate(history) if isinstance(event, TaskScheduled))
    history[position] = TaskScheduled(1, "another", None, 0)
    file.write_text(json.dumps(["3.0", "nested_helpers", 1, encode_row(history).decode()]))
    [problem] = histories.replay(file)
    assert problem.startswith("nested_helpers, recorded on 3.0, replayed on")
    assert "activity 'another'" in problem


@pytest.mark.parametrize("arguments", [["--help"]])
def test_the_command_line_says_what_it_does(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.core.replay.histories", *arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert "--replay FILE" in ended.stdout
