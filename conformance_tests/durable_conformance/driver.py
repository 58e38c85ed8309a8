"""A store under test: the commands that tests send most, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from msgspec.structs import replace

from durable_conformance.harness import Harness
from durable_conformance.properties import Property, proving
from durable_core.backend import (
    Backend,
    Capabilities,
    Claim,
    ClaimedTurn,
    Command,
    CommitTurn,
    CompleteTask,
    CreateInstance,
    HistoryRange,
    InstanceFilter,
    InstanceRecord,
    InstanceStatus,
    Message,
    NewTask,
    Outcome,
    OutcomeStatus,
    RecordUpdate,
    Selectors,
    SendMessage,
)

__all__ = ["ALL", "HOUR_US", "SECOND_US", "Driver", "after", "ended", "status_of"]

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
ALL = Selectors(frozenset({"orch", "other"}), frozenset({"act", "slow"}), frozenset({"counter"}))


def after(turn: ClaimedTurn, **changes: Any) -> ClaimedTurn:
    """The fence of a held instance after an accepted commit of ``turn``."""
    return replace(turn, version=turn.version + 1, messages=(), **changes)


def ended(status: InstanceStatus = InstanceStatus.COMPLETED, output: bytes = b'"done"') -> RecordUpdate:
    return RecordUpdate(status=status, output=output)


def status_of(outcomes: Sequence[Outcome]) -> list[OutcomeStatus]:
    return [outcome.status for outcome in outcomes]


class Driver:
    """Wraps a harness and its first handle (``backend``). Ids that tests leave out are counted up."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.numbers = count(1)
        self._backend: Backend | None = None

    async def open(self) -> None:
        self._backend = await self.harness.open()

    @property
    def backend(self) -> Backend:
        assert self._backend is not None, "the driver is not open"
        return self._backend

    @property
    def capabilities(self) -> Capabilities:
        return self.backend.capabilities

    def fresh(self, prefix: str) -> str:
        return f"{prefix}-{next(self.numbers)}"

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, *commands: Command, on: Backend | None = None) -> list[Outcome]:
        outcomes = await (on or self.backend).apply(commands)
        with proving(Property.BATCHING, evidence=False):
            assert len(outcomes) == len(commands), "one outcome per command"
        return outcomes

    async def one(self, command: Command, on: Backend | None = None) -> Outcome:
        (outcome,) = await self.apply(command, on=on)
        return outcome

    def creation(self, instance: str = "i", **fields: Any) -> CreateInstance:
        given: dict[str, Any] = {
            "execution": self.fresh("execution"),
            "name": "orch",
            "start": b'"start"',
            "request_id": self.fresh("request"),
        }
        return CreateInstance(instance, **(given | fields))

    def message(self, target: str = "i", payload: bytes = b'"hello"', **fields: Any) -> Message:
        return Message(**({"id": self.fresh("message"), "target": target, "payload": payload} | fields))

    def turn(self, turn: ClaimedTurn, worker: str = "w", **fields: Any) -> CommitTurn:
        """A commit of a claimed turn; one event is appended unless ``append`` is given."""
        commit_id = fields.pop("commit_id", None) or self.fresh("commit")
        if "append" not in fields:
            fields |= {"append": b'[{"type":"Event"}]', "append_count": 1}
        return CommitTurn(turn.instance, turn.execution, turn.epoch, turn.version, worker, commit_id, **fields)

    def completion(self, task: str, turn: ClaimedTurn, payload: bytes = b'"result"') -> CompleteTask:
        return CompleteTask(task, Message(task, turn.instance, payload, execution=turn.execution, sender=task))

    async def create(self, instance: str = "i", **fields: Any) -> CreateInstance:
        command = self.creation(instance, **fields)
        outcome = await self.one(command)
        assert outcome.status is OutcomeStatus.OK, outcome
        return command

    async def send(self, target: str = "i", payload: bytes = b'"hello"', **fields: Any) -> Message:
        message = self.message(target, payload, **fields)
        outcome = await self.one(SendMessage(message))
        assert outcome.status is OutcomeStatus.OK, outcome
        return message

    async def commit(self, turn: ClaimedTurn, worker: str = "w", **fields: Any) -> Outcome:
        """An accepted commit that holds the instance for an hour unless told otherwise."""
        outcome = await self.one(self.turn(turn, worker, **({"hold_us": HOUR_US} | fields)))
        assert outcome.status is OutcomeStatus.OK, outcome
        return outcome

    # ── leases ───────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, *workers: str, on: Backend | None = None, ttl_us: int = 24 * HOUR_US) -> None:
        for worker in workers or ("w",):
            heartbeat = await (on or self.backend).heartbeat(worker, ttl_us=ttl_us)
            assert heartbeat.alive, worker

    async def claim(
        self,
        worker: str = "w",
        *,
        turns: int = 100,
        tasks: int = 100,
        selectors: Selectors = ALL,
        claim_id: str | None = None,
        on: Backend | None = None,
    ) -> Claim:
        claim = await (on or self.backend).claim(
            worker, claim_id=claim_id or self.fresh("claim"), turns=turns, tasks=tasks, selectors=selectors
        )
        with proving(Property.LEASE, evidence=False):
            assert len(claim.turns) <= turns, "no more turns than asked for"
            assert len(claim.tasks) <= tasks, "no more tasks than asked for"
        return claim

    async def claimed(self, instance: str = "i", worker: str = "w", *, on: Backend | None = None) -> ClaimedTurn:
        """Claim; exactly this instance must be there."""
        claim = await self.claim(worker, tasks=0, on=on)
        assert [turn.instance for turn in claim.turns] == [instance], claim
        return claim.turns[0]

    async def started(self, instance: str = "i", worker: str = "w", **fields: Any) -> ClaimedTurn:
        """Register the worker, create the instance and claim it."""
        await self.register(worker)
        await self.create(instance, **fields)
        return await self.claimed(instance, worker)

    async def running(self, instance: str = "i", worker: str = "w", **fields: Any) -> ClaimedTurn:
        """A started instance after its first commit, held by the worker: the fence of its next commit. ``fields``: of the commit."""
        turn = await self.started(instance, worker)
        await self.commit(turn, worker, **fields)
        return after(turn)

    @staticmethod
    def task(id: str = "t", *, claim: bool = False, name: str = "act", payload: bytes = b'"input"') -> NewTask:
        return NewTask(id, name, payload, claim)

    # ── what is there ────────────────────────────────────────────────────────────────────────────────────────

    async def record(self, instance: str = "i") -> InstanceRecord | None:
        (record,) = await self.backend.get_instances([instance])
        return record

    async def existing(self, instance: str = "i") -> InstanceRecord:
        record = await self.record(instance)
        assert record is not None, f"{instance!r} is missing"
        return record

    async def history(self, instance: str = "i", execution: str | None = None) -> list[bytes]:
        """The payloads of its rows, which are checked to be dense from 0."""
        payloads: list[bytes] = []
        at: int | None = 0
        number = 0
        while at is not None:
            (page,) = await self.backend.read_history([HistoryRange(instance, execution, at)])
            with proving(Property.HISTORY, evidence=False):
                for row in page.rows:
                    assert row.first == number, f"history of {instance!r} has a hole before event {row.first}"
                    number += row.count
                    payloads.append(row.payload)
                assert page.next in (None, number), "the next page starts after the last row"
            at = page.next
        return payloads

    async def everything(self) -> list[InstanceRecord]:
        """All records, entities last; the history of each is dense."""
        records = [record for entities in (False, True) for record in await self._records(InstanceFilter(entities=entities))]
        for record in records:
            with proving(Property.ATOMICITY, evidence=False):
                rows = await self.history(record.instance, record.execution)
                assert bool(rows) == (record.history_length > 0), f"the record of {record.instance!r} and its history disagree"
        return records

    async def _records(self, condition: InstanceFilter) -> list[InstanceRecord]:
        records: list[InstanceRecord] = []
        cursor: str | None = None
        while True:
            page = await self.backend.query_instances(condition, limit=200, cursor=cursor)
            records += page.records
            cursor = page.cursor
            if cursor is None:
                return records

    async def dump(self) -> tuple[list[InstanceRecord], dict[str, list[bytes]]]:
        """All that can be seen without changing anything."""
        records = await self.everything()
        return records, {record.instance: await self.history(record.instance) for record in records}

    async def rest(self, worker: str = "rest") -> Claim:
        """All that is left to do at this moment, handed to a new worker in one claim a turn of a suspect."""
        await self.register(worker)
        claim = await self.claim(worker, turns=10_000, tasks=10_000)
        turns, tasks = list(claim.turns), list(claim.tasks)
        while claim.turns:
            claim = await self.claim(worker, turns=10_000, tasks=10_000)
            with proving(Property.LEASE, evidence=False):
                assert not {turn.instance for turn in claim.turns} & {turn.instance for turn in turns}, "handed out again"
            turns += claim.turns
            tasks += claim.tasks
        return replace(claim, turns=tuple(turns), tasks=tuple(tasks))


async def driver_of(backend: Backend) -> Driver:
    """On an open handle, for the commands alone."""
    driver = Driver(_OneHandle(backend))
    await driver.open()
    return driver


class _OneHandle:
    features: frozenset[str] = frozenset()

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    async def open(self) -> Backend:
        return self._backend

    async def kill(self, handle: Backend) -> None:
        raise NotImplementedError

    async def destroy(self) -> None:
        raise NotImplementedError

    def advance_clock(self, us: int) -> None:
        raise NotImplementedError
