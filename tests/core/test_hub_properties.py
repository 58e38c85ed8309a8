"""The properties of the conformance kit on traces of the hub: random commands of several workers, old leases, repetitions, a moving
clock.

Every command is also decided on a partial state that holds what ``needs`` names and nothing else: the answer and the effects must be the
same.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec.structs import replace

from durable_core.backend import (
    DELIVERIES_IN_COMPANY,
    ENDED,
    AbandonWorker,
    Capabilities,
    Claim,
    ClaimedTurn,
    CommitTurn,
    CompleteTask,
    CreateInstance,
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
    ReleaseTask,
    Selectors,
    SendMessage,
)
from durable_core.hub import (
    Beat,
    Grant,
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
from durable_core.testing.simulation.invariants import OK, Invariants, order

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
    "release_task": {"number": NUMBERS, "uncount": (True, False), "current": (True, True, False)},
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
        self.checks = Invariants(self.state)
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
            worker = self.checks.leased[row.epoch][1] if row.epoch else worker
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
        if tasks and self.state.tasks[tasks[0]].attempt > DELIVERIES_IN_COMPANY:
            ids = []
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
    def release_task(self, number: int, uncount: bool, current: bool) -> None:
        if not self.state.tasks:
            return
        row = list(self.state.tasks.values())[number % len(self.state.tasks)]
        self.run(ReleaseTask(row.id, row.worker or "w1", row.attempt if current else row.attempt - 1, uncount))

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
        if not self.checks.done:
            return
        command, first_us = self.checks.done[-1 - number % len(self.checks.done)]
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
        self.checks.check(before, command, answer, effects, self.now)
        self.check_progress()
        self.check_repetition(command, answer)
        return answer

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


def test_random_traces_keep_the_properties() -> None:
    run_state_machine_as_test(Trace, settings=settings(max_examples=80, stateful_step_count=50))


@pytest.mark.parametrize("seed", range(10))
def test_long_traces_keep_the_properties(seed: int) -> None:
    """Deeper than the state machine goes, and not shrunk."""
    random, trace = Random(seed), Trace()
    for _ in range(600):
        name = random.choice((*STEPS, "work", "work", "commit", "send"))
        getattr(trace, name)(**{parameter: chosen(random, pool) for parameter, pool in STEPS[name].items()})
