"""The properties of the conformance kit on traces of the hub: random commands of several workers, old leases, repetitions, a moving
clock.

Every command is also decided on a partial state that holds what ``needs`` names and nothing else: the answer and the effects must be the
same.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from random import Random
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec.structs import replace

from durable_core.backend import (
    ENDED,
    AbandonWorker,
    Capabilities,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    Heartbeat,
    InstanceStatus,
    Message,
    NewTask,
    NextExecution,
    Outcome,
    OutcomeStatus,
    ParentRef,
    Purge,
    RecordUpdate,
    Release,
    Selectors,
    SendMessage,
)
from durable_core.hub import (
    Beat,
    Grant,
    InstanceRow,
    MessageRow,
    Needs,
    State,
    decide,
    eligible_tasks,
    eligible_turns,
    needs,
    needs_of_obituaries,
    next_due,
)
from durable_core.hub.effects import Effect
from durable_core.hub.rows import decode_messages

OK = OutcomeStatus.OK
SECOND = 1_000_000
WINDOW_US = 20 * SECOND
PAGE = 2
LIMITS = Capabilities("none", multi_process=False, proves_death=False, messages_per_claim=PAGE, dedup_window_us=WINDOW_US)
IDS = ("a", "b", "c", "@e@1")
WORKERS = ("w1", "w2", "w3")
ALL = Selectors(frozenset({"orch"}), frozenset({"act"}), frozenset({"e"}))
SOME = Selectors(frozenset(), frozenset({"act"}), frozenset({"e"}))

# ── a store that loads what ``needs`` names ───────────────────────────────────────────────────────────────────────


def load(part: State, full: State, wanted: Needs, now_us: int) -> None:
    part.instances.update((id, full.instances[id]) for id in wanted.instances if id in full.instances)
    part.details.update((key, full.details[key]) for key in wanted.details if key in full.details)
    part.seen.update((id, full.seen[id]) for id in wanted.seen if id in full.seen)
    workers = full.workers.keys() if wanted.all_workers else wanted.workers
    part.workers.update((id, full.workers[id]) for id in workers if id in full.workers)
    marked = {id for id, row in full.tasks.items() if row.cancelled and row.worker in wanted.cancelled_tasks_of}
    for id in sorted(wanted.tasks | marked):
        if id in full.tasks:
            part.tasks[id] = full.tasks[id]
    keep(part, [next(iter(full.inbox[target].values())) for target in sorted(wanted.inbox_heads) if full.inbox.get(target)])
    for target, count in wanted.inboxes.items():
        due = sorted((row for row in full.inbox.get(target, {}).values() if row.visible_us <= now_us), key=order)
        keep(part, due[:count] + [row for row in due[count:] if row.message.control])
    keep(part, [full.inbox[target][id] for target, id in wanted.messages if id in full.inbox.get(target, {})])


def keep(part: State, rows: Sequence[MessageRow]) -> None:
    for row in rows:
        part.inbox.setdefault(row.message.target, {})[row.message.id] = row


def order(row: MessageRow) -> tuple[int, int]:
    return row.visible_us, row.position


def partial(full: State, commands: Sequence[Any], now_us: int) -> State:
    part = State(full.now_us, full.epoch, full.position, limits=LIMITS)
    now_us = max(now_us, full.now_us)
    load(part, full, needs(commands, PAGE), now_us)
    load(part, full, needs_of_obituaries(part), now_us)
    return part


# ── the shape of a turn, made concrete when it is used ────────────────────────────────────────────────────────────


@frozen
class Turn:
    lease: int
    current: bool
    consumes: int = 0
    settles: int = 0
    cancels: int = 0
    tasks: int = 0
    claims: bool = False
    sends: tuple[str, ...] = ()
    child: str | None = None
    timer: int | None = None
    untimes: bool = False
    ends: str = ""
    keeps_tasks: bool = False
    hold_us: int = 0
    appends: bool = True
    obituary: str | None = None


FLAGS = (False, False, False, True)
COUNTS = (0, 0, 1, 2, 3)
TURN: dict[str, Sequence[Any]] = {
    "lease": range(8),
    "current": (True, True, True, False),
    "consumes": (0, 1, 2, 9),
    "settles": COUNTS,
    "cancels": COUNTS,
    "tasks": COUNTS,
    "claims": (True, False),
    "sends": ((), (), *((id,) for id in IDS), ("a", "a"), ("b", "@e@1")),
    "child": (None, None, None, *IDS[:3]),
    "timer": (None, None, 0, SECOND, 5 * SECOND),
    "untimes": FLAGS,
    "ends": ("", "", "", "", "", "complete", "suspend", "resume", "continue"),
    "keeps_tasks": FLAGS,
    "hold_us": (0, SECOND // 2, 30 * SECOND),
    "appends": (True, True, False),
    "obituary": (None, None, *IDS),
}

# What a step may be called with; STEPS[name] of step ``name``.
DELAYS = (0, 0, 0, SECOND // 2, 3 * SECOND)
NUMBERS = range(8)
TURNS: Sequence[Any] = ()  # stands for a ``Turn``
STEPS: dict[str, dict[str, Sequence[Any]]] = {
    "create": {"id": IDS[:3], "reuse": ("error", "replace_ended", "terminate_and_replace"), "delay": DELAYS, "number": NUMBERS},
    "send": {"to": IDS, "delay": DELAYS, "control": FLAGS, "sender": ("s1", "s2")},
    "claim": {"worker": WORKERS, "limit": (1, 2, 3), "selectors": (ALL, ALL, SOME)},
    "claim_anything": {"worker": WORKERS, "ids": ((), ("a",), ("a", "b"), IDS, IDS[::-1])},
    "work": {"worker": WORKERS[:2], "first": TURNS, "then": TURNS},
    "take_over": {"how": ("abandon", "release"), "first": TURNS, "then": TURNS},
    "commit": {"turn": TURNS},
    "batch": {"count": (1, 2, 3), "first": TURNS, "second": TURNS, "third": TURNS, "to": IDS, "sends": (True, False), "purges": FLAGS},
    "complete": {"number": NUMBERS},
    "release": {"number": NUMBERS, "delay": DELAYS, "park": FLAGS, "uncount": (True, False), "current": (True, False)},
    "purge": {"id": IDS, "force": (*FLAGS, False), "idle": (*FLAGS, False)},
    "beat": {"worker": WORKERS, "ttl": (SECOND, 60 * SECOND)},
    "abandon": {"worker": WORKERS, "really": (*FLAGS, False)},
    "advance": {"by": (1, SECOND // 2, SECOND, 3 * SECOND, 15 * SECOND, 70 * SECOND, -2 * SECOND)},
    "again": {"number": range(100)},
}


def drawn(pool: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.builds(Turn, **{name: st.sampled_from(choices) for name, choices in TURN.items()}) if pool is TURNS else st.sampled_from(pool)


def chosen(random: Random, pool: Sequence[Any]) -> Any:
    return Turn(**{name: random.choice(choices) for name, choices in TURN.items()}) if pool is TURNS else random.choice(pool)


def step(method: Any) -> Any:
    parameters: Any = {name: drawn(pool) for name, pool in STEPS[method.__name__].items()}
    decorate: Any = rule(**parameters)
    return decorate(method)


class Trace(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = State(limits=LIMITS)
        self.now = 1_000 * SECOND
        self.count = 0
        self.leases: list[tuple[str, ClaimedTurn]] = []
        self.done: list[tuple[Command, int]] = []
        self.attempts: dict[str, int] = {}
        self.leased: dict[int, tuple[str, str]] = {}
        self.arrived: dict[str, int] = {}
        self.gone: set[str] = set()
        for worker in WORKERS[:2]:
            self.run(Beat(worker, 60 * SECOND))

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def fresh(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def message(self, target: str, **fields: Any) -> Message:
        row = self.state.instances.get(target)
        scope = row.execution if row is not None and self.count % 3 == 0 else None
        return Message(self.fresh("m"), target, b"m", scope, creates="e" if target.startswith("@") and scope is None else None, **fields)

    def concrete(self, turn: Turn) -> CommitTurn | None:
        if not self.leases:
            return None
        # An odd number is one of the first leases, 0 the last, 2 the one before.
        worker, lease = self.leases[turn.lease % len(self.leases) if turn.lease % 2 else -1 - turn.lease // 2 % len(self.leases)]
        id, row = lease.instance, self.state.instances.get(lease.instance)
        if turn.current and row is not None:
            lease = replace(lease, execution=row.execution, epoch=row.epoch, version=row.version)
            worker = self.leased[row.epoch][1] if row.epoch else worker
        inbox, tasks = (
            list(self.state.inbox.get(id, {}).values()),
            sorted(row.id for row in self.state.tasks.values() if row.instance == id),
        )
        settled = [*tasks, *(row.message.id for row in inbox if row.message.id.startswith("t"))][: turn.settles]
        new = tuple(NewTask(self.fresh("t"), "act", b"", claim=turn.claims) for _ in range(turn.tasks))
        following = NextExecution(self.fresh("x"), b"next") if turn.ends == "continue" else None
        parent = ParentRef(id, lease.execution)
        statuses = {"complete": InstanceStatus.COMPLETED, "suspend": InstanceStatus.SUSPENDED, "resume": InstanceStatus.RUNNING}
        child = turn.child and CreateInstance(
            turn.child, self.fresh("x"), "orch", b"start", parent=parent, bounce=Message(self.fresh("bounce"), id, b"")
        )
        timer = Message(self.fresh("timer"), id, b"", lease.execution, due_us=self.now + (turn.timer or 0))
        entity = id.startswith("@")
        return CommitTurn(
            id,
            lease.execution,
            lease.epoch,
            lease.version,
            worker,
            self.fresh("commit"),
            append=b"[]" if turn.appends and not entity else None,
            append_count=int(turn.appends and not entity),
            consumes=tuple(row.message.id for row in inbox[: turn.consumes] if row.message.id not in settled),
            settles=tuple(settled),
            tasks=new,
            cancel_tasks=(*tasks[::-1], *(task.id for task in new))[: turn.cancels],
            messages=tuple(self.message(target, sender=id) for target in turn.sends),
            creates=(child,) if child else (),
            timers=(timer,) if turn.timer is not None else (),
            cancel_timers=tuple(row.message.id for row in inbox if row.message.id.startswith("timer")) if turn.untimes else (),
            record=RecordUpdate(statuses[turn.ends]) if turn.ends in statuses and not (entity and turn.ends == "complete") else None,
            snapshot=b"state" if entity else None,
            next_execution=following if not entity else None,
            keep_tasks=turn.keeps_tasks,
            obituaries=(Message(self.fresh("o"), turn.obituary, b""),) if turn.obituary not in (None, id) and turn.obituary else None,
            hold_us=turn.hold_us,
        )

    @step
    def create(self, id: str, reuse: Any, delay: int, number: int) -> None:
        claimed_by = WORKERS[number] if number < len(WORKERS) else None
        obituaries = (Message(self.fresh("o"), "c", b""),) if number % 2 and id != "c" else ()
        command = CreateInstance(
            id, self.fresh("x"), "orch", b"start", self.fresh("r"), reuse, obituaries=obituaries, delay_us=delay, worker=claimed_by
        )
        outcome = self.run(command)
        if outcome.turn is not None and claimed_by is not None:
            self.leases.append((claimed_by, outcome.turn))

    @step
    def send(self, to: str, delay: int, control: bool, sender: str) -> None:
        if to not in self.state.instances and self.state.instances and sender == "s1":
            to = next(iter(self.state.instances))
        self.run(SendMessage(self.message(to, due_us=self.now + delay if delay else 0, control=control, sender=sender)))

    @step
    def claim(self, worker: str, limit: int, selectors: Selectors) -> None:
        ids = eligible_turns(self.state, worker, selectors, self.now)[:limit]
        tasks = eligible_tasks(self.state, worker, selectors)[:limit]
        command = Grant(worker, self.fresh("claim"), selectors, tuple(ids), tuple(tasks))
        claim = self.run(command)
        assert [turn.instance for turn in claim.turns] == ids, "what is eligible can be granted"
        assert [task.id for task in claim.tasks] == tasks
        self.leases += ((worker, turn) for turn in claim.turns)
        if ids or tasks:
            self.check_repeated_claim(command, claim)

    @step
    def claim_anything(self, worker: str, ids: tuple[str, ...]) -> None:
        claim = self.run(Grant(worker, self.fresh("claim"), ALL, ids, tuple(self.state.tasks)))
        self.leases += ((worker, turn) for turn in claim.turns)

    @step
    def work(self, worker: str, first: Turn, then: Turn) -> None:
        """What a worker does: claim, commit, go on."""
        if worker not in self.state.workers:
            worker = self.newcomer()
        ids = eligible_turns(self.state, worker, ALL, self.now)[:1]
        if not ids:
            if not self.state.instances.keys() & set(IDS[:3]):
                self.create("a", "error", 0, 7)
            return
        claim = self.run(Grant(worker, self.fresh("claim"), ALL, tuple(ids), ()))
        self.leases += ((worker, turn) for turn in claim.turns)
        for turn in (first, then):
            self.commit(evolve(turn, lease=0))

    @step
    def take_over(self, how: str, first: Turn, then: Turn) -> None:
        """A worker loses its instance and commits all the same."""
        loser, winner = self.newcomer(), self.newcomer()
        for worker in (loser, winner):
            ids = eligible_turns(self.state, worker, ALL, self.now)[:1]
            claim = self.run(Grant(worker, self.fresh("claim"), ALL, tuple(ids), ()))
            self.leases += ((worker, turn) for turn in claim.turns)
            if worker == loser and how == "abandon":
                self.run(AbandonWorker(loser))
            elif worker == loser and claim.turns:
                self.run(Release(ids[0], claim.turns[0].execution, claim.turns[0].epoch))
        self.commit(evolve(first, lease=2, current=False))
        self.commit(evolve(then, lease=0, current=False))

    def newcomer(self) -> str:
        worker = self.fresh("w")
        self.run(Beat(worker, 60 * SECOND))
        return worker

    @step
    def commit(self, turn: Turn) -> None:
        command = self.concrete(turn)
        if command is not None:
            self.run(command)

    @step
    def batch(self, count: int, first: Turn, second: Turn, third: Turn, to: str, sends: bool, purges: bool) -> None:
        """One load for many commands."""
        commands: list[Any] = [command for command in map(self.concrete, (first, second, third)[:count]) if command is not None]
        if sends:
            commands.insert(len(commands) // 2, SendMessage(self.message(to, sender="s1")))
        if purges:
            commands.append(Purge(to, force=True))
        part = partial(self.state, commands, self.now)
        for command in commands:
            answer, effects = decide(part, command, self.now)
            for effect in effects:
                effect.absorb(part)
            assert comparable(self.run(command), []) == comparable(answer, [])

    @step
    def complete(self, number: int) -> None:
        if not self.state.tasks:
            return
        row = list(self.state.tasks.values())[number % len(self.state.tasks)]
        self.run(CompleteTask(row.id, Message(row.id, row.instance, b"", row.execution)))

    @step
    def release(self, number: int, delay: int, park: bool, uncount: bool, current: bool) -> None:
        if not self.leases:
            return
        _, turn = self.leases[-1 - number % len(self.leases)]
        row = self.state.instances.get(turn.instance)
        epoch = row.epoch if current and row is not None else turn.epoch
        self.run(Release(turn.instance, turn.execution, epoch, delay_us=delay, park=park, uncount=uncount))

    @step
    def purge(self, id: str, force: bool, idle: bool) -> None:
        row = self.state.instances.get(id)
        self.run(Purge(id, force, idle_version=row.version if idle and row is not None else None))

    @step
    def beat(self, worker: str, ttl: int) -> None:
        before = self.state
        known = worker in before.workers
        heartbeat = self.run(Beat(worker, ttl))
        assert heartbeat.alive == (worker in self.state.workers)
        assert heartbeat.alive or not known

    @step
    def abandon(self, worker: str, really: bool) -> None:
        if really:
            self.run(AbandonWorker(worker))

    @step
    def advance(self, by: int) -> None:
        self.now += by

    @step
    def again(self, number: int) -> None:
        """Property 7, later: a command that was carried out is a no-op within the window, whatever happened since."""
        if not self.done:
            return
        command, first_us = self.done[-1 - number % len(self.done)]
        if max(self.now, self.state.now_us) < first_us + WINDOW_US:
            outcome, effects = decide(self.state, command, self.now)
            assert not effects
            assert outcome.status is not OK

    # ── one step, and what must hold of it ────────────────────────────────────────────────────────────────────────

    def run(self, command: Any) -> Any:
        before = copy.deepcopy(self.state)
        part = partial(self.state, [command], self.now)
        answer, effects = decide(self.state, command, self.now)
        assert self.state == before, "decide changed the state"
        assert comparable(*decide(part, command, self.now)) == comparable(answer, effects), "needs names too little"
        for effect in effects:
            effect.absorb(self.state)
        self.note(before, command, answer)
        self.check_refusals(command, answer, effects)
        self.check_fence(before, command, answer)
        self.check_rows(before, command, answer)
        self.check_tasks(before, command, answer)
        self.check_history(before)
        self.check_messages(before, command, answer)
        self.check_leases(before, command, answer)
        self.check_handed(answer)
        self.check_purged(command, answer)
        self.check_progress()
        self.check_repetition(command, answer)
        return answer

    def note(self, before: State, command: Any, answer: Any) -> None:
        match command, answer:
            case ((CreateInstance() | SendMessage() | CommitTurn() | CompleteTask()), Outcome(status=OutcomeStatus.OK)):
                self.done.append((command, self.state.now_us))
        self.note_attempts(before, command, answer)
        for message in self.sent_by(command, before):
            if message.id in self.state.inbox.get(message.target, {}) and message.id not in before.inbox.get(message.target, {}):
                assert message.id not in self.gone, "a message came back"
                self.arrived.setdefault(message.id, len(self.arrived))

    def note_attempts(self, before: State, command: Any, answer: Any) -> None:
        """Property 13: counted by the book, command by command."""
        for id in [id for id in self.attempts if id not in self.state.instances]:
            del self.attempts[id]
        for id, row in self.state.instances.items():
            old = before.instances.get(id)
            if old is None or is_replaced(old, row):
                self.attempts[id] = 0
        match command, answer:
            case CreateInstance(), Outcome(status=OutcomeStatus.OK, turn=ClaimedTurn()):
                self.attempts[command.instance] = 1
            case CommitTurn(), Outcome(status=OutcomeStatus.OK):
                self.attempts[command.instance] = 0
            case Release(uncount=True), Outcome(status=OutcomeStatus.OK):
                self.attempts[command.instance] = max(0, self.attempts[command.instance] - 1)
            case Grant(), Claim(turns):
                for turn in turns:
                    old = before.instances[turn.instance]
                    own = old.holder == command.worker and not old.claimed and old.hold_until_us > answer.now_us
                    self.attempts[turn.instance] += not own
                    assert turn.attempt == self.attempts[turn.instance]
        assert {id: row.attempt for id, row in self.state.instances.items()} == self.attempts

    def sent_by(self, command: Any, before: State) -> list[Message]:
        dead = [data for (id, kind), data in before.details.items() if kind == "obituaries"]
        obituaries = list(chain.from_iterable(map(decode_messages, dead)))
        match command:
            case SendMessage(message) | CompleteTask(_, message):
                return [message]
            case CommitTurn():
                bounces = [child.bounce for child in command.creates if child.bounce is not None]
                return [*bounces, *command.messages, *command.timers]
            case CreateInstance() | Purge():
                return obituaries
        return []

    def check_refusals(self, command: Any, answer: Any, effects: list[Effect]) -> None:
        """Property 1, and every other refusal: nothing is written."""
        if isinstance(answer, Outcome) and answer.status is not OK:
            was_cancelled = isinstance(command, CompleteTask) and answer.status is OutcomeStatus.GONE
            assert not effects or was_cancelled
        if isinstance(answer, Heartbeat) and not answer.alive:
            assert not effects

    def check_fence(self, before: State, command: Any, answer: Any) -> None:
        """Property 1: accepted iff the fence is current and what is settled is there."""
        if not isinstance(command, CommitTurn):
            return
        row = before.instances.get(command.instance)
        if row is None:
            assert answer.status is OutcomeStatus.GONE
            return
        settled = all(
            (id in before.tasks and not before.tasks[id].cancelled and before.tasks[id].execution == command.execution)
            or id in before.inbox.get(command.instance, {})
            for id in command.settles
        )
        current = (row.execution, row.epoch, row.version) == (command.execution, command.epoch, command.version)
        valid = current and row.status not in ENDED and settled
        assert answer.status is (OK if valid else OutcomeStatus.FENCED)

    def check_rows(self, before: State, command: Any, answer: Any) -> None:
        assert self.state.now_us >= before.now_us
        places = [row.position for row in all_messages(self.state).values()] + [row.position for row in self.state.tasks.values()]
        assert len(set(places)) == len(places)
        assert all(0 < place <= self.state.position for place in places)
        for id, row in self.state.instances.items():
            old = before.instances.get(id)
            assert not row.claimed or row.holder in self.state.workers, "claimed by nobody"
            assert row.holder is None or row.holder in self.state.workers
            assert row.status not in ENDED or (row.holder is None and id not in self.state.inbox)
            assert row.awaits_start <= ((id, "start") in self.state.details)
            if old is None or is_replaced(old, row):
                continue
            committed = isinstance(command, CommitTurn) and command.instance == id and answer.status is OK
            assert row.version == old.version + committed
            assert row.created_us == old.created_us
            assert row.epoch >= old.epoch
            assert old.status not in ENDED or row.status in ENDED
            assert row.execution == old.execution or (committed and command.next_execution is not None)
            if committed:
                assert not row.parked
                assert row.not_before_us in ((0, old.not_before_us) if row.awaits_start and row.execution == old.execution else (0,))
                assert row.not_before_us == old.not_before_us or not row.awaits_start or row.execution != old.execution
        for task in self.state.tasks.values():
            assert task.worker is None or task.worker in self.state.workers
            assert not task.cancelled or task.worker is not None

    def check_tasks(self, before: State, command: Any, answer: Any) -> None:
        """A task goes when it is completed, settled, cancelled, or its execution is over (unless that keeps it); a purge takes all."""
        committed = isinstance(command, CommitTurn) and answer.status is OK
        over = committed and (command.next_execution is not None or self.state.instances[command.instance].status in ENDED)
        if over and not command.keep_tasks:
            assert not [task for task in self.state.tasks.values() if task.execution == command.execution]
        for id in before.tasks.keys() - self.state.tasks.keys():
            task, row = before.tasks[id], self.state.instances.get(before.tasks[id].instance)
            if row is None or is_replaced(before.instances[task.instance], row):
                continue
            match command:
                case CompleteTask():
                    assert command.task == id
                case CommitTurn():
                    dropped = over and not command.keep_tasks and task.execution == command.execution
                    assert committed
                    assert dropped or id in (*command.settles, *command.cancel_tasks)
                case Beat() | AbandonWorker():
                    assert task.cancelled
                case _:
                    raise AssertionError(f"{command} dropped a task")

    def check_history(self, before: State) -> None:
        """Property 2: dense, immutable, in order."""
        assert self.state.history.keys() <= self.state.instances.keys()
        for id, row in self.state.instances.items():
            rows = self.state.history.get(id, [])
            assert [entry.first for entry in rows] == [sum(earlier.count for earlier in rows[:n]) for n in range(len(rows))]
            assert sum(entry.count for entry in rows) == row.history_length
            old = before.history.get(id, []) if id in before.instances and before.instances[id].execution == row.execution else []
            assert rows[: len(old)] == old

    def check_messages(self, before: State, command: Any, answer: Any) -> None:
        """Property 3: what left an inbox was consumed or dropped for a stated reason, what is new was sent, and nothing is lost."""
        then, now = all_messages(before), all_messages(self.state)
        committed = isinstance(command, CommitTurn) and answer.status is OK
        for target, id in then.keys() - now.keys():
            self.gone.add(id)
            old, row = before.instances[target], self.state.instances.get(target)
            if row is None or row.status in ENDED or is_replaced(old, row):
                continue
            assert committed
            assert command.instance == target
            named = id in (*command.consumes, *command.settles, *command.cancel_timers, *command.cancel_tasks)
            assert named or (command.next_execution is not None and then[target, id].message.execution == old.execution)
        if committed:
            for id in (*command.consumes, *command.settles, *command.cancel_timers):
                assert (command.instance, id) not in now
            assert not set(command.settles) & self.state.tasks.keys()
        sent = {message.id: message for message in self.sent_by(command, before)}
        for _, id in now.keys() - then.keys():
            assert id in sent
        unwanted = set(command.cancel_timers) if committed else set()
        for message in sent.values() if committed or (isinstance(command, SendMessage) and answer.status is OK) else ():
            target_row = self.state.instances.get(message.target)
            reachable = target_row is not None and target_row.status not in ENDED and message.execution in (None, target_row.execution)
            if reachable and message.id not in unwanted and not message.id.startswith("bounce"):
                assert (message.target, message.id) in now, "a message was lost"
        if isinstance(command, Purge) and answer.status is OK and before.instances[command.instance].status not in ENDED:
            for message in decode_messages(before.details.get((command.instance, "obituaries"), b"[]")):
                heir = self.state.instances.get(message.target)
                assert heir is None or heir.status in ENDED or (message.target, message.id) in now, "an obituary was lost"
        if committed and self.state.instances[command.instance].status not in ENDED:
            for child in command.creates:
                created = self.state.instances[child.instance].execution == child.execution
                assert created or (command.instance, child.bounce.id) in now, "a child neither started nor bounced"
        for (target, _), arrival in now.items():
            assert arrival.message.execution in (None, self.state.instances[target].execution)

    def check_leases(self, before: State, command: Any, answer: Any) -> None:
        """Property 4: an epoch is one worker's and one instance's; what is out is not handed out."""
        granted: list[ClaimedTurn] = []
        if isinstance(answer, Claim):
            granted = list(answer.turns)
        elif isinstance(answer, Outcome) and answer.turn is not None:
            granted = [answer.turn]
        for turn in granted:
            owner = turn.instance, command.worker
            assert self.leased.setdefault(turn.epoch, owner) == owner
            old = before.instances.get(turn.instance)
            if isinstance(command, Grant):
                assert old is not None
                assert not old.claimed
                assert len(granted) == 1 or turn.attempt <= 1, "a suspect runs alone"
        if isinstance(answer, Claim):
            for task in answer.tasks:
                assert before.tasks[task.id].worker is None
                assert task.attempt == before.tasks[task.id].attempt + 1

    def check_handed(self, answer: Any) -> None:
        """Properties 8 and 10: nothing early, in order of each sender."""
        pages: list[tuple[Message, ...]] = []
        if isinstance(answer, Claim):
            pages = [turn.messages for turn in answer.turns]
        elif isinstance(answer, Outcome):
            pages = [answer.messages, *([answer.turn.messages] if answer.turn is not None else [])]
        for page in pages:
            assert all(message.due_us <= self.state.now_us for message in page)
            for sender in {message.sender for message in page}:
                arrivals = [self.arrived[message.id] for message in page if message.sender == sender and not message.due_us]
                assert arrivals == sorted(arrivals)
            if page:
                rows = self.state.inbox.get(page[0].target, {})
                due = [row.message for row in sorted(rows.values(), key=order) if row.visible_us <= self.state.now_us]
                assert list(page) == due[:PAGE] + [message for message in due[PAGE:] if message.control]

    def check_purged(self, command: Any, answer: Any) -> None:
        """Property 12."""
        if isinstance(command, Purge) and answer.status is OK:
            id = command.instance
            assert id not in self.state.inbox.keys() | self.state.history.keys() | {key for key, _ in self.state.details}
            assert id not in {task.instance for task in self.state.tasks.values()}

    def check_progress(self) -> None:
        """Property 9: whoever sleeps until ``next_due`` misses nothing, and what is to be served is served by somebody within a
        second."""
        now = max(self.now, self.state.now_us)
        due = next_due(self.state, now)
        assert due is None or due > now
        until = due - 1 if due is not None else now + 1000 * SECOND
        for worker in self.state.workers:
            assert self.claimable(worker, until) == self.claimable(worker, now)
        if self.state.workers:
            worker = next(iter(self.state.workers))
            later = now + 1000 * SECOND
            for id, row in self.state.instances.items():
                inbox = self.state.inbox.get(id, {}).values()
                controlled = any(arrival.message.control for arrival in inbox)
                plain = row.status is not InstanceStatus.SUSPENDED and not row.parked and (inbox or row.awaits_start)
                wanted = not row.claimed and row.status not in ENDED and (controlled or plain)
                assert (id in self.claimable(worker, later)) == bool(wanted)

    def claimable(self, worker: str, now_us: int) -> set[str]:
        return {id for id in self.state.instances if eligible_turns(self.state, worker, ALL, now_us, among=[id])}

    def check_repetition(self, command: Any, answer: Any) -> None:
        """Property 7, at once; a commit says again what it left."""
        if not isinstance(command, (Grant, Beat)):
            outcome, effects = decide(self.state, command, self.now)
            assert not effects
            assert outcome.status is not OK
            assert comparable(*decide(partial(self.state, [command], self.now), command, self.now)) == comparable(outcome, [])
            if isinstance(command, CommitTurn) and answer.status is OK:
                assert outcome == replace(answer, status=OutcomeStatus.ALREADY_APPLIED)

    def check_repeated_claim(self, command: Grant, claim: Claim) -> None:
        row = self.state.workers[command.worker]
        assert decide(self.state, replace(command, turns=IDS, tasks=tuple(self.state.tasks)), self.now) == (claim, [])
        repeated = replace(command, turns=row.turns, tasks=row.tasks)
        assert decide(partial(self.state, [repeated], self.now), repeated, self.now) == (claim, [])


def comparable(answer: Any, effects: list[Effect]) -> Any:
    if isinstance(answer, Outcome) and answer.error is not None:
        answer = replace(answer, error=None)
    return answer, effects


def is_replaced(old: InstanceRow, row: InstanceRow) -> bool:
    return row.execution != old.execution and row.version == 0


def all_messages(state: State) -> dict[tuple[str, str], MessageRow]:
    return {(target, id): row for target, inbox in state.inbox.items() for id, row in inbox.items()}


def test_random_traces_keep_the_properties() -> None:
    run_state_machine_as_test(Trace, settings=settings(max_examples=80, stateful_step_count=50))


@pytest.mark.parametrize("seed", range(10))
def test_long_traces_keep_the_properties(seed: int) -> None:
    """Deeper than the state machine goes, and not shrunk."""
    random, trace = Random(seed), Trace()
    for _ in range(600):
        name = random.choice((*STEPS, "work", "work", "commit", "send"))
        getattr(trace, name)(**{parameter: chosen(random, pool) for parameter, pool in STEPS[name].items()})
