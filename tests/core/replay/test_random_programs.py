"""Random orchestrators in random worlds: a generated tree of asyncio and context operations, interpreted by one generic orchestrator.

Whatever the program and whatever the world: the history obeys the rules of every history, and every prefix of it replays and goes on to the
same bytes, under any other batching. ``DURABLE_EXAMPLES=5000`` is the night's work; hypothesis prints what repeats a failure.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.replay.driver import EXAMPLES, Program, check_history, replay_prefixes, run
from tests.core.replay.interpreter import EVENTS, REGISTRY, Node, interpret

POSITIONS_MAX = 12

# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────

_delay = st.sampled_from([-1, 0, 0.3, 1, 1, 1.7, 2.5, 4])
_small = st.integers(0, 3)
_name = st.sampled_from(["red", "Red", "blue"])

leaves: st.SearchStrategy[Node] = st.one_of(
    st.tuples(st.just("call"), _small),
    st.tuples(st.just("call"), _small),
    st.tuples(st.just("fail"), _small),
    st.tuples(st.sampled_from(["sleep", "timer"]), _delay),
    st.tuples(st.just("retry"), _small, st.integers(1, 4), _delay),
    st.tuples(st.just("limited"), st.sampled_from([0.5, 1, 2]), _small),
    st.tuples(st.just("event"), _name, st.sampled_from([0.5, 1, 3])),
    st.tuples(st.just("child"), _small),
    st.tuples(st.sampled_from(["entity", "signal", "send"]), _small),
    st.tuples(st.just("put"), st.integers(0, 1)),
    st.tuples(st.just("get"), st.integers(0, 1), _delay),
    st.tuples(st.sampled_from(["raise", "chance", "unawaited", "gather_kept"])),
    st.tuples(st.sampled_from(["hand_over", "take_over", "await_notice", "flag"]), _delay),
    st.tuples(st.just("notify"), _small),
).map(list)


def branches(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.sampled_from(["seq", "gather", "outcomes", "group", "race", "any", "all", "completed", "pages", "permits"]), several),
        st.tuples(st.sampled_from(["wait", "completed_late"]), _delay, several),
        st.tuples(st.sampled_from(["timeout", "wait_for", "coroutine_for", "cancel_after", "shield"]), _delay, nodes),
        st.tuples(st.sampled_from(["try", "stubborn", "keep", "semaphore", "lock", "background", "cancel_now"]), nodes),
        st.tuples(st.just("finally"), nodes, nodes),
        st.tuples(st.just("generation"), nodes),
        st.tuples(st.just("section"), st.lists(st.sampled_from("ef"), min_size=1, max_size=2), nodes),
    ).map(list)


_steps = st.lists(st.recursive(leaves, branches, max_leaves=8), min_size=3, max_size=6)
programs = st.lists(_steps, min_size=2, max_size=4).map(lambda arms: ["arms", arms])


# ── the property ──────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(programs, st.integers(0, 2**32), st.sampled_from([False, False, False, True]))
def test_random_programs_replay_from_every_prefix(node: Node, seed: int, terminate: bool) -> None:
    program = Program(interpret, REGISTRY, (node,), EVENTS, {"child": lambda x: x * 10})
    for generation in run(program, seed, terminate=terminate):
        assert generation.ending is not None
        check_history(generation.history)
        replay_prefixes(generation, seed, most=POSITIONS_MAX)
