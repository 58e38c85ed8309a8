"""A suspect activity (each of whose earlier workers died) runs alone, so that those who merely die with it are told from the killer.

Most killers kill at once, so this lasts ten seconds at first: an honest long activity holds a worker up no longer. With each further
delivery it is six times as long, so that a slow killer is found, too, before its company is taken for one.
"""

from __future__ import annotations

from collections.abc import Callable

from durable_core.backend import DELIVERIES_IN_COMPANY, ClaimedTask
from durable_core.runtime.clock import Clock, Timer

_FIRST_S = 10.0
_GROWTH = 6


class Isolation:
    """``over`` is called when the worker may take on others again."""

    def __init__(self, clock: Clock, over: Callable[[], None]) -> None:
        self._clock = clock
        self._over = over
        self._suspect = ""
        self._timer: Timer | None = None

    @property
    def active(self) -> bool:
        """Whether nothing is to be taken on."""
        return bool(self._suspect)

    def begin(self, task: ClaimedTask) -> None:
        """The task starts; nothing is done unless it is a suspect."""
        deaths = task.attempt - DELIVERIES_IN_COMPANY
        if deaths > 0 and not self.active:
            self._suspect = task.id
            self._timer = self._clock.call_later(_FIRST_S * _GROWTH ** (deaths - 1), lambda: self.end(task))

    def end(self, task: ClaimedTask) -> None:
        """It has ended, or runs for long enough."""
        if self._suspect == task.id:
            self._suspect = ""
            if self._timer is not None:
                self._timer.cancel()
            self._over()
