"""Critical sections over entities: ``async with ctx.lock_entities(a, b): ...``.

The orchestration itself asks for the locks, one after the other, in the order of the ids: so two sections never wait for each other, and
asking for a lock and giving it back share one (sender, target) order, in which no message overtakes another. Inside a section whatever could
wait for somebody who waits for the lock is refused. A section that is left, in whatever way, gives back what it has and takes back what it
has asked for. An execution that ends within a section, or is removed, records nothing more: then the commit that ends it does so, or the hub
(see ``Turn.locks``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from durable_core.definitions.entity import EntityId
from durable_core.errors import LockingRulesViolationError
from durable_core.events import EntityLockRequested, EntityUnlocked, Event
from durable_core.replay.futures import DurableTask

if TYPE_CHECKING:
    from durable_core.replay.machine import Execution


class CriticalSection:
    """An async context manager; not reusable."""

    def __init__(self, execution: Execution, ids: Iterable[EntityId]) -> None:
        self._execution = execution
        self._numbers: list[int] = []
        self.entities = sorted({id.instance_id for id in ids})

    async def __aenter__(self) -> None:
        self._execution.forbid_in_section("lock_entities")
        self._execution.section = self
        try:
            for entity in self.entities:
                task: DurableTask[None] = DurableTask(self._execution.loop, f"the lock of {entity}", "entity")
                task.task_id = self._execution.request_lock(entity, task)
                self._numbers.append(task.task_id)
                await task
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_exc: Any) -> None:
        self._leave()

    def _leave(self) -> None:
        self._execution.section = None
        for number in reversed(self._numbers):
            self._execution.release_lock(number)

    def check_call(self, entity: str) -> None:
        if entity not in self.entities:
            has = ", ".join(self.entities)
            raise LockingRulesViolationError(
                f"inside lock_entities only locked entities may be called, and {entity} is not among them ({has}); lock it too, or signal it"
            )


def outstanding_locks(history: Iterable[Event]) -> tuple[tuple[int, str], ...]:
    """What an execution that is not in memory has locked, or has asked to lock."""
    locks: dict[int, str] = {}
    for event in history:
        if isinstance(event, EntityLockRequested):
            locks[event.id] = event.entity
        elif isinstance(event, EntityUnlocked):
            locks.pop(event.id, None)
    return tuple(locks.items())
