"""Stores whose own code is changed as long as a harness exists: the ground under ``sqlite.py`` and ``postgres.py``."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from durable_core.backend import CommitTurn
from durable_core.hub import State, decide

__all__ = ["Edits", "changed", "unfenced", "without_fence"]


class Edits:
    """Variables of modules that have another value until ``undo``."""

    def __init__(self) -> None:
        self._whole: list[tuple[Any, str, Any]] = []

    def put(self, module: Any, variable: str, value: Any) -> None:
        self._whole.append((module, variable, getattr(module, variable)))
        setattr(module, variable, value)

    def undo(self) -> None:
        for module, variable, value in reversed(self._whole):
            setattr(module, variable, value)
        self._whole.clear()


def changed(text: str, old: str, new: str) -> str:
    """A text that holds ``old`` once: a line that was rewritten since breaks nothing any more, which is not to go unnoticed."""
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    return text.replace(old, new)


def unfenced(state: State, command: Any, now_us: int) -> Any:
    """``decide`` for a store that does not compare the fence."""
    return decide(state, without_fence(state, command), now_us)


def without_fence(state: State, command: Any) -> Any:
    """A commit with whatever fence is current."""
    row = state.instances.get(command.instance) if isinstance(command, CommitTurn) else None
    return command if row is None else replace(command, execution=row.execution, epoch=row.epoch, version=row.version)
