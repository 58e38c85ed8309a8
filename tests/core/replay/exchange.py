"""Random programs begun on one Python and continued on another one, from every message on.

    python -m tests.core.replay.exchange --programs 500 --record FILE      run them here, keep their histories
    python -m tests.core.replay.exchange --programs 500 --continue FILE    stop those of FILE at every message and go on with them here

A program comes from its number, the same on every Python. To go on is to replay what was committed until then, and to be given what the other Python was
given after that. It has to do the same: any other command or end would be a wrong result on one of the two, unless it is told as a ``ReplayError``.
Both are counted, and a wrong one is an error. ``tools/matrix.py`` runs this between all Pythons of the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from durable_core.codec import decode_events
from durable_core.errors import ReplayError
from durable_core.events import Event, MessageEvent
from tests.core.replay.driver import Program, boundaries, encode_row, run
from tests.core.replay.histories import PYTHON, without_stack
from tests.core.replay.interpreter import EVENTS, REGISTRY, Node, interpret

DELAYS = (-1, 0, 0.3, 1, 1, 1.7, 2.5, 4)
Draw = Callable[[random.Random, int], Node]

LEAVES: tuple[Callable[[random.Random], Node], ...] = (
    lambda of: ["call", of.randrange(4)],
    lambda of: ["call", of.randrange(4)],
    lambda of: ["fail", of.randrange(4)],
    lambda of: [of.choice(["sleep", "timer"]), of.choice(DELAYS)],
    lambda of: ["retry", of.randrange(4), of.randrange(1, 5), of.choice(DELAYS)],
    lambda of: ["limited", of.choice([0.5, 1, 2]), of.randrange(4)],
    lambda of: ["event", of.choice(["red", "Red", "blue"]), of.choice([0.5, 1, 3])],
    lambda of: ["child", of.randrange(4)],
    lambda of: [of.choice(["entity", "signal", "send"]), of.randrange(4)],
    lambda of: ["put", of.randrange(2)],
    lambda of: ["get", of.randrange(2), of.choice(DELAYS)],
    lambda of: [of.choice(["hand_over", "take_over", "await_notice", "flag"]), of.choice(DELAYS)],
    lambda of: ["notify", of.randrange(4)],
    lambda of: [of.choice(["raise", "chance", "unawaited", "gather_kept"])],
)
OF_SEVERAL = ("seq", "gather", "gather", "outcomes", "group", "group", "race", "any", "all", "completed", "pages", "permits")
OF_ONE = ("try", "stubborn", "semaphore", "lock", "background", "cancel_now", "keep")
LIMITED = ("timeout", "wait_for", "coroutine_for", "coroutine_for", "cancel_after", "shield")


def program_of(number: int) -> Program:
    of = random.Random(f"exchange/{number}")
    arms = [[node(of, 3) for _ in range(of.randrange(3, 6))] for _ in range(of.randrange(2, 4))]
    return Program(interpret, REGISTRY, (["arms", arms],), EVENTS, {"child": lambda x: x * 10})


def node(of: random.Random, depth: int) -> Node:
    if depth == 0 or of.random() < 0.3:
        return of.choice(LEAVES)(of)

    def several() -> list[Node]:
        return [node(of, depth - 1) for _ in range(of.randrange(1, 4))]

    shapes: tuple[Callable[[], Node], ...] = (
        lambda: [of.choice(OF_SEVERAL), several()],
        lambda: [of.choice(OF_SEVERAL), several()],
        lambda: [of.choice(["wait", "completed_late"]), of.choice(DELAYS), several()],
        lambda: [of.choice(LIMITED), of.choice(DELAYS), node(of, depth - 1)],
        lambda: [of.choice(LIMITED), of.choice(DELAYS), node(of, depth - 1)],
        lambda: [of.choice(OF_ONE), node(of, depth - 1)],
        lambda: ["finally", node(of, depth - 1), node(of, depth - 1)],
        lambda: ["section", [of.choice("ef") for _ in range(of.randrange(1, 3))], node(of, depth - 1)],
    )
    return of.choice(shapes)()


def record(file: Path, numbers: Sequence[int]) -> None:
    with file.open("w") as out:
        for number in numbers:
            history = run(program_of(number), number)[0].history
            out.write(json.dumps([PYTHON, number, encode_row(history).decode()]) + "\n")


def recorded(file: Path) -> Iterator[tuple[str, int, list[Event]]]:
    for line in file.read_text().splitlines():
        python, number, text = json.loads(line)
        yield python, number, decode_events(text.encode())


def go_on(program: Program, history: Sequence[Event], position: int) -> str:
    """ "equal", "told", or what is wrong."""
    execution = program.execution()
    try:
        for _ in execution.replay(history[:position]):
            pass
        events = list(history[:position])
        for message in history[position:]:
            if isinstance(message, MessageEvent):
                execution.apply(message)
                events += execution.take_turn().events
        if execution.problem is not None:
            raise execution.problem
    except ReplayError:
        return "told"
    finally:
        execution.close()
    for index, (there, here) in enumerate(zip(history, events, strict=False)):
        if without_stack(there) != without_stack(here):
            return f"event {index}: {there} there, {here} here"
    return "equal" if len(history) == len(events) else f"{len(history)} events there, {len(events)} here"


def continued(file: Path) -> Counter[str]:
    """How many continuations were equal, told and wrong."""
    found: Counter[str] = Counter()
    for python, number, history in recorded(file):
        program = program_of(number)
        found["programs"] += 1
        for position in boundaries(history):
            outcome = go_on(program, history, position)
            found[outcome if outcome in ("equal", "told") else "wrong"] += 1
            if outcome not in ("equal", "told") and found["wrong"] < 10:
                print(f"program {number}, begun on {python}, continued on {PYTHON} at event {position}: {outcome}")  # noqa: T201
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--continue", type=Path, metavar="FILE", nargs="+", default=[], dest="files")
    options: Any = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")  # random programs leave coroutines behind that nobody awaits
    if options.record:
        record(options.record, range(options.first, options.first + options.programs))
    wrong = 0
    for file in options.files:
        found = continued(file)
        wrong += found["wrong"]
        counted = ", ".join(f"{found[what]:,} {what}" for what in ("equal", "told", "wrong"))
        print(f"{file.name} → {PYTHON}: {found['programs']} programs, stopped at every message: {counted}", flush=True)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
