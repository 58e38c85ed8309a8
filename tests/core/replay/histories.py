"""The histories of all programs, for comparison between processes: with other hash seeds, on other Pythons.

    python -m tests.core.replay.histories                  a digest a program
    python -m tests.core.replay.histories --dump FILE      the histories themselves
    python -m tests.core.replay.histories --replay FILE    replay what another process dumped, every prefix of it

The digests of one Python are the same under every PYTHONHASHSEED, without stack traces, which differ from Python to Python. To go on with the
histories of another Python is what ``exchange.py`` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from durable_core.codec import decode_events
from durable_core.errors import FailureDetails
from durable_core.events import COMMAND_EVENTS, Event, ExecutionCompleted, ExecutionFailed
from tests.core.replay.driver import Program, boundaries, encode_row, run
from tests.core.replay.programs import PROGRAMS

SEEDS = range(8)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def histories() -> Iterator[tuple[str, int, tuple[Event, ...]]]:
    """(program, generation, history)"""
    for name, program in PROGRAMS.items():
        for seed in SEEDS:
            for generation in run(program, seed):
                yield name, generation.generation, generation.history


def digests() -> dict[str, str]:
    found: dict[str, hashlib._Hash] = {}
    for name, _, history in histories():
        found.setdefault(name, hashlib.sha256()).update(encode_row([without_stack(event) for event in history]))
    return {name: digest.hexdigest()[:16] for name, digest in found.items()}


def without_stack(event: Event) -> Event:
    if isinstance(event, ExecutionFailed):
        event = replace(event, failure=_bare(event.failure))
    if isinstance(event, ExecutionCompleted | ExecutionFailed):
        event = replace(event, unawaited=tuple(map(_bare, event.unawaited)))
    return event


def _bare(failure: FailureDetails) -> FailureDetails:
    return replace(failure, stack="", inner=failure.inner and _bare(failure.inner), members=tuple(map(_bare, failure.members)))


def dump(file: Path) -> int:
    with file.open("w") as out:
        count = 0
        for name, generation, history in histories():
            out.write(json.dumps([PYTHON, name, generation, encode_row(history).decode()]) + "\n")
            count += 1
    return count


def replay(file: Path) -> list[str]:
    """What did not replay."""
    problems = []
    for line in file.read_text().splitlines():
        python, name, generation, text = json.loads(line)
        history = decode_events(text.encode())
        for position in boundaries(history):
            problem = _problem_at(PROGRAMS[name], generation, history, position)
            if problem:
                problems.append(f"{name}, recorded on {python}, replayed on {PYTHON} up to event {position}: {problem}")
                break
    return problems


def _problem_at(program: Program, generation: int, history: Sequence[Event], position: int) -> str:
    """A prefix is replayed and closed; the whole must also end in the same way."""
    execution = program.execution(generation)
    for _ in execution.replay(history[:position]):
        pass
    execution.close()
    if execution.problem is not None:
        return str(execution.problem)
    if position == len(history) and isinstance(history[-1], COMMAND_EVENTS) and type(execution.ending) is not type(history[-1]):
        return f"it ended with {execution.ending}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", type=Path, metavar="FILE")
    parser.add_argument("--replay", type=Path, metavar="FILE", nargs="+", default=[])
    options = parser.parse_args()
    logging.disable()
    if options.dump:
        print(f"{dump(options.dump)} histories of Python {PYTHON}")  # noqa: T201
    problems = [problem for file in options.replay for problem in replay(file)]
    for problem in problems:
        print(problem)  # noqa: T201
    if not options.dump and not options.replay:
        print(json.dumps(digests(), indent=1))  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
