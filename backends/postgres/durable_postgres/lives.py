"""The connection that keeps this handle's incarnations alive, and listens.

An incarnation holds a session-level advisory lock: when its process ends, however, the server lets go of the lock, and whoever can take
it knows. A connection may also break by itself; so an incarnation counts as dead only when its lock has been free for ``death_grace_s``,
by when its process has connected again and taken it. A restart of the server takes all locks at once, and not everybody is back at once: who
has not held its lock since then is given ``_RETURN_S`` more, and so is everybody by a handle that lost its own connection or that waited long
for an answer. (A worker that is given up by mistake loses no work, but its activities run twice.)

The same connection LISTENs, and heartbeats run on it: one that went deaf is found by the next beat (or ping) at the latest. Nothing on it may
wait for long, whatever ``command_timeout_s`` is: another connection is made then, in time for the lease. The server may not know yet that
the old one is lost, and its session still have our locks: it is ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

import asyncpg
from attrs import evolve

from durable_core.errors import StoreError
from durable_postgres.lanes import Connection, Lane
from durable_postgres.options import PostgresOptions
from durable_postgres.queries import query

__all__ = ["Lives"]

_logger = logging.getLogger("durable_core.postgres")
_PING_S = 5.0
_ANSWER_S = 3.0
"""How long connecting, and each statement, may take."""
_SLOW_S = 1.0
"""Whoever waited so long for an answer does not know who could reach the server meanwhile."""
_RETRY_S = 0.05
_LAST_RETRY_S = 1.0
_RETURN_S = _PING_S + _ANSWER_S + _LAST_RETRY_S + _ANSWER_S
"""The longest way back: a ping that finds the connection dead, a pause, and another connection."""
_WORK, _ENDED = "work", "ended"
_LOST = (StoreError, OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What using the connection may raise when it, or the server, is not there, or goes away at that moment."""


class Lives:
    """``heard`` is called with whether something ended: when another handle says so, and when something may have been missed."""

    def __init__(self, options: PostgresOptions, heard: Callable[[bool], None]) -> None:
        self._options = options
        self._heard = heard
        self._channel = f"durable-core {options.hub}"
        self._held: set[str] = set()
        self._lifeless: dict[str, float] = {}
        """From when on they count as dead."""
        self._used_s = 0.0
        self._was_connected = False
        self._away_until_s = 0.0
        self._broken = asyncio.Event()
        hasty = evolve(
            options,
            connect_timeout_s=min(options.connect_timeout_s, _ANSWER_S),
            command_timeout_s=min(options.command_timeout_s, _ANSWER_S),
        )
        self.lane = Lane(hasty, self._prepare)
        self._keeper = asyncio.create_task(self._keep(), name="durable-postgres connection")

    async def hold(self, worker: str) -> None:
        """Before its row says that it lives."""
        async with self.lane.use() as connection:
            self._used_s = time.monotonic()
            if worker not in self._held:
                await connection.execute(query("hold_life"), worker.encode())
                self._held.add(worker)

    async def drop(self, worker: str) -> None:
        """It is over: nobody needs its lock any more. A courtesy: what was written for it is written."""
        if worker in self._held:
            self._held.discard(worker)
            try:
                async with self.lane.use() as connection:
                    await connection.execute(query("drop_life"), worker.encode())
            except _LOST as error:  # and with the connection the lock is lost
                _logger.debug("the lock of worker %s was not given back: %s", worker, error)

    async def proven_dead(self, connection: Connection, lifeless: Iterable[str]) -> list[str]:
        """Of the workers whose lock is free: those for whom it has been for long enough."""
        if self._options.death_grace_s == 0:
            return list(set(lifeless) - self._held)
        seen = set(lifeless) - self._held if self.lane.is_open else set[str]()
        self._lifeless = {worker: dead_s for worker, dead_s in self._lifeless.items() if worker in seen}
        now_s = time.monotonic()
        new = [worker.encode() for worker in seen - self._lifeless.keys()]
        if new:
            not_back = {id for (id,) in await connection.fetch(query("not_back"), new)}
            for worker in new:
                from_s = max(self._away_until_s, now_s + _RETURN_S if worker in not_back else now_s)
                self._lifeless[worker.decode()] = from_s + self._options.death_grace_s
            again_s = min(self._lifeless.values()) - now_s  # have somebody look again
            asyncio.get_running_loop().call_later(again_s + 0.01, self._heard, False)
        return [worker for worker, dead_s in self._lifeless.items() if dead_s <= now_s]

    def answered_after(self, seconds: float) -> None:
        """So long a question of this handle took. If that is long, the server may have been away for everybody."""
        if seconds >= _SLOW_S:
            self._give_time()

    async def tell(self, ended: bool) -> None:
        """Every other handle. A hint: lost if the connection is."""
        try:
            async with self.lane.use() as connection:
                self._used_s = time.monotonic()
                await connection.execute(query("tell"), self._channel, _ENDED if ended else _WORK)
        except _LOST as error:
            _logger.debug("a wake-up was not sent: %s", error)

    async def close(self) -> None:
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._held:
            try:
                async with asyncio.timeout(_PING_S), self.lane.use() as connection:  # at once, not when the server has noticed
                    await connection.execute(query("drop_lives"))
            except _LOST:
                pass  # the server will notice
        await self.lane.close()

    async def _prepare(self, connection: Connection) -> None:
        connection.add_termination_listener(lambda _: self._broken.set())
        await connection.add_listener(self._channel, self._hear)
        for worker in self._held:
            await connection.execute(query("end_former_session"), worker.encode())
            await connection.execute(query("hold_life"), worker.encode())
        if self._was_connected:
            self._give_time()
        self._was_connected = True
        self._heard(True)  # what others told meanwhile was missed

    def _give_time(self) -> None:
        """To everybody, for the way back."""
        self._away_until_s, self._lifeless = time.monotonic() + _RETURN_S, {}

    def _hear(self, connection: Connection, sender: int, _channel: str, payload: str) -> None:
        if sender != connection.get_server_pid():
            self._heard(payload == _ENDED)

    async def _keep(self) -> None:
        """Connected at all times: connect again as soon as the connection breaks, and look now and then whether it still answers."""
        pause_s = _RETRY_S
        while True:
            try:
                self._broken.clear()
                async with self.lane.use() as connection:
                    if time.monotonic() - self._used_s >= _PING_S:
                        async with asyncio.timeout(_PING_S):
                            await connection.execute(query("ping"))
                pause_s = _RETRY_S
            except Exception as error:
                if isinstance(error, _LOST):
                    _logger.warning("the connection that listens is lost: %s; trying again", error)
                else:
                    _logger.exception("the connection that listens has met an unexpected error; trying again")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LAST_RETRY_S)
                continue
            try:
                async with asyncio.timeout(_PING_S):  # not wait_for: before Python 3.12 it may swallow a cancellation
                    await self._broken.wait()
            except TimeoutError:
                pass  # nothing happened
