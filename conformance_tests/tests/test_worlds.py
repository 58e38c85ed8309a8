"""Answers to commands that were submitted twice tell what had become of them the first time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from durable_conformance.worlds import are_told_apart, those_that_say, worlds
from durable_core.backend import CreateInstance, Message, Outcome, OutcomeStatus, Release, SendMessage
from durable_core.hub import Beat, State, decide

CREATE = CreateInstance("i", "execution", "orch", b"", "request")
FIRST, SECOND = (SendMessage(Message(id, "i", b"")) for id in ("first", "second"))
OK, AGAIN, GONE = (Outcome(status) for status in (OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED, OutcomeStatus.GONE))


def order_of_messages(state: State) -> list[str]:
    return [row.message.id for row in sorted(state.inbox["i"].values(), key=lambda row: row.position)]


@pytest.mark.parametrize(
    ("outcomes", "order"),
    [([OK, OK, OK], ["first", "second"]), ([AGAIN, AGAIN, AGAIN], ["first", "second"]), ([AGAIN, OK, AGAIN], ["second", "first"])],
    ids=["nothing", "all", "without the middle"],
)
def test_the_answers_tell_what_was_carried_out(outcomes: list[Outcome], order: list[str]) -> None:
    before = State()
    [world] = those_that_say(outcomes, worlds(before, [CREATE, FIRST, SECOND], 1))
    assert order_of_messages(world) == order
    assert before == State(), "it is not changed"


@pytest.mark.parametrize("outcomes", [[OK, AGAIN], [GONE, OK]], ids=["a message before its target", "an answer without a reason"])
def test_some_answers_fit_nothing_that_may_have_been(outcomes: list[Outcome]) -> None:
    assert those_that_say(outcomes, worlds(State(), [CREATE, FIRST], 1)) == []


def test_an_epoch_is_taken_over_as_the_store_has_given_it_out() -> None:
    state = State()
    for effect in decide(state, Beat("w", 1), 1)[1]:
        effect.absorb(state)
    command = replace(CREATE, worker="w")
    turn = decide(state, command, 1)[0].turn
    assert turn is not None
    [world] = those_that_say([replace(OK, turn=replace(turn, epoch=77))], worlds(state, [command], 1))
    assert (world.instances["i"].epoch, world.epoch) == (77, 77)


def test_two_releases_of_one_lease_leave_open_which_was_carried_out() -> None:
    state = State()
    for command in (Beat("w", 1), replace(CREATE, worker="w")):
        for effect in decide(state, command, 1)[1]:
            effect.absorb(state)
    long, short = (Release("i", "execution", state.instances["i"].epoch, delay_us=delay_us) for delay_us in (5, 9))
    assert are_told_apart(worlds(state, [long], 1))
    assert not are_told_apart(worlds(state, [long, short], 1))
