"""What ``decide`` reads, so that a store may load just that into a partial ``State``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct, field

from durable_core.backend import AbandonWorker, Command, CommitTurn, CompleteTask, CreateInstance, Purge, Release, ReleaseTask, SendMessage
from durable_core.hub.leases import Beat, Grant, tombstone
from durable_core.hub.rows import DetailKind, State, decode_messages


class Needs(Struct):
    """What ``decide`` will read for some commands: a store must load these rows (those that exist) and may load more.

    Always: the counters (``now_us``, ``epoch``, ``position``).

    * ``inboxes``: the due messages of these instances, all of them, or at least the first so many in order of (visible_us, position), and
      beyond those every due *control* message. ``inbox_heads``: of these instances one message, if there is any, due or not.
    * ``messages``: single messages by (target, id), due or not. ``details``: by (instance, kind).
    * ``workers``: only a ``Grant`` and a ``Beat`` read (and put) what their worker claimed last. ``all_workers``: every worker.
    * ``cancelled_tasks_of``: the cancelled tasks that these workers lease.

    Effects on rows that were not loaded are the store's business. ``DropInbox``, ``DropTasks``, ``DropHistory``, ``DropInstance`` (details),
    ``Forget`` and ``DropWorker`` reach rows that nobody named; so may ``DropMessage`` (a cancelled timer), and what is put may replace such
    a row.
    """

    instances: set[str] = set()
    inboxes: Counter[str] = field(default_factory=Counter)
    inbox_heads: set[str] = set()
    messages: set[tuple[str, str]] = set()
    tasks: set[str] = set()
    seen: set[str] = set()
    details: set[tuple[str, DetailKind]] = set()
    workers: set[str] = set()
    all_workers: bool = False
    cancelled_tasks_of: set[str] = set()


def needs(commands: Iterable[Command | Grant | Beat], messages_per_claim: int = 1_000) -> Needs:
    """What must be loaded to decide these commands one after the other (each one's effects absorbed before the next).

    If ``details`` names obituaries, a second helping is needed once those are loaded: ``needs_of_obituaries``. A ``Grant`` that repeats
    its worker's last ``claim_id`` must name that worker row's ``turns`` and ``tasks``.
    """
    found, page = Needs(), messages_per_claim + 1
    for command in commands:
        match command:
            case CommitTurn():
                _commit(found, command, page)
            case SendMessage(message):
                found.instances.add(message.target)
                found.seen.add(message.id)
            case CreateInstance():
                _create(found, command, page)
            case CompleteTask(task, message):
                found.tasks.add(task)
                found.instances.add(message.target)
            case ReleaseTask(task):
                found.tasks.add(task)
            case Release(instance):
                found.instances.add(instance)
            case Purge(instance):
                found.instances.add(instance)
                found.inbox_heads.update(() if command.idle_version is None else (instance,))
                found.details.add((instance, "obituaries"))
            case Grant(worker):
                found.workers.add(worker)
                found.tasks.update(command.tasks)
                for id in command.turns:
                    found.instances.add(id)
                    found.inboxes[id] += page
                    found.details.update(((id, "start"), (id, "snapshot")))
            case AbandonWorker(worker) | Beat(worker):
                found.all_workers = True
                found.seen.add(tombstone(worker))
                found.cancelled_tasks_of.add(worker)
    return found


def needs_of_obituaries(state: State) -> Needs:
    """The targets of the obituaries that were loaded."""
    loaded = [data for (_, kind), data in state.details.items() if kind == "obituaries"]
    return Needs(instances={message.target for data in loaded for message in decode_messages(data)})


def _commit(found: Needs, command: CommitTurn, page: int) -> None:
    dropped = len(command.consumes) + len(command.settles) + len(command.cancel_tasks) + len(command.cancel_timers)
    # All of them, if an execution is over: nobody knows how many are scoped to it.
    found.inboxes[command.instance] += page + dropped if command.next_execution is None else 1 << 40
    found.instances.add(command.instance)
    found.workers.add(command.worker)
    found.tasks.update(command.settles, command.cancel_tasks)
    found.messages.update((command.instance, task) for task in command.settles)
    for create in command.creates:
        _create(found, create, page)
    found.instances.update(message.target for message in (*command.messages, *(command.obituaries or ())))


def _create(found: Needs, command: CreateInstance, page: int) -> None:
    found.instances.add(command.instance)
    if command.request_id:
        found.seen.add(command.request_id)
    if command.worker is not None:
        found.workers.add(command.worker)
        found.inboxes[command.instance] += page
    if command.reuse == "terminate_and_replace":
        found.details.add((command.instance, "obituaries"))
    found.instances.update(message.target for message in (command.bounce, *command.obituaries) if message is not None)
