"""Somebody else who uses the store: straight through the protocol, with names that no worker here knows, as another program or another
version of the engine would.

So a store is asked what this engine hardly ever asks: bytes that are no JSON, ids that differ in case, refused commands in the middle of a
batch, commits that come late or again, ids that are purged and taken anew, pages of a query between which something is purged. The oracle
looks at each answer, as at any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from msgspec.structs import replace

from durable_core.backend import (
    AbandonWorker,
    ClaimedTask,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    InstanceFilter,
    InstanceRecord,
    InstanceStatus,
    Message,
    NewTask,
    NextExecution,
    ParentRef,
    Purge,
    RecordUpdate,
    Release,
    ReleaseTask,
    Selectors,
    SendMessage,
)
from durable_core.testing.simulation.store import Hub

_NAME = "stranger"
_IDS = ("Stranger", "stranger", "stranger\0", "stränger")
_ACTS_PER_S = 2.0
_COMMITS_KEPT = 20


class Stranger:
    def __init__(self, hub: Hub, dice: Random) -> None:
        self._hub = hub
        self._dice = dice
        self._number = 0
        self._worker = self._fresh("worker")
        self._turns: list[tuple[str, ClaimedTurn]] = []  # with the incarnation that claimed it
        self._tasks: list[ClaimedTask] = []
        self._sent: list[CommitTurn] = []

    async def live(self, is_over: Callable[[], bool]) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [self._beat, self._claim, self._claim, self._commit, self._commit, self._commit]
        acts += [self._write, self._write, self._repeat, self._complete, self._look]
        while not is_over():
            await asyncio.sleep(self._dice.expovariate(_ACTS_PER_S))
            await self._dice.choice(acts)()
        left = [row.instance for row in self._hub.oracle.hub.instances.values() if row.name == _NAME]
        await self._hub.apply([*(Purge(id, force=True) for id in left), AbandonWorker(self._worker)])

    # ── a worker ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _beat(self) -> None:
        """Perhaps as a new incarnation; the old one ends in order, or its leases run out."""
        if self._dice.random() < 0.3:
            if self._dice.random() < 0.5:
                await self._hub.apply([AbandonWorker(self._worker)])
            self._worker = self._fresh("worker")
        await self._hub.heartbeat(self._worker, 5_000_000)

    async def _claim(self) -> None:
        names = frozenset({_NAME})
        claim = await self._hub.claim(self._worker, self._fresh("claim"), self._dice.randint(0, 3), 2, Selectors(names, names))
        self._turns += [(self._worker, turn) for turn in claim.turns if turn.name == _NAME]
        self._tasks += claim.tasks
        # A control message makes an instance anybody's. This is no work for a stranger.
        not_ours = [turn for turn in claim.turns if turn.name != _NAME]
        await self._hub.apply([Release(turn.instance, turn.execution, turn.epoch, uncount=True) for turn in not_ours])

    async def _commit(self) -> None:
        if not self._turns:
            return
        worker, turn = self._turns.pop(self._dice.randrange(len(self._turns)))
        commit = self._commit_of(turn, worker)
        self._sent = [*self._sent[1 - _COMMITS_KEPT :], commit]
        [outcome] = await self._hub.apply([commit])
        if outcome.messages:
            self._turns.append((worker, replace(turn, version=turn.version + 1, messages=outcome.messages)))

    def _commit_of(self, turn: ClaimedTurn, worker: str) -> CommitTurn:
        dice, me = self._dice, turn.instance
        ends, again, wrong = dice.random() < 0.3, dice.random() < 0.1, dice.random() < 0.1
        appends = dice.randrange(3)
        child, other = self._id(), self._id()
        return CommitTurn(
            me,
            turn.execution,
            turn.epoch,
            turn.version,
            worker,
            self._fresh("commit"),
            append=b"[" + b",".join([b"0"] * appends) + b"]" if appends else None,
            append_count=appends,
            consumes=tuple(message.id for message in turn.messages if dice.random() < 0.7),
            tasks=tuple(NewTask(self._fresh("task"), _NAME, self._bytes(), dice.random() < 0.5) for _ in range(dice.randrange(3))),
            messages=tuple(self._message(other) for _ in range(dice.randrange(2))),
            creates=tuple(self._create(child, ParentRef(me, turn.execution)) for _ in range(dice.randrange(2))),
            timers=(self._message(other if wrong else me, self._hub.now_us() + 2_000_000),) if wrong or dice.random() < 0.5 else (),
            record=RecordUpdate(InstanceStatus.COMPLETED, output=self._bytes()) if ends else None,
            next_execution=NextExecution(self._fresh("execution"), self._bytes()) if again and not ends else None,
            keep_tasks=dice.random() < 0.5,
            hold_us=dice.choice([0, 3_000_000]),
        )

    async def _repeat(self) -> None:
        """A commit that was sent before: the same once more, or another turn's from the same past."""
        if self._sent:
            commit = self._dice.choice(self._sent)
            await self._hub.apply([commit if self._dice.random() < 0.5 else replace(commit, commit_id=self._fresh("commit"))])

    async def _complete(self) -> None:
        if self._tasks:
            task = self._tasks.pop()
            if self._dice.random() < 0.3:
                await self._hub.apply([ReleaseTask(task.id, self._worker, task.attempt, self._dice.random() < 0.5)])
            else:
                await self._hub.apply([CompleteTask(task.id, Message(task.id, task.instance, self._bytes(), task.execution, task.id))])

    # ── a client ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self) -> None:
        outcomes = await self._hub.apply([self._command() for _ in range(self._dice.randint(1, 4))])
        self._turns += [(self._worker, outcome.turn) for outcome in outcomes if outcome.turn is not None]

    def _command(self) -> Command:
        id = self._id()
        match self._dice.randrange(8):
            case 0 | 1 | 2:
                return self._create(id)
            case 3 | 4 | 5:
                return SendMessage(self._message(id))
            case 6 if self._turns:
                _, turn = self._dice.choice(self._turns)
                return Release(turn.instance, turn.execution, turn.epoch, uncount=self._dice.random() < 0.5)
            case 6:
                return self._create(f"@{id}")  # which is refused
        return Purge(id, force=self._dice.random() < 0.5)

    async def _look(self) -> None:
        """All orchestrations, page by page; perhaps something is purged meanwhile."""
        before, records, cursor = self._hub.oracle.existing(), list[InstanceRecord](), None
        while True:
            page = await self._hub.backend.query_instances(InstanceFilter(), limit=3, cursor=cursor)
            records += page.records
            if page.cursor is None:
                break
            cursor = page.cursor
            if self._dice.random() < 0.3:
                await self._hub.apply([Purge(self._id(), force=True)])
        self._hub.oracle.read_pages(before, records)

    # ── what they are made of ─────────────────────────────────────────────────────────────────────────────────

    def _create(self, id: str, parent: ParentRef | None = None) -> CreateInstance:
        dice, execution = self._dice, self._fresh("execution")
        create = CreateInstance(id, execution, _NAME, self._bytes(), delay_us=dice.choice([0, 0, 2_000_000]))
        if parent is not None:
            return replace(create, parent=parent, bounce=self._message(parent.instance))
        return replace(
            create,
            request_id=self._fresh("request"),
            reuse=dice.choice(["error", "return_existing", "replace_ended", "terminate_and_replace"]),
            worker=dice.choice([None, self._worker]),
        )

    def _message(self, target: str, due_us: int = 0) -> Message:
        return Message(self._fresh("message"), target, self._bytes(), sender=f"{_NAME} {self._number % 2}", due_us=due_us)

    def _id(self) -> str:
        return self._dice.choice(_IDS)

    def _bytes(self) -> bytes:
        return b"\0\xff" + self._dice.randbytes(self._dice.randrange(8))

    def _fresh(self, kind: str) -> str:
        self._number += 1
        return f"{_NAME} {kind} {self._number}"
