"""External events: buffered in order of arrival until somebody waits, and handed to waiters first come, first served."""

from __future__ import annotations

from collections import deque
from typing import Any

from durable_core.events import EventRaised
from durable_core.replay.futures import DurableTask


class ExternalEvents:
    """Names are compared case-insensitively."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[DurableTask[Any]]] = {}
        self.buffered: list[EventRaised] = []

    def raised(self, event: EventRaised) -> None:
        queue = self._waiting.get(event.name.casefold())
        if queue:
            queue.popleft().succeed(event.input)
        else:
            self.buffered.append(event)

    def wait(self, task: DurableTask[Any]) -> None:
        """``task.name`` is the event's name."""
        name = task.name.casefold()
        for index, event in enumerate(self.buffered):
            if event.name.casefold() == name:
                del self.buffered[index]
                task.succeed(event.input)
                return
        self._waiting.setdefault(name, deque()).append(task)

    def give_up(self, task: DurableTask[Any]) -> None:
        """A cancelled wait consumes nothing."""
        queue = self._waiting.get(task.name.casefold())
        if queue and task in queue:
            queue.remove(task)

    @property
    def awaited(self) -> bool:
        return any(self._waiting.values())
