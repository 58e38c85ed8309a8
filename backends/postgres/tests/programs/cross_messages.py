"""Commit turns that message the other side's instances all the time, and be messaged by them. Usage: cross_messages.py URL SIDE ROUNDS

Each side has four instances ("left0" … or "right0" …), there already, under the name of the side. Ends when every message has arrived once,
in order.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from durable_core.backend import ClaimedTurn, Command, CommitTurn, Message, Outcome, OutcomeStatus, Selectors
from durable_postgres import PostgresBackend, open_backend

HOUR_US = 3_600_000_000
WIDTH = 4


class Side:
    def __init__(self, backend: PostgresBackend, side: str, rounds: int) -> None:
        self.backend = backend
        self.side = side
        self.other = "right" if side == "left" else "left"
        self.rounds = rounds
        self.arrived: Counter[tuple[str, str]] = Counter()
        self.inboxes: dict[str, tuple[Message, ...]] = {}
        self.turns: dict[str, ClaimedTurn] = {}
        self.versions: Counter[str] = Counter()

    async def run(self) -> None:
        await self.backend.heartbeat(self.side, ttl_us=HOUR_US)
        while len(self.turns) < WIDTH:
            claim = await self.backend.claim(
                self.side, claim_id=f"c{len(self.turns)}", turns=8, tasks=0, selectors=Selectors(frozenset({self.side}))
            )
            for turn in claim.turns:
                self.turns[turn.instance] = turn
                self.take(turn.instance, turn.messages)
        for number in range(self.rounds):
            await self.round(number)
        while sum(self.arrived.values()) < WIDTH * WIDTH * self.rounds:
            await self.round(None)
        assert set(self.arrived.values()) == {self.rounds}

    async def round(self, number: int | None) -> None:
        ids = sorted(self.turns, reverse=self.side == "left")
        outcomes = await self.backend.apply([self.turn(id, number) for id in ids])
        for id, outcome in zip(ids, outcomes, strict=True):
            self.committed(id, outcome)

    def turn(self, id: str, number: int | None) -> Command:
        turn, version = self.turns[id], self.versions[id]
        consumes = tuple(message.id for message in self.inboxes[id])
        messages = (
            ()
            if number is None
            else tuple(Message(f"{id}>{k}:{number}", f"{self.other}{k}", b"%d" % number, sender=id) for k in range(WIDTH))
        )
        return CommitTurn(
            id, turn.execution, turn.epoch, version, self.side, f"{id}-{version}", consumes=consumes, messages=messages, hold_us=HOUR_US
        )

    def committed(self, id: str, outcome: Outcome) -> None:
        assert outcome.status is OutcomeStatus.OK, outcome
        self.versions[id] += 1
        self.take(id, outcome.messages)

    def take(self, id: str, messages: tuple[Message, ...]) -> None:
        self.inboxes[id] = messages
        for message in messages:
            number = self.arrived[message.sender, id]
            assert message.payload == b"%d" % number, f"{id} got {message} instead of number {number}"
            self.arrived[message.sender, id] += 1


async def main(url: str, side: str, rounds: str) -> None:
    backend = open_backend(url)
    await backend.open()
    await Side(backend, side, int(rounds)).run()
    await backend.close()


asyncio.run(main(*sys.argv[1:]))
