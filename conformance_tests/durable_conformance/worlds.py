"""What may have become of a batch whose outcome is unknown.

A reply is lost, or whoever waits for it gives up: each command of the batch may have been carried out or not. Submitted again, each
answers as it promises to do in either case, so the second answers tell the possible worlds apart: all but a few, such as those of two
releases of one lease, which answer the same whichever of them was carried out. What a batch can leave open is known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import combinations, compress, product

from attrs import frozen
from msgspec.structs import replace

from durable_core.backend import Command, Outcome
from durable_core.hub import State, decide

__all__ = ["World", "are_told_apart", "comparable", "those_that_say", "worlds"]


@frozen
class World:
    """A state in which the hub may be when the commands were submitted twice, and what they answered the second time."""

    answers: list[tuple[object, ...]]
    state: State


def worlds(before: State, commands: Sequence[Command], now_us: int) -> list[World]:
    """The different worlds after the commands were submitted twice, the first time without a reply."""
    found: list[World] = []
    for carried_out in product((False, True), repeat=len(commands)):
        state = deepcopy(before)
        for command in compress(commands, carried_out):
            _carry_out(state, command, now_us)
        world = World([_without_epoch(_carry_out(state, command, now_us)) for command in commands], state)
        if world not in found:
            found.append(world)
    return found


def are_told_apart(possible: Sequence[World]) -> bool:
    """By their answers."""
    return all(one.answers != other.answers for one, other in combinations(possible, 2))


def those_that_say(outcomes: Sequence[Outcome], possible: Sequence[World]) -> list[State]:
    """The states of the worlds that these outcomes fit, with the epochs that the store has given out."""
    heard = [_without_epoch(outcome) for outcome in outcomes]
    states = [world.state for world in possible if world.answers == heard]
    for state in states:
        _take_over_epochs(state, outcomes)
    return states


def comparable(outcome: Outcome) -> tuple[object, ...]:
    """All of an outcome but the text of its error."""
    return outcome.status, outcome.messages, outcome.more, outcome.turn, type(outcome.error)


def _carry_out(state: State, command: Command, now_us: int) -> Outcome:
    outcome, effects = decide(state, command, now_us)
    for effect in effects:
        effect.absorb(state)
    return outcome


def _without_epoch(outcome: Outcome) -> tuple[object, ...]:
    """A store's epochs have gaps, and nobody was told of those that were given out the first time."""
    return comparable(outcome if outcome.turn is None else replace(outcome, turn=replace(outcome.turn, epoch=0)))


def _take_over_epochs(state: State, outcomes: Sequence[Outcome]) -> None:
    for turn in (outcome.turn for outcome in outcomes):
        if turn is not None and turn.instance in state.instances:
            state.instances[turn.instance] = replace(state.instances[turn.instance], epoch=turn.epoch)
            state.epoch = max(state.epoch, turn.epoch)
