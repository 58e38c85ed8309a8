"""Stores that break one promise each: the store in memory behind a thin layer of mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from durable_conformance.memory import MemoryHarness
from durable_core.backend import Command, CommitTurn, Outcome, SendMessage
from durable_core.testing.memory import MemoryBackend

__all__ = ["EarlyTimers", "FenceIgnored", "Forgetful", "Unreachable", "Watermark"]


class _Ignoring(MemoryBackend):
    """Accepts every commit to an instance that is there."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return [(await MemoryBackend.apply(self, [self._spoil(command)]))[0] for command in commands]

    def _spoil(self, command: Command) -> Command:
        if isinstance(command, CommitTurn):
            row = self._store.state.instances.get(command.instance)
            if row is not None:
                return replace(command, execution=row.execution, epoch=row.epoch, version=row.version)
        return command


class _Watermark(MemoryBackend):
    """Consumes everything up to the last message that a turn names."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return [(await MemoryBackend.apply(self, [self._spoil(command)]))[0] for command in commands]

    def _spoil(self, command: Command) -> Command:
        if isinstance(command, CommitTurn):
            inbox = self._store.state.inbox.get(command.instance, {})
            last = max((inbox[id].position for id in command.consumes if id in inbox), default=0)
            upto = tuple(id for id, row in inbox.items() if row.position <= last)
            return replace(command, consumes=(*command.consumes, *upto))
        return command


class _Early(MemoryBackend):
    """Its timers fire a little before they are due."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await super().apply([self._spoil(command) for command in commands])

    @staticmethod
    def _spoil(command: Command) -> Command:
        if isinstance(command, CommitTurn):
            return replace(command, timers=tuple(replace(timer, due_us=max(1, timer.due_us - 5)) for timer in command.timers))
        return command


class _Forgetful(MemoryBackend):
    """Takes every message for a new one."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for command in commands:
            if isinstance(command, SendMessage):
                self._store.state.seen.pop(command.message.id, None)
            outcomes += await super().apply([command])
        return outcomes


class FenceIgnored(MemoryHarness):
    kind = _Ignoring


class Watermark(MemoryHarness):
    kind = _Watermark


class EarlyTimers(MemoryHarness):
    kind = _Early


class Forgetful(MemoryHarness):
    kind = _Forgetful


class Unreachable(MemoryHarness):
    async def open(self) -> MemoryBackend:
        raise ConnectionRefusedError("nobody answers")
