"""Random commands for ``machine.py``.

A recipe is plain data, so that hypothesis can shrink it; ``build`` fills in ids of what is there, so that many commands make
sense, and some don't.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from hypothesis import strategies as st
from msgspec.structs import replace

from durable_core.backend import (
    ENDED,
    AbandonWorker,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    InstanceStatus,
    Message,
    NewTask,
    NextExecution,
    ParentRef,
    Purge,
    RecordUpdate,
    Release,
    ReleaseTask,
    SendMessage,
)
from durable_core.hub import State

__all__ = ["BATCHES", "FEW", "IDS", "MESSAGES", "TURNS", "Known", "Recipe", "build", "plain_turns"]

IDS = ["a", "b", "c%", "@counter@k"]
ORCHESTRATIONS = IDS[:3]
ENTITY = IDS[3]

Recipe = tuple[str, dict[str, Any]]

_ids = st.sampled_from(IDS)
_recent = st.integers(0, 7)
"""Counts from the newest; most often the newest itself is meant."""
_offset_us = st.sampled_from([0, 0, 0, 500_000, 2_000_000, 10_000_000])
_hold_us = st.sampled_from([0, 500_000, 3_600_000_000, 3_600_000_000])


def _recipe(kind: str, /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Recipe]:
    return st.fixed_dictionaries(fields).map(lambda values: (kind, values))


_creates = _recipe(
    "create",
    instance=st.sampled_from(ORCHESTRATIONS),
    name=st.sampled_from(["orch", "orch", "orch", "other", "unheard of"]),
    reuse=st.sampled_from(["error", "return_existing", "replace_ended", "terminate_and_replace"]),
    delay_us=st.sampled_from([0, 0, 0, 700_000]),
    worker=st.none() | _recent,
    parent=st.none() | st.sampled_from(ORCHESTRATIONS),
    obituary=st.none() | _ids,
)
_sends = _recipe(
    "send",
    target=_recent,
    offset_us=_offset_us,
    control=st.sampled_from([False, False, True]),
    scoped=st.booleans(),
    again=st.sampled_from([False, False, False, True]),
)
_commits = _recipe(
    "commit",
    lease=_recent,
    stale=st.sampled_from([False, False, False, True]),
    count=st.sampled_from([0, 1, 1, 3]),
    consumes=st.sampled_from(["all", "all", "first", "none"]),
    settles=st.lists(_recent, max_size=2, unique=True),
    tasks=st.lists(st.tuples(st.sampled_from(["act", "act", "slow", "unheard of"]), st.booleans()), max_size=2),
    cancels=st.lists(_recent, max_size=1),
    messages=st.lists(st.tuples(_ids, _offset_us), max_size=2),
    timers=st.lists(_offset_us, max_size=2),
    cancel_timers=st.lists(_recent, max_size=1),
    child=st.none() | st.sampled_from(ORCHESTRATIONS),
    status=st.sampled_from(
        [None] * 8 + [InstanceStatus.RUNNING, InstanceStatus.SUSPENDED, InstanceStatus.COMPLETED, InstanceStatus.FAILED]
    ),
    again=st.sampled_from([False] * 5 + [True]),
    snapshot=st.sampled_from([None, None, b"", b"state"]),
    keep_tasks=st.booleans(),
    obituary=st.none() | _ids,
    problem=st.sampled_from([None, "slow"]),
    hold_us=_hold_us,
)
_completes = _recipe("complete", task=_recent)
_releases = _recipe(
    "release",
    lease=_recent,
    problem=st.sampled_from([None, "crashed"]),
    delay_us=st.sampled_from([0, 800_000]),
    park=st.booleans(),
    uncount=st.booleans(),
)
_task_releases = _recipe(
    "release_task", task=_recent, worker=st.none() | _recent, behind=st.sampled_from([0, 0, 0, 1]), uncount=st.booleans()
)
_purges = _recipe(
    "purge",
    instance=_ids,
    force=st.sampled_from([False, False, False, True]),
    idle_version=st.sampled_from([None, None, None, None, None, 0, 1]),
)
_abandons = _recipe("abandon", lease=_recent)

_any = st.one_of(_commits, _sends, _commits, _creates, _commits, _completes, _releases, _task_releases, _purges, _abandons)
BATCHES = st.lists(_any, min_size=1, max_size=5)
FEW = st.lists(_any, min_size=1, max_size=3)
MESSAGES = st.lists(_sends, min_size=1, max_size=3)
TURNS = st.lists(st.one_of(_commits, _completes), min_size=1, max_size=3)


@define
class Known:
    """The model, and what earlier commands have made for later ones to refer to, oldest first."""

    model: State
    now_us: int = 0
    leases: list[tuple[str, ClaimedTurn]] = field(factory=list)
    tasks: dict[str, ClaimedTurn] = field(factory=dict)
    messages: list[str] = field(factory=list)
    number: int = 0

    def fresh(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def current(self) -> list[tuple[str, ClaimedTurn]]:
        """Leases that nobody has taken over, with the fence of the last commit, as a worker keeps it."""
        found: list[tuple[str, ClaimedTurn]] = []
        for worker, turn in self.leases:
            row = self.model.instances.get(turn.instance)
            if row is not None and row.epoch == turn.epoch and row.status not in ENDED:
                found.append((worker, replace(turn, execution=row.execution, version=row.version)))
        return found

    def unfinished(self, instance: str) -> list[str]:
        """Tasks of an instance that are there, or whose completion is; all that ever were, if there are none."""
        mine = [id for id, turn in self.tasks.items() if turn.instance == instance]
        return [id for id in mine if id in self.model.tasks or id in self.model.inbox.get(instance, {})] or mine


def plain_turns(known: Known, hold_us: int) -> list[Command]:
    """A turn of each instance that is leased, consuming all there is."""
    turns: dict[str, Command] = {}
    for worker, turn in known.current():
        inbox = known.model.inbox.get(turn.instance, {}).values()
        consumes = tuple(row.message.id for row in inbox if row.visible_us <= known.now_us)
        fence = turn.instance, turn.execution, turn.epoch, turn.version
        turns[turn.instance] = CommitTurn(*fence, worker, known.fresh("commit"), b"[]", 1, consumes, hold_us=hold_us)
    return list(turns.values())


def build(recipe: Recipe, known: Known) -> Command | None:
    """The command, or None if it needs something that is not there yet."""
    name, fields = recipe
    command: Command | None = _BUILD[name](known, **fields)
    return command


def _pick(items: list[Any], recent: int) -> Any:
    return items[-1 - recent % len(items)] if items else None


def _message(known: Known, target: str, offset_us: int = 0, **fields: Any) -> Message:
    id = known.fresh("m")
    known.messages.append(id)
    due_us = 0 if offset_us == 0 else known.now_us + offset_us
    creates = "counter" if target == ENTITY else None
    return Message(id, target, id.encode(), due_us=due_us, creates=creates, **fields)


def _create(known: Known, instance: str, worker: int | None, parent: str | None, obituary: str | None, **fields: Any) -> Command:
    lease = _pick(known.leases, worker) if worker is not None else None
    return CreateInstance(
        instance,
        known.fresh("e"),
        start=known.fresh("start").encode(),
        request_id=known.fresh("r"),
        worker=lease[0] if lease else None,
        parent=ParentRef(parent, "e") if parent else None,
        bounce=_message(known, parent) if parent else None,
        obituaries=(_message(known, obituary),) if obituary else (),
        **fields,
    )


def _send(known: Known, target: int, offset_us: int, control: bool, scoped: bool, again: bool) -> Command:
    return _send_to(known, (*known.model.instances, *IDS)[target % (len(known.model.instances) + 1)], offset_us, control, scoped, again)


def _send_to(known: Known, target: str, offset_us: int, control: bool, scoped: bool, again: bool) -> Command:
    executions = [turn.execution for _, turn in known.leases if turn.instance == target]
    message = _message(known, target, offset_us, control=control, execution=executions[-1] if scoped and executions else None)
    if again and known.messages:
        return SendMessage(Message(known.messages[0], target, b"again"))
    return SendMessage(message)


def _commit(
    known: Known,
    lease: int,
    stale: bool,
    count: int,
    consumes: str,
    settles: list[int],
    tasks: list[tuple[str, bool]],
    cancels: list[int],
    messages: list[tuple[str, int]],
    timers: list[int],
    cancel_timers: list[int],
    child: str | None,
    status: InstanceStatus | None,
    again: bool,
    snapshot: bytes | None,
    obituary: str | None,
    **fields: Any,
) -> Command | None:
    lease_and_worker = _pick(known.leases if stale else known.current() or known.leases, lease)
    if lease_and_worker is None:
        return None
    worker, turn = lease_and_worker
    mine = known.unfinished(turn.instance)
    new = tuple(NewTask(known.fresh("t"), task, b"input", claim) for task, claim in tasks)
    known.tasks.update((task.id, turn) for task in new)
    following = NextExecution(known.fresh("e"), b"again") if again and not _is_end(status) else None
    inbox = [row.message.id for row in known.model.inbox.get(turn.instance, {}).values() if row.visible_us <= known.now_us]
    return CommitTurn(
        turn.instance,
        turn.execution,
        turn.epoch,
        turn.version,
        worker,
        known.fresh("commit"),
        append=f"[{known.number}]".encode() if count else None,
        append_count=count,
        consumes=tuple({"all": inbox, "first": inbox[:1], "none": []}[consumes]),
        settles=tuple(_pick(mine, recent) for recent in settles if mine),
        tasks=new,
        cancel_tasks=tuple(_pick(mine, recent) for recent in cancels if mine),
        messages=tuple(_message(known, target, offset_us) for target, offset_us in messages),
        creates=() if child is None else (_child(known, turn, child),),
        timers=tuple(_message(known, turn.instance, offset_us, execution=turn.execution) for offset_us in timers),
        cancel_timers=tuple(_pick(known.messages, recent) for recent in cancel_timers if known.messages),
        record=None if status is None else RecordUpdate(status, custom_status=b"custom", output=b"output" if _is_end(status) else None),
        snapshot=snapshot,
        next_execution=following,
        obituaries=None if obituary is None else (_message(known, obituary),),
        **fields,
    )


def _is_end(status: InstanceStatus | None) -> bool:
    return status in (InstanceStatus.COMPLETED, InstanceStatus.FAILED, InstanceStatus.TERMINATED)


def _child(known: Known, turn: ClaimedTurn, child: str) -> CreateInstance:
    parent = ParentRef(turn.instance, turn.execution)
    return CreateInstance(child, known.fresh("e"), "orch", b"child", parent=parent, bounce=_message(known, turn.instance))


def _complete(known: Known, task: int) -> Command | None:
    if not known.tasks:
        return None
    id, turn = _pick(list(known.tasks.items()), task)
    return CompleteTask(id, Message(id, turn.instance, b"result", execution=turn.execution))


def _release(known: Known, lease: int, **fields: Any) -> Command | None:
    if not known.leases:
        return None
    _, turn = _pick(known.leases, lease)
    return Release(turn.instance, turn.execution, turn.epoch, **fields)


def _release_task(known: Known, task: int, worker: int | None, behind: int, uncount: bool) -> Command | None:
    """Under the lease that there is, unless another ``worker`` or a delivery ``behind`` it is drawn."""
    if not known.tasks or not known.leases:
        return None
    id, _ = _pick(list(known.tasks.items()), task)
    row = known.model.tasks.get(id)
    name = _pick(known.leases, worker)[0] if worker is not None else (row.worker if row is not None else None)
    return ReleaseTask(id, name or "nobody", (row.attempt if row is not None else 1) - behind, uncount)


def _purge(_known: Known, **fields: Any) -> Command:
    return Purge(**fields)


def _abandon(known: Known, lease: int) -> Command | None:
    return AbandonWorker(_pick(known.leases, lease)[0]) if known.leases and lease == 7 else None  # rarely: it stops everything


_BUILD: dict[str, Any] = {
    "create": _create,
    "send": _send,
    "commit": _commit,
    "complete": _complete,
    "release": _release,
    "release_task": _release_task,
    "purge": _purge,
    "abandon": _abandon,
}
