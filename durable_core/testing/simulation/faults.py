"""What goes wrong, how often, and when exactly.

Each chance that something goes wrong has a name of its own ("lost reply w2.1 17": the 17th reply to process w2.1), and the seed and that name
alone decide. So a fault can be left out without changing the dice of any other, which is what makes a failing run shrinkable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any

from attrs import define, field, fields_dict, frozen

_NO_FAULT = ("event_every_steps", "until_s")
_FOLLOWING = ("cold replay", "given up", "termination")


@frozen(kw_only=True)
class Faults:
    """How often what goes wrong. Probabilities are per call of the store, or per moment at which something happens to a process
    (every ``event_every_steps`` of its steps, on average).

    ``until_s``: later nothing goes wrong any more, and everything has to come to its end. ``small_caches`` is the share of processes with next to
    no cache; ``deaf`` that of runs in which no wake-up ever arrives; ``proved_deaths`` that of runs whose store notices deaths at once.
    """

    delay: float = 0.05
    unavailable: float = 0.03
    lost_reply: float = 0.03
    cut_batch: float = 0.1
    repeated_claim: float = 0.1
    late_repeat: float = 0.02
    lost_wakeup: float = 0.2
    repeated_wakeup: float = 0.1
    crash: float = 0.25
    crash_in_write: float = 0.005
    pause: float = 0.2
    clock_jump: float = 0.2
    restart: float = 0.1
    suspend: float = 0.5
    deserted_start: float = 0.3
    small_caches: float = 0.5
    skewed_clocks: float = 0.5
    deaf: float = 0.1
    proved_deaths: float = 0.5
    event_every_steps: int = 1_500
    until_s: float = 40.0

    @classmethod
    def none(cls) -> Faults:
        """Nothing goes wrong."""
        nothing: dict[str, Any] = {name: 0.0 for name in fields_dict(cls) if name not in _NO_FAULT}
        return cls(**nothing)


@frozen
class Fault:
    """One that was injected: the ``number``-th chance of this kind at this process. ``what`` says more about it."""

    kind: str
    process: str
    number: int
    at_s: float
    what: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind} {self.process} {self.number}"

    def __str__(self) -> str:
        return f"{self.at_s:8.3f} s  {self.key}{f' ({self.what})' if self.what else ''}"


def kinds() -> list[str]:
    """Every kind of fault there is, as the report names it, and what else it counts: histories read anew, workers that were given up as dead and
    came back, instances terminated by a client."""
    return [*_FOLLOWING, *(name.replace("_", " ") for name in fields_dict(Faults) if name not in _NO_FAULT)]


@define
class Plan:
    """The dice of one run. ``only``: the faults to which it is restricted (None: all). ``calm``: nothing goes wrong any more."""

    seed: int
    faults: Faults
    time: Callable[[], float]
    only: frozenset[str] | None = None
    injected: list[Fault] = field(factory=list)
    calm: bool = False
    _chances: Counter[tuple[str, str]] = field(factory=Counter)

    @property
    def over(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self.calm or self.time() >= self.faults.until_s

    def hit(self, kind: str, process: str, what: str = "") -> Random | None:
        """Whether it goes wrong this time; if so, the dice for the rest of it."""
        if self.over:
            return None
        chance = kind, process
        self._chances[chance] += 1
        fault = Fault(kind.replace("_", " "), process, self._chances[chance], self.time(), what)
        digest = blake2b(f"{self.seed} {fault.key}".encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") / 2**64 >= getattr(self.faults, kind) or (self.only is not None and fault.key not in self.only):
            return None
        self.injected.append(fault)
        return Random(digest)

    def dice(self, name: str) -> Random:
        """For what is no fault."""
        return Random(f"{self.seed} {name}")
