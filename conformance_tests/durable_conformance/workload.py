"""Several workers at once on one store, and a check of what they say afterwards.

Each worker, on a handle of its own, creates every instance (all but one of them come too late), sends numbered messages to each, and takes
turns: it consumes some messages, passes each on to the next instance (so instances write to each other all the time), and now and then
submits a commit again, submits one with an outdated fence, continues as new, or dies and comes back under another name. It notes what
it was told. Epochs and versions put everything that was accepted for one instance into one order, so the check is linear.

Runs in threads and in processes (``child.py``) alike; nothing here depends on the hub's clock.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from durable_conformance.properties import Property, proving
from durable_core.backend import (
    AbandonWorker,
    Backend,
    ClaimedTurn,
    CommitTurn,
    CreateInstance,
    HistoryRange,
    InstanceRecord,
    Message,
    NextExecution,
    Outcome,
    OutcomeStatus,
    RecordUpdate,
    Selectors,
    SendMessage,
)

__all__ = ["Note", "check", "expected_at", "instances", "take_part"]

Note = dict[str, Any]
_SELECTORS = Selectors(frozenset({"orch"}))
_HOUR_US = 3_600_000_000
_PATIENCE_S = 4.0
"""Who has found nothing to do for so long gives up."""


def instances(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def expected_at(workers: int, messages: int) -> int:
    """How many messages each instance gets: from every worker, and the same once more from its neighbour."""
    return 2 * workers * messages


async def take_part(backend: Backend, name: str, *, workers: int, ids: Sequence[str], messages: int, dice: random.Random) -> list[Note]:
    """Work until everything has been consumed; what this worker was told."""
    part = _Part(backend, name, ids, dice)
    await part.incarnate()
    await part.create()
    idle_since = time.monotonic()
    unsent = [(id, number) for number in range(messages) for id in ids]
    while True:
        for id, number in unsent[:3]:
            await part.send(id, number)
        del unsent[:3]
        if await part.take_turns() or unsent:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _PATIENCE_S or await part.is_over(expected_at(workers, messages)):
            return part.notes  # if something is lost, the check says what
        else:
            await asyncio.sleep(0.002)


class _Part:
    def __init__(self, backend: Backend, name: str, ids: Sequence[str], dice: random.Random) -> None:
        self.backend = backend
        self.name = name
        self.ids = ids
        self.dice = dice
        self.notes: list[Note] = []
        self.worker = ""
        self.number = 0

    def fresh(self, kind: str) -> str:
        self.number += 1
        return f"{self.name} {kind} {self.number}"

    async def incarnate(self) -> None:
        self.worker = self.fresh("worker")
        assert (await self.backend.heartbeat(self.worker, ttl_us=_HOUR_US)).alive

    async def create(self) -> None:
        for id in self.dice.sample(self.ids, len(self.ids)):
            create = CreateInstance(id, self.fresh("execution"), "orch", b"start", self.fresh("request"))
            [outcome] = await self.backend.apply([create])
            self.notes.append({"what": "create", "instance": id, "status": outcome.status.name})

    async def send(self, id: str, number: int) -> None:
        message = Message(f"{self.name}/{id}/{number:04}", id, b"", sender=self.name)
        outcomes = [(await self.backend.apply([SendMessage(message)]))[0] for _ in range(self.dice.choice([1, 1, 2]))]
        self.notes.append({"what": "send", "statuses": [outcome.status.name for outcome in outcomes]})

    async def take_turns(self) -> bool:
        """Whether there was anything to do."""
        claim = await self.backend.claim(
            self.worker, claim_id=self.fresh("claim"), turns=self.dice.choice([1, 2, 5]), tasks=0, selectors=_SELECTORS
        )
        for turn in claim.turns:
            self.notes.append({"what": "claim", "instance": turn.instance, "epoch": turn.epoch, "worker": self.worker})
        if claim.turns and self.dice.random() < 0.05:
            await self.backend.apply([AbandonWorker(self.worker)])
            await self.incarnate()
            return True
        for turn in claim.turns:
            await self.finish(turn)
        return bool(claim.turns)

    async def finish(self, turn: ClaimedTurn) -> None:
        """Commit until nothing more comes with the outcome."""
        outdated = turn
        while True:
            commit = await self.commit_of(turn)
            [outcome] = await self.backend.apply([commit])
            self.note(commit, outcome)
            if self.dice.random() < 0.1:
                [again] = await self.backend.apply([commit])
                self.notes.append({"what": "again", "status": again.status.name})
                outcome = replace(outcome, messages=again.messages) if again.status is OutcomeStatus.ALREADY_APPLIED else outcome
            if self.dice.random() < 0.1:
                [stale] = await self.backend.apply([replace(commit, version=outdated.version, commit_id=self.fresh("stale"))])
                self.notes.append({"what": "stale", "status": stale.status.name})
            if outcome.status is not OutcomeStatus.OK or not (outcome.messages or commit.next_execution):
                return
            execution = commit.next_execution.execution if commit.next_execution else turn.execution
            turn = replace(turn, execution=execution, version=turn.version + 1, messages=outcome.messages)

    async def commit_of(self, turn: ClaimedTurn) -> CommitTurn:
        """Consumes all or the first few messages; a turn that is out is nobody else's, so what the record says is current."""
        [record] = await self.backend.get_instances([turn.instance])
        consumed = [message.id for message in turn.messages[: self.dice.choice([1, 2, 100])]]
        before = int(record.custom_status or b"0") if record is not None else 0
        new = NextExecution(self.fresh("execution"), b"again") if self.dice.random() < 0.1 else None
        row = None if new else json.dumps({"consumed": consumed, "epoch": turn.epoch, "version": turn.version}).encode()
        return CommitTurn(
            turn.instance,
            turn.execution,
            turn.epoch,
            turn.version,
            self.worker,
            self.fresh("commit"),
            append=row,
            append_count=0 if new else 1,
            consumes=tuple(consumed),
            messages=tuple(self.passed_on(turn.instance, id) for id in consumed if not id.endswith(">")),
            record=RecordUpdate(custom_status=str(before + len(consumed)).encode()),
            next_execution=new,
        )

    def passed_on(self, instance: str, id: str) -> Message:
        target = self.ids[(self.ids.index(instance) + 1) % len(self.ids)]
        return Message(f"{id}>", target, b"", sender=instance)

    def note(self, commit: CommitTurn, outcome: Outcome) -> None:
        self.notes.append(
            {
                "what": "commit",
                "instance": commit.instance,
                "epoch": commit.epoch,
                "version": commit.version,
                "worker": self.worker,
                "consumed": list(commit.consumes),
                "row": commit.append.decode() if commit.append is not None else None,
                "status": outcome.status.name,
            }
        )

    async def is_over(self, expected: int) -> bool:
        records = await self.backend.get_instances(self.ids)
        return all(record is not None and int(record.custom_status or b"0") >= expected for record in records)


