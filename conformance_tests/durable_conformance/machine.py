"""Random programs: the same commands to a store and to ``durable_core.hub``, compared after every step.

The hub is the model, with one exception: which of the eligible instances a claim hands out is the store's choice. The choice is
checked (everything handed out was eligible, nothing is withheld when something is) and then told to the model. Where the outcome of a
call is unknown, the model follows the answers to the same commands submitted again (``worlds.py``).

Needs ``frozen_clock``: then store and model agree on every timestamp. Ids are few, so that commands meet; leases are never
forgotten, so that each may commit at any later time.

How far a batch comes before its handle is killed is the machine's doing and differs from run to run. So nothing that hypothesis draws
may depend on what was found: a rule without a subject does nothing, and there are no preconditions on the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from durable_conformance.faults import give_up
from durable_conformance.harness import Harness
from durable_conformance.properties import Property, proving
from durable_conformance.recipes import BATCHES, FEW, IDS, MESSAGES, TURNS, Known, Recipe, build, plain_turns
from durable_conformance.worlds import are_told_apart, comparable, those_that_say, worlds
from durable_core.backend import (
    AbandonWorker,
    Backend,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CreateInstance,
    HistoryRange,
    InstanceFilter,
    InstanceRecord,
    InstanceStatus,
    Outcome,
    OutcomeStatus,
    Purge,
    Release,
    ReleaseTask,
    Selectors,
    SendMessage,
)
from durable_core.hub import Beat, Grant, State, decide, eligible_tasks, eligible_turns, is_suspect_task, query, read_history, record_of

__all__ = ["HubMachine"]

T = TypeVar("T")

SELECTORS = [
    Selectors(frozenset({"orch", "other"}), frozenset({"act", "slow"}), frozenset({"counter"})),
    Selectors(frozenset({"orch"}), frozenset({"slow"})),
    Selectors(entities=frozenset({"counter", "orch"})),
]
STEPS = [0, 1, 2, 3, 5, 8, 20]
"""Of the event loop, until a call is given up."""
OFFSETS_US = [1, 400_000, 600_000, 1_000_000, 5_000_000, 4_000_000_000]


class HubMachine(RuleBasedStateMachine):
    """Subclasses say on what they run."""

    @staticmethod
    def new_harness() -> Harness:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.harness = self.new_harness()
        self.model = State(limits=self.harness.capabilities)
        self.known = Known(self.model)
        self.handles: list[Backend] = []
        self.workers: list[tuple[str, int]] = []
        self.dead: set[str] = set()
        self.last: tuple[Command, ...] = ()

    @property
    def now_us(self) -> int:
        return self.known.now_us

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        try:
            self.run(self.harness.destroy())
        finally:
            self.runner.close()

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize()
    def open(self) -> None:
        for _ in range(2 if "many_handles" in self.harness.features else 1):
            self.handles.append(self.run(self.harness.open()))
        for number in range(3):
            self._new_worker(number % len(self.handles))
        for number, id in enumerate(IDS[:2]):
            command = CreateInstance(id, self.known.fresh("e"), "orch", b"start", self.known.fresh("r"), worker=self.workers[number][0])
            self._apply((command,), 0)

    @rule(recipes=BATCHES, handle=st.integers(0, 1))
    def apply(self, recipes: list[Recipe], handle: int) -> None:
        """One batch. Each command is built knowing what those of earlier steps have made."""
        self.last = self._built(recipes)
        self._apply(self.last, handle)

    @rule(recipes=TURNS, handle=st.integers(0, 1))
    def turns_and_completions(self, recipes: list[Recipe], handle: int) -> None:
        """What happens most."""
        self.apply(recipes, handle)

    @rule(recipes=MESSAGES, worker=st.integers(0, 5))
    def messages_and_a_claim(self, recipes: list[Recipe], worker: int) -> None:
        self.apply(recipes, 0)
        self.claim_everything(worker)

    @rule(hold_us=st.sampled_from([0, 500_000, 3_600_000_000]), handle=st.integers(0, 1))
    def everybody_finishes_a_turn(self, hold_us: int, handle: int) -> None:
        """Otherwise most instances would be claimed most of the time."""
        self._apply(tuple(plain_turns(self.known, hold_us)), handle)

    @rule(handle=st.integers(0, 1))
    def repeat_the_last_batch(self, handle: int) -> None:
        if self.last:
            self._apply(self.last, handle)

    @rule(worker=st.integers(0, 5))
    def claim_everything(self, worker: int) -> None:
        self.claim(worker, 50, 50, SELECTORS[0])

    @rule(
        worker=st.integers(0, 5),
        turns=st.sampled_from([0, 1, 3, 50]),
        tasks=st.sampled_from([0, 1, 50]),
        selectors=st.sampled_from(SELECTORS),
    )
    def claim(self, worker: int, turns: int, tasks: int, selectors: Selectors) -> None:
        name, handle = self.workers[worker % len(self.workers)]
        self._reap(except_for=name)
        eligible = eligible_turns(self.model, name, selectors, self.now_us)
        open_tasks = eligible_tasks(self.model, name, selectors)
        claim_id = self.known.fresh("claim")
        call: dict[str, Any] = {"claim_id": claim_id, "turns": turns, "tasks": tasks, "selectors": selectors}
        claim = self.run(self.handles[handle].claim(name, **call))
        if tasks and open_tasks and is_suspect_task(self.model.tasks[open_tasks[0]]):
            eligible = []
        self._check_choice(claim, name, selectors, eligible[:turns], open_tasks[:tasks])
        grant = Grant(name, claim_id, selectors, tuple(turn.instance for turn in claim.turns), tuple(task.id for task in claim.tasks))
        self._compare_claim(claim, grant)
        self.known.leases += ((name, turn) for turn in claim.turns)
        if not claim.turns and turns:
            self._check_next_due(claim, name, selectors)
        again = self.run(self.handles[handle].claim(name, **call))
        with proving(Property.RETRY):
            assert (again.turns, again.tasks) == (claim.turns, claim.tasks), "a repeated claim returns the same items"

    @rule(worker=st.integers(0, 5), ttl_us=st.sampled_from([1_000_000, 3_600_000_000]))
    def heartbeat(self, worker: int, ttl_us: int) -> None:
        self._heartbeat(worker % len(self.workers), ttl_us)

    @rule(us=st.sampled_from(OFFSETS_US))
    def advance_the_clock(self, us: int) -> None:
        self.harness.advance_clock(us)
        self.known.now_us += us

    @precondition(lambda self: "many_handles" in self.harness.features)
    @rule(handle=st.integers(0, 1))
    def kill_a_handle_and_open_another(self, handle: int) -> None:
        self._replace(handle)
        self._new_worker(handle)

    @precondition(lambda self: "many_handles" in self.harness.features)
    @rule(recipes=FEW, handle=st.integers(0, 1), steps=st.sampled_from(STEPS))
    def die_in_a_call(self, recipes: list[Recipe], handle: int, steps: int) -> None:
        """A handle is killed in the middle of a batch; another one submits the same commands again."""
        self.last = self._built(recipes)
        possible = worlds(self.model, self.last, self.now_us)
        if not are_told_apart(possible):
            return
        self.run(give_up(self.handles[handle].apply(self.last), steps))
        self._replace(handle)
        outcomes = self.run(self.handles[handle].apply(self.last))
        states = those_that_say(outcomes, possible)
        with proving(Property.RETRY):
            assert states, f"submitted again after a death, {self.last} cannot say {outcomes}"
        self.model = self.known.model = states[0]
        self._remember_leases(self.last, outcomes)
        self._new_worker(handle)

    @rule(
        statuses=st.none() | st.frozensets(st.sampled_from(InstanceStatus), max_size=3),
        name=st.none() | st.sampled_from(["orch", "counter"]),
        id_prefix=st.none() | st.sampled_from(["a", "@", "b"]),
        parent=st.none() | st.sampled_from(IDS),
        entities=st.booleans(),
        limit=st.sampled_from([1, 2, 100]),
    )
    def query(self, limit: int, **conditions: Any) -> None:
        condition = InstanceFilter(**conditions)
        found: list[InstanceRecord] = []
        cursor: str | None = None
        while True:
            page = self.run(self.handles[0].query_instances(condition, limit=limit, cursor=cursor))
            found += page.records
            cursor = page.cursor
            if cursor is None:
                break
        with proving(Property.QUERY):
            assert found == list(query(self.model, condition, limit=1_000).records)

    # ── what must hold after each step ───────────────────────────────────────────────────────────────────────

    @invariant()
    def records_and_histories_agree(self) -> None:
        if not self.handles:
            return
        records = self.run(self.handles[-1].get_instances(IDS))
        with proving(Property.ATOMICITY):
            assert records == [record_of(self.model, id) for id in IDS]
        ranges = [HistoryRange(id) for id in IDS]
        with proving(Property.HISTORY):
            assert self.run(self.handles[0].read_history(ranges)) == [read_history(self.model, range) for range in ranges]

    # ── parts of the steps ───────────────────────────────────────────────────────────────────────────────────

    def _built(self, recipes: list[Recipe]) -> tuple[Command, ...]:
        return tuple(command for recipe in recipes if (command := build(recipe, self.known)) is not None)

    def _replace(self, handle: int) -> None:
        """Kill a handle, and its workers with it; open another."""
        self.run(self.harness.kill(self.handles[handle]))
        self.dead.update(name for name, at in self.workers if at == handle)
        self.workers = [(name, at) for name, at in self.workers if at != handle]
        self.handles[handle] = self.run(self.harness.open())

    def _remember_leases(self, commands: Iterable[Command], outcomes: Iterable[Outcome]) -> None:
        """A batch leases what it creates for a worker."""
        for command, outcome in zip(commands, outcomes, strict=True):
            if outcome.turn is not None:
                assert isinstance(command, CreateInstance)
                assert command.worker is not None
                self.known.leases.append((command.worker, outcome.turn))

    def _new_worker(self, handle: int) -> None:
        self.workers.append((self.known.fresh("worker"), handle))
        self._heartbeat(len(self.workers) - 1, 3_600_000_000)

    def _apply(self, commands: tuple[Command, ...], handle: int) -> None:
        outcomes = self.run(self.handles[handle % len(self.handles)].apply(commands))
        assert len(outcomes) == len(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            self._follow_epochs(() if outcome.turn is None else (outcome.turn,))
            expected, effects = decide(self.model, command, self.now_us)
            for effect in effects:
                effect.absorb(self.model)
            with proving(_about(command, expected)):
                assert comparable(outcome) == comparable(expected), command
        self._remember_leases(commands, outcomes)

    def _heartbeat(self, worker: int, ttl_us: int) -> None:
        name, handle = self.workers[worker]
        self._reap(except_for=name)
        heartbeat = self.run(self.handles[handle].heartbeat(name, ttl_us=ttl_us))
        if self.now_us == 0:
            self.known.now_us = heartbeat.now_us  # the first reply tells where the harness' clock stands
        expected, effects = decide(self.model, Beat(name, ttl_us), self.now_us)
        for effect in effects:
            effect.absorb(self.model)
        with proving(Property.LEASE):
            assert (heartbeat.now_us, heartbeat.alive) == (expected.now_us, expected.alive)
            assert sorted(heartbeat.cancelled) == sorted(expected.cancelled)
        if not heartbeat.alive:
            self.workers[worker] = (self.known.fresh("worker"), handle)
            self._heartbeat(worker, 3_600_000_000)

    def _reap(self, except_for: str) -> None:
        """Whoever claims or beats finds the dead, if the store can prove deaths."""
        if self.harness.capabilities.proves_death:
            for worker in [worker for worker in self.model.workers if worker in self.dead and worker != except_for]:
                for effect in decide(self.model, AbandonWorker(worker), self.now_us)[1]:
                    effect.absorb(self.model)

    def _check_choice(self, claim: Claim, worker: str, selectors: Selectors, turns: list[str], tasks: list[str]) -> None:
        ids = [turn.instance for turn in claim.turns]
        for id in ids:
            row = self.model.instances.get(id)
            with proving(Property.LEASE if row is None or row.claimed or row.holder is not None else Property.TIMERS):
                assert eligible_turns(self.model, worker, selectors, self.now_us, [id]) == [id], f"{id!r} is not eligible"
        with proving(Property.PROGRESS):
            assert bool(ids) == bool(turns), f"eligible are {turns}, handed out were {ids}"
            assert len({task.id for task in claim.tasks}) == len(tasks), f"{tasks} are open"

    def _follow_epochs(self, turns: Iterable[ClaimedTurn]) -> None:
        """A store's epochs grow, but not by ones (a sequence has gaps): the model goes on from where the store does."""
        self.model.epoch = max(self.model.epoch, min((turn.epoch for turn in turns if turn.epoch > self.model.epoch), default=0) - 1)

    def _compare_claim(self, claim: Claim, grant: Grant) -> None:
        self._follow_epochs(claim.turns)
        expected, effects = decide(self.model, grant, self.now_us)
        for effect in effects:
            effect.absorb(self.model)
        with proving(Property.ATTEMPTS):
            assert [turn.attempt for turn in claim.turns] == [turn.attempt for turn in expected.turns]
            assert [task.attempt for task in claim.tasks] == [task.attempt for task in expected.tasks]
        with proving(Property.FENCE):
            fences = [[(turn.execution, turn.epoch, turn.version) for turn in each.turns] for each in (claim, expected)]
            assert fences[0] == fences[1]
        with proving(Property.CONSERVATION):
            assert (claim.turns, claim.tasks, claim.now_us) == (expected.turns, expected.tasks, max(self.now_us, expected.now_us))

    def _check_next_due(self, claim: Claim, worker: str, selectors: Selectors) -> None:
        """It may be too early, never too late: try every moment at which a clock may matter."""
        times = {row.visible_us for inbox in self.model.inbox.values() for row in inbox.values()}
        times |= {time_us + 1_000_000 for time_us in times}
        for row in self.model.instances.values():
            times |= {row.not_before_us, row.hold_until_us, row.updated_us + 1_000_000, row.not_before_us + 1_000_000}
        later = sorted(time_us for time_us in times if time_us > claim.now_us)
        first = next((time_us for time_us in later if eligible_turns(self.model, worker, selectors, time_us)), None)
        if first is not None:
            with proving(Property.DEAF):
                self._check_in_time(claim, first)

    @staticmethod
    def _check_in_time(claim: Claim, first: int) -> None:
        assert claim.next_due_us is not None, f"something is due at {first}"
        assert claim.now_us < claim.next_due_us <= first, f"something is due at {first}, and nobody looks before {claim.next_due_us}"


def _about(command: Command, expected: Outcome) -> Property:
    """What it is a breach of if the store's answer is another one."""
    if expected.status is OutcomeStatus.ALREADY_APPLIED:
        return Property.RETRY
    match command:
        case CommitTurn() | Release() | ReleaseTask():
            return Property.CONSERVATION if expected.messages else Property.FENCE
        case SendMessage():
            return Property.RETRY if expected.status is OutcomeStatus.OK else Property.CONSERVATION
        case Purge():
            return Property.PURGE
        case _:
            return Property.CONSERVATION
