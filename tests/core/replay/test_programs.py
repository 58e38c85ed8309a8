"""Programs in their worlds: whatever the order and the batching of the messages, replay from every prefix gives the same bytes."""

from __future__ import annotations

import pytest

from durable_core.replay.closing import LEAKED
from tests.core.replay.driver import EXAMPLES, check_history, replay_prefixes, run
from tests.core.replay.programs import PROGRAMS

SEEDS = range(max(30, EXAMPLES // 2))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_prefix_of_every_history_goes_on_the_same(name: str) -> None:
    histories = set()
    leaked = len(LEAKED)
    for seed in SEEDS:
        for generation in run(PROGRAMS[name], seed):
            assert generation.ending is not None, f"seed {seed}: the world is empty and the program waits"
            check_history(generation.history)
            replay_prefixes(generation, seed)
            histories.add(tuple((type(event), getattr(event, "id", None)) for event in generation.history))
    assert len(LEAKED) == leaked, "closing halfway, at every message of every history, left something behind"
    assert len(histories) > 1, "all seeds gave one order: nothing was tested"


@pytest.mark.parametrize("name", PROGRAMS)
def test_terminated_anywhere(name: str) -> None:
    for seed in SEEDS[: len(SEEDS) // 3]:
        for generation in run(PROGRAMS[name], seed, terminate=True):
            check_history(generation.history)
            replay_prefixes(generation, seed)