# ── the check ────────────────────────────────────────────────────────────────────────────────────────────────────


async def check(backend: Backend, notes: Sequence[Note], *, names: Sequence[str], ids: Sequence[str], messages: int) -> None:
    """Of what all workers noted, against each other and against the store."""
    _check_creates(notes, ids)
    _check_repeats(notes)
    accepted: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        if note["what"] == "commit" and note["status"] == "OK":
            accepted[note["instance"]].append(note)
    for id in ids:
        accepted[id].sort(key=lambda note: note["version"])
    _check_leases(notes)
    for id in ids:
        _check_fence(id, accepted[id])
        _check_messages(id, accepted[id], set(_sent_to(id, names, ids, messages)))
    for record in await backend.get_instances(ids):
        assert record is not None
        await _check_history(backend, record, accepted[record.instance])


def _check_creates(notes: Sequence[Note], ids: Sequence[str]) -> None:
    created = Counter(note["instance"] for note in notes if note["what"] == "create" and note["status"] == "OK")
    with proving(Property.CONSERVATION):
        assert created == Counter(ids), f"each id is created by exactly one of those who try: {created}"


def _check_repeats(notes: Sequence[Note]) -> None:
    with proving(Property.RETRY):
        for note in notes:
            if note["what"] == "again":
                assert note["status"] in ("ALREADY_APPLIED", "FENCED"), f"a commit was submitted again: {note}"
            if note["what"] == "send":
                assert note["statuses"] == ["OK", "ALREADY_APPLIED"][: len(note["statuses"])], note
    with proving(Property.FENCE):
        for note in notes:
            assert note["what"] != "stale" or note["status"] == "FENCED", f"an outdated fence: {note}"


