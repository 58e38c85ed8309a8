"""Every history that was ever recorded replays on this version of the engine and on this Python, to the end that it had.

A failure here means that running instances of some user would get stuck after an upgrade. Never re-record a history to make it pass: put
the machine right, or, if the order of commands must change, keep the old order for histories of the old ``ExecutionStarted.logic``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from durable_core.actions import Ending
from durable_core.errors import FailureDetails
from durable_core.events import (
    COMMAND_EVENTS,
    MESSAGE_EVENTS,
    Event,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionSuspended,
)
from durable_core.testing import replay_history
from tests.golden.files import HISTORIES, Golden
from tests.golden.record import record_all

FILES = sorted(HISTORIES.glob("*/*.json"))


def comparable(ending: Event | Ending | None) -> Event | Ending | None:
    """Without stack traces, which change with every edit of the file."""

    def bare(details: FailureDetails) -> FailureDetails:
        inner = bare(details.inner) if details.inner is not None else None
        return replace(details, stack="", inner=inner, members=tuple(map(bare, details.members)))

    match ending:
        case ExecutionCompleted():
            return replace(ending, unawaited=tuple(map(bare, ending.unawaited)))
        case ExecutionFailed():
            return replace(ending, failure=bare(ending.failure), unawaited=tuple(map(bare, ending.unawaited)))
    return ending


def prefixes(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Each up to a message and the commands that it caused: what a store holds after some turn."""
    for position, event in enumerate(events):
        if position and isinstance(event, MESSAGE_EVENTS):
            yield events[:position]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_recorded_history_replays_to_its_end(file: Path) -> None:
    golden = Golden.read(file)
    execution = golden.replayed()
    assert comparable(execution.ending) == comparable(golden.events[-1])
    assert execution.history_length == len(golden.events)
    assert execution.take_turn().events == ()
    execution.close()
    replay_history(golden.load_engine(), file.read_bytes())


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_it_replays_from_wherever_it_was_cut_off(file: Path) -> None:
    golden = Golden.read(file)
    for events in prefixes(golden.events):
        execution = golden.replayed(events)
        assert execution.ending is None
        assert execution.take_turn().events == ()
        execution.close()


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_to_suspend_and_to_resume_it_anywhere_causes_nothing(file: Path) -> None:
    """So a worker that cannot run the code may append them."""
    golden = Golden.read(file)
    events: list[Event] = []
    for position, event in enumerate(golden.events):
        if position and isinstance(event, MESSAGE_EVENTS):
            events += [ExecutionSuspended(at_us=event.at_us), ExecutionResumed(at_us=event.at_us)]
        events.append(event)
    execution = golden.replayed(events)
    assert execution.problem is None
    assert comparable(execution.ending) == comparable(golden.events[-1])
    assert execution.take_turn().events == ()
    execution.close()


def test_every_kind_of_event_has_a_golden_history() -> None:
    found = {type(event) for file in FILES for event in Golden.read(file).events}
    assert found == {*MESSAGE_EVENTS, *COMMAND_EVENTS}


def test_what_is_recorded_today_replays(tmp_path: Path) -> None:
    """Guards the recorder: golden histories are recorded rarely, and it should work then."""
    record_all(tmp_path / "today")
    recorded = sorted((tmp_path / "today").iterdir())
    assert {file.name for file in recorded} >= {file.name for file in FILES if file.parent == FILES[-1].parent}
    for file in recorded:
        golden = Golden.read(file)
        execution = golden.replayed()
        assert comparable(execution.ending) == comparable(golden.events[-1])
        execution.close()
