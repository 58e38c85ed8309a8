"""The hub in memory: all of it, as of the last frame of the log that was read; and what of it may be claimed.

Only durable effects get here. What is decided but not yet durable lives in a ``part``: the rows that ``hub.needs`` names, copied out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from attrs import define, field

from durable_core.backend import ENDED, Capabilities, Selectors
from durable_core.hub import Needs, State, TaskRow, eligible_turns, needs_of_obituaries, next_due
from durable_core.hub import effects as fx

__all__ = ["News", "Replica"]

K = TypeVar("K")
V = TypeVar("V")


@define
class News:
    """What effects were about: something may be claimable, or somebody's waiting may be over."""

    work: bool = False
    ended: bool = False

    def __bool__(self) -> bool:
        return self.work or self.ended


@define
class Replica:
    """``unstarted`` and the inboxes name all instances that may be claimable. ``free`` are the tasks that nobody leases, oldest first unless
    ``_unsorted``; ``cancelled`` those whose worker is still to be told."""

    limits: Capabilities
    state: State = field(init=False)
    unstarted: set[str] = field(factory=set)
    free: dict[str, TaskRow] = field(factory=dict)
    cancelled: dict[str, TaskRow] = field(factory=dict)
    _unsorted: bool = False

    def __attrs_post_init__(self) -> None:
        self.state = State(limits=self.limits)

    # ── what is durable ──────────────────────────────────────────────────────────────────────────────────────

    def absorb(self, effects: Iterable[fx.Effect], news: News) -> None:
        state = self.state
        for effect in effects:
            effect.absorb(state)
            match effect:
                case fx.PutInstance(row):
                    over = row.status in ENDED
                    (self.unstarted.add if row.awaits_start and not over else self.unstarted.discard)(row.instance)
                    news.ended |= over
                    news.work |= not (over or row.claimed)
                case fx.DropInstance(id):
                    self.unstarted.discard(id)
                    news.ended = True
                case fx.PutTask(row):
                    self._put_task(row)
                    news.work |= row.worker is None
                case fx.DropTask(id):
                    self.free.pop(id, None)
                    self.cancelled.pop(id, None)
                case fx.DropWorker() | fx.DropTasks():
                    self._find_tasks()
                    news.work = True
                case fx.PutMessage():
                    news.work = True
                case _:
                    pass

    def _put_task(self, row: TaskRow) -> None:
        self.free.pop(row.id, None)
        if row.worker is None:
            self._unsorted |= bool(self.free) and next(reversed(self.free.values())).position > row.position
            self.free[row.id] = row
        elif row.cancelled:
            self.cancelled[row.id] = row

    def _find_tasks(self) -> None:
        rows = self.state.tasks.values()
        self.free = {row.id: row for row in rows if row.worker is None}
        self.cancelled = {row.id: row for row in rows if row.cancelled}
        self._unsorted = True

    # ── what may be claimed ──────────────────────────────────────────────────────────────────────────────────

    def eligible_turns(self, worker: str, selectors: Selectors, now_us: int) -> list[str]:
        return eligible_turns(self.state, worker, selectors, now_us, self._candidates())

    def eligible_tasks(self, selectors: Selectors) -> Iterator[str]:
        if self._unsorted:
            self.free = dict(sorted(self.free.items(), key=lambda item: item[1].position))
            self._unsorted = False
        return (row.id for row in self.free.values() if row.name in selectors.activities)

    def next_due(self, now_us: int) -> int | None:
        return next_due(self.state, now_us, self._candidates())

    def _candidates(self) -> set[str]:
        return self.unstarted | self.state.inbox.keys()

    # ── what is decided on ───────────────────────────────────────────────────────────────────────────────────

    def part(self, needs: Needs) -> State:
        """The rows that these needs name, in a state of their own. Rows are immutable, so the copy is a copy of references."""
        state = self.state
        part = State(state.now_us, state.epoch, state.position, limits=state.limits, workers=dict(state.workers))
        self._load(part, needs)
        self._load(part, needs_of_obituaries(part))
        return part

    def _load(self, part: State, needs: Needs) -> None:
        state = self.state
        part.instances.update(_found(state.instances, needs.instances))
        part.details.update(_found(state.details, needs.details))
        part.tasks.update(_found(state.tasks, needs.tasks))
        part.seen.update(_found(state.seen, needs.seen))
        for id in {*needs.inboxes, *needs.inbox_heads, *(target for target, _ in needs.messages)}:
            if id in state.inbox:
                part.inbox[id] = dict(state.inbox[id])
        if needs.cancelled_tasks_of:
            part.tasks.update((id, row) for id, row in self.cancelled.items() if row.worker in needs.cancelled_tasks_of)

    # ── all of it ────────────────────────────────────────────────────────────────────────────────────────────

    def as_effects(self) -> Iterator[fx.Effect]:
        """What makes an empty hub this one. To be called at once, consumed at leisure: rows do not change."""
        state = self.state
        history = [(id, tuple(rows)) for id, rows in state.history.items()]
        messages = [row for inbox in state.inbox.values() for row in inbox.values()]
        effects: Sequence[Iterable[fx.Effect]] = [
            map(fx.PutInstance, list(state.instances.values())),
            (fx.PutDetail(id, kind, data) for (id, kind), data in list(state.details.items())),
            map(fx.PutMessage, messages),
            map(fx.PutTask, list(state.tasks.values())),
            (fx.AppendHistory(id, row) for id, rows in history for row in rows),
            (fx.Remember(id, until_us) for id, until_us in list(state.seen.items())),
            map(fx.PutWorker, list(state.workers.values())),
            [fx.Advance(state.epoch, state.position, state.now_us)],
        ]
        return chain.from_iterable(effects)


def _found(table: dict[K, V], keys: Iterable[K]) -> dict[K, V]:
    return {key: table[key] for key in keys if key in table}
