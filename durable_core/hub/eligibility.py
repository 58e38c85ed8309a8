"""Who may be served, since when, and with which messages. Nothing here writes.

A store finds candidates by its own indexes; ``eligible_turns`` and ``eligible_tasks`` say what it should find, and ``Grant`` checks each
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from durable_core.backend import DELIVERIES_IN_COMPANY, ENDED, InstanceStatus, Message, Selectors
from durable_core.hub.rows import InstanceRow, MessageRow, State, TaskRow

STEAL_AFTER_US = 1_000_000
"""A due message that waited this long may be served by others although the instance is held."""


def page(rows: Iterable[MessageRow], now_us: int, limit: int) -> tuple[tuple[Message, ...], bool]:
    """The first ``limit`` due messages, and whether there are others. Control messages among the others follow at once, so that no
    backlog hides them."""
    due = sorted(row for row in rows if row.visible_us <= now_us)
    handed = due[:limit] + [row for row in due[limit:] if row.message.control]
    return tuple(row.message for row in handed), len(due) > limit


def runnable(row: InstanceRow, now_us: int) -> bool:
    """Whether more than control messages may be applied: not ended, suspended, parked, backing off or delayed."""
    return row.status not in ENDED and row.status is not InstanceStatus.SUSPENDED and not row.parked and row.not_before_us <= now_us


def due_since(row: InstanceRow, rows: Iterable[MessageRow], now_us: int, *, admitted: bool = True) -> int | None:
    """Since when there has been something to do for an instance, leases apart; None if there is nothing.

    A runnable instance of an ``admitted`` name has been due since its oldest due message, or since its ``start`` if that is still to come
    (but never since before its delay or back-off ended); any other one that has not ended, since its oldest due control message.
    """
    due = [message for message in rows if message.visible_us <= now_us]
    if not (due or row.awaits_start) or row.status in ENDED:
        return None
    if not (admitted and runnable(row, now_us)):
        return min((message.visible_us for message in due if message.message.control), default=None)
    start = [row.updated_us] if row.awaits_start else []
    return max(min(start + [message.visible_us for message in due]), row.not_before_us)


def admits(selectors: Selectors, row: InstanceRow) -> bool:
    return row.name in (selectors.entities if row.is_entity else selectors.orchestrators)


def is_own(row: InstanceRow, worker: str, now_us: int) -> bool:
    """Whether ``worker`` holds the instance: its claim then raises no epoch and counts no attempt."""
    return row.holder == worker and row.hold_until_us > now_us


def is_suspect(row: InstanceRow, worker: str, now_us: int) -> bool:
    """Whether a claim by ``worker`` would be another attempt at what may have killed a process: it is to be run alone."""
    return row.attempt > 0 and not is_own(row, worker, now_us)


def claimable_since(state: State, id: str, worker: str, selectors: Selectors, now_us: int) -> int | None:
    """Since when ``worker`` might have claimed an instance; None if it may not.

    Not while a turn of it is out, whoever's. While another worker holds it, only what has been due for ``STEAL_AFTER_US``.
    """
    row = state.instances.get(id)
    if row is None or row.claimed:
        return None
    since = due_since(row, state.inbox.get(id, {}).values(), now_us, admitted=admits(selectors, row))
    free = row.holder in (None, worker) or row.hold_until_us <= now_us
    return since if since is not None and (free or since + STEAL_AFTER_US <= now_us) else None


def eligible_turns(state: State, worker: str, selectors: Selectors, now_us: int, among: Iterable[str] | None = None) -> list[str]:
    """The instances that ``worker`` may claim now, oldest due first; the store grants as many of the first ones as it likes.

    A suspect is listed alone, when nothing else has been due for longer. Where others have, the list ends before the first suspect that
    has been due for over a second (it is then alone in a later claim), and younger suspects are left out. ``among`` narrows the search to
    candidates that an index found.
    """
    if worker not in state.workers:
        return []
    now_us = max(now_us, state.now_us)
    ids = state.instances if among is None else among
    found = [(since, id) for id in ids if (since := claimable_since(state, id, worker, selectors, now_us)) is not None]
    turns: list[str] = []
    for since, id in sorted(found):
        if not is_suspect(state.instances[id], worker, now_us):
            turns.append(id)
        elif not turns:
            return [id]
        elif since + STEAL_AFTER_US <= now_us:
            break
    return turns


def eligible_tasks(state: State, worker: str, selectors: Selectors) -> list[str]:
    """The tasks that ``worker`` may claim now, oldest first: free ones of a known name, whatever their instance is doing. A suspect is
    listed if it is the oldest, and then alone: no turn is granted with it."""
    if worker not in state.workers:
        return []
    free = [row for row in sorted(state.tasks.values(), key=attrgetter("position")) if is_free(row, selectors)]
    return [row.id for row in without_suspects(free)]


def without_suspects(tasks: list[TaskRow]) -> list[TaskRow]:
    """Of these tasks, oldest first, those that may be leased together: a suspect alone, or none."""
    return tasks[:1] if tasks and is_suspect_task(tasks[0]) else [row for row in tasks if not is_suspect_task(row)]


def is_suspect_task(row: TaskRow) -> bool:
    """Whether it was delivered and not answered so often that it is to be run alone."""
    return row.attempt >= DELIVERIES_IN_COMPANY


def is_free(row: TaskRow, selectors: Selectors) -> bool:
    return row.worker is None and row.name in selectors.activities


def next_due(state: State, now_us: int, among: Iterable[str] | None = None) -> int | None:
    """The next hub time at which passing time alone may make something claimable, for any worker: a message falls due, a delay or
    back-off ends, a hold ends, or something held has waited long enough to be stolen. None if there is no such time. It may be too early,
    never too late."""
    now_us = max(now_us, state.now_us)
    times: list[int] = []
    for id in state.instances if among is None else among:
        row, inbox = state.instances.get(id), state.inbox.get(id, {})
        if row is None or row.status in ENDED or row.claimed or not (inbox or row.awaits_start):
            continue
        times += (message.visible_us for message in inbox.values())
        times.append(row.not_before_us)
        if row.holder is not None:
            since = due_since(row, inbox.values(), now_us)
            times += (row.hold_until_us,) if since is None else (row.hold_until_us, since + STEAL_AFTER_US)
    return min((time for time in times if time > now_us), default=None)
