"""``decide``: which rule answers which command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from durable_core.backend import (
    AbandonWorker,
    Claim,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Heartbeat,
    Outcome,
    Purge,
    Release,
    SendMessage,
)
from durable_core.hub.commands import complete, create, purge, release, send
from durable_core.hub.commit import commit
from durable_core.hub.effects import Effect
from durable_core.hub.leases import Beat, Grant, abandon, beat, grant
from durable_core.hub.rows import State

_RULES: dict[type, Callable[[State, Any, int], tuple[Any, list[Effect]]]] = {
    CreateInstance: create,
    SendMessage: send,
    CommitTurn: commit,
    CompleteTask: complete,
    Release: release,
    Purge: purge,
    AbandonWorker: abandon,
    Grant: grant,
    Beat: beat,
}


@overload
def decide(state: State, command: Grant, now_us: int) -> tuple[Claim, list[Effect]]: ...
@overload
def decide(state: State, command: Beat, now_us: int) -> tuple[Heartbeat, list[Effect]]: ...
@overload
def decide(state: State, command: Command, now_us: int) -> tuple[Outcome, list[Effect]]: ...
def decide(state: State, command: Command | Grant | Beat, now_us: int) -> tuple[Outcome | Claim | Heartbeat, list[Effect]]:
    """What a command does to a hub: its answer, and effects to be absorbed in order. Nothing is changed by asking.

    The hub's clock is ``now_us`` or, if that is behind, the time of the last effects. A refused command has no effects at all. A batch
    is decided one command at a time, the effects of each absorbed before the next.
    """
    return _RULES[type(command)](state, command, now_us)
