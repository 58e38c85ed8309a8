"""What may have become of a batch whose outcome is unknown.

A reply is lost, or whoever waits for it gives up: each command of the batch may have been carried out or not. Submitted again, each
answers as it promises to do in either case, so the second answers tell the possible worlds apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import compress, product

from msgspec.structs import replace

from durable_core.backend import Command, Outcome
from durable_core.hub import State, decide

__all__ = ["comparable", "worlds"]


def worlds(before: State, commands: Sequence[Command], outcomes: Sequence[Outcome], now_us: int) -> list[State]:
    """The different states in which the hub may be when commands were submitted twice, the second time with these outcomes."""
    found: list[State] = []
    heard = [_without_epoch(outcome) for outcome in outcomes]
    for carried_out in product((False, True), repeat=len(commands)):
        world = deepcopy(before)
        for command in compress(commands, carried_out):
            _carry_out(world, command, now_us)
        answers = [_without_epoch(_carry_out(world, command, now_us)) for command in commands]
        if answers == heard:
            _take_over_epochs(world, outcomes)
            if world not in found:
                found.append(world)
    return found


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