def _check_leases(notes: Sequence[Note]) -> None:
    """An epoch belongs to one incarnation."""
    owners: dict[tuple[str, int], set[str]] = defaultdict(set)
    for note in notes:
        if note["what"] in ("claim", "commit"):
            owners[note["instance"], note["epoch"]].add(note["worker"])
    with proving(Property.LEASE):
        assert [lease for lease, workers in owners.items() if len(workers) > 1] == [], "leased to two at once"


def _check_fence(id: str, accepted: Sequence[Note]) -> None:
    with proving(Property.FENCE):
        versions = [note["version"] for note in accepted]
        assert versions == list(range(len(versions))), f"commits of {id} were accepted with the versions {versions}"
        epochs = [note["epoch"] for note in accepted]
        assert epochs == sorted(epochs), f"an old epoch of {id} was accepted after a newer one"


def _sent_to(id: str, names: Sequence[str], ids: Sequence[str], messages: int) -> Iterator[str]:
    neighbour = ids[ids.index(id) - 1]
    for name in names:
        for number in range(messages):
            yield f"{name}/{id}/{number:04}"
            yield f"{name}/{neighbour}/{number:04}>"


def _check_messages(id: str, accepted: Sequence[Note], sent: set[str]) -> None:
    consumed = [message for note in accepted for message in note["consumed"]]
    with proving(Property.CONSERVATION):
        assert sorted(consumed) == sorted(sent), f"{id}: {_first(_differences(consumed, sent))}"
    streams: dict[str, list[str]] = defaultdict(list)
    for message in consumed:
        origin, instance, number = message.split("/")
        streams[f"{origin} {instance} {number.endswith('>')}"].append(number)
    with proving(Property.ORDER):
        for stream, numbers in streams.items():
            assert numbers == sorted(numbers), f"{id} got the messages of {stream} in another order: {numbers}"


def _differences(consumed: Sequence[str], sent: set[str]) -> Iterator[str]:
    counts = Counter(consumed)
    yield from (f"{message} was lost" for message in sent - counts.keys())
    yield from (f"{message} was consumed {count} times" for message, count in counts.items() if count > 1)


def _first(texts: Iterable[str]) -> str:
    return ", ".join([text for text, _ in zip(texts, range(5), strict=False)])


async def _check_history(backend: Backend, record: InstanceRecord, accepted: Sequence[Note]) -> None:
    """Of the last generation: those rows that were accepted since."""
    generations: list[list[str]] = [[]]
    for note in accepted:
        if note["row"] is None:
            generations.append([])
        else:
            generations[-1].append(note["row"])
    [page] = await backend.read_history([HistoryRange(record.instance, max_bytes=1 << 30)])
    with proving(Property.HISTORY):
        assert [row.payload.decode() for row in page.rows] == generations[-1]
        assert [row.first for row in page.rows] == list(range(len(page.rows)))
    with proving(Property.GENERATIONS):
        assert record.history_length == len(generations[-1])
