"""An open store: the calls of its handle, in rounds, each one storage operation.

Calls queue up while an operation is under way; the next round takes all that are there, so the batch size follows the load, without a timer. A
round decides on the hub as this handle knows it, and then makes sure that this is the hub as it is: by appending what was decided, which
succeeds only at the log's end, or, when there is nothing to write, by looking whether the log goes on. If it does, the round reads and is
decided again. So a refusal is as truthful as a success, and a read sees everything that was acknowledged to anybody before it was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from attrs import define, field

from durable_azure import manifest as manifests
from durable_azure.blobs import Blobs
from durable_azure.checks import check_account
from durable_azure.codec import decode_body, encode_body
from durable_azure.errors import BlobMissing
from durable_azure.log import Log
from durable_azure.manifest import Manifest
from durable_azure.options import AzureOptions
from durable_azure.quiet import QuietBeats
from durable_azure.replica import News, Replica
from durable_azure.rounds import ClaimRequest, Look, Request, Round
from durable_azure.snapshots import begin_anew, encode_snapshot, restore
from durable_azure.wakeups import Wakeups
from durable_core.backend import Capabilities
from durable_core.errors import DurableError, StoreError, StoreUnavailableError
from durable_core.hub import HubClock
from durable_core.hub.effects import Effect

__all__ = ["Store", "open_store"]

_logger = logging.getLogger("durable_azure")
_REQUESTS_PER_ROUND = 2_000
_LOSSES_MAX = 3
_COURTESY_S = 3.0
"""Enough for a large append, and short if its writer has died."""
_WINS_MAX = 2
_LOOK_S = 0.015
_QUIET_SHARE = 1 / 6
_COMPANY_S = 0.25
_STALE_S = 0.01
_SAVE_AGAIN_S = 1.0
_SAVE_AGAIN_MAX_S = 30.0


async def open_store(options: AzureOptions, limits: Capabilities, *, create: bool) -> Store:
    blobs = Blobs(options)
    try:
        await check_account(blobs, create=create)
        manifest = await manifests.load_or_create(blobs, create=create)
        replica, log = await restore(blobs, limits, options.roll_bytes)
    except BaseException:
        await blobs.close()
        raise
    return Store(blobs, log, replica, manifest.hub)


@define(eq=False)
class _Call:
    requests: Sequence[Request]
    answered: asyncio.Future[list[Any]]


@define(eq=False)
class Store:
    """What a handle has while it is open. ``commits``: appends that were accepted."""

    blobs: Blobs
    log: Log
    replica: Replica
    hub: str
    commits: int = 0
    wakeups: Wakeups = field(factory=Wakeups)
    _calls: asyncio.Queue[_Call] = field(factory=asyncio.Queue)
    _left: list[_Call] = field(factory=list)
    _tasks: list[asyncio.Task[None]] = field(init=False)
    _snapshot: asyncio.Task[None] | None = None
    _closed: bool = False
    _news_s: float = -inf
    _looked_s: float = 0.0
    _append_s: float = 0.0
    _company_s: float = -inf
    _wins: int = 0
    """Appends since somebody else's."""
    _quiet: QuietBeats = field(init=False)
    _hub_clock: HubClock = field(factory=HubClock)

    def __attrs_post_init__(self) -> None:
        self._quiet = QuietBeats(round(self.blobs.options.idle_ttl_s * 1e6))
        self._tasks = [
            asyncio.create_task(self._run(), name="durable-azure rounds"),
            asyncio.create_task(self._watch(), name="durable-azure watch"),
        ]

    async def submit(self, requests: Sequence[Request]) -> list[Any]:
        """One answer a request, in order, when all of them are durable. To give up waiting changes nothing of that."""
        if self._closed or self._tasks[0].done():
            raise StoreUnavailableError("this handle of the store was closed: open another one")
        call = _Call(requests, asyncio.get_running_loop().create_future())
        self._calls.put_nowait(call)
        return await call.answered

    async def close(self) -> None:
        """What is under way is not waited for: its outcome is unknown, as if the process had ended."""
        self._closed = True
        self.wakeups.close()
        tasks = [*self._tasks, *([self._snapshot] if self._snapshot else [])]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self.blobs.close()

    # ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        calls: list[_Call] = []
        try:
            while True:
                calls = await self._take()
                try:
                    answers = await self._round([request for call in calls for request in call.requests])
                except Exception as error:  # whatever it is: seen by the callers, and the next round begins anew
                    for call in calls:
                        _set(call.answered, error=error)
                else:
                    rest = iter(answers)
                    for call in calls:
                        mine = [next(rest) for _ in call.requests]
                        _set(call.answered, mine, next((each for each in mine if isinstance(each, DurableError)), None))
                try:
                    if self.log.is_long and not self.log.place.reserved:
                        await self._roll()
                except Exception:  # a mistake of ours: the log grows, and the next round tries again
                    _logger.exception("%s: the log could not be ended", self.blobs.options.where)
                await self._pause()
        finally:
            for call in (*calls, *self._left, *(self._calls.get_nowait() for _ in range(self._calls.qsize()))):
                _set(call.answered, error=StoreUnavailableError("this handle of the store was closed: open another one"))

    async def _pause(self) -> None:
        """After an append. Who has just won would win again, since the others have to read first: who has won twice in a row while there are
        others leaves them the time to, and the more so the oftener nobody else came in between. And no more appends than are to be paid for."""
        took_s, self._append_s = self._append_s, 0.0
        if took_s:
            pause_s = self.blobs.options.commit_every_s - took_s
            if self._has_company:
                pause_s = max(pause_s, took_s * random.uniform(0.5, 1.5) * min(self._wins - 1, _WINS_MAX))
            await asyncio.sleep(max(0.0, pause_s))

    @property
    def _has_company(self) -> bool:
        """Whether others are writing these days."""
        return time.monotonic() < self._company_s + _COMPANY_S

    async def _take(self) -> list[_Call]:
        """What is there, up to a limit; at most one claim, since the next one is to choose among what this one leaves."""
        calls = self._left or [await self._calls.get()]
        waiting = [*calls[1:], *(self._calls.get_nowait() for _ in range(self._calls.qsize()))]
        calls, self._left = calls[:1], []
        count, claims = len(calls[0].requests), _is_claim(calls[0])
        for call in waiting:
            if self._left or count >= _REQUESTS_PER_ROUND or (claims and _is_claim(call)):
                self._left.append(call)
            else:
                calls.append(call)
                count += len(call.requests)
                claims |= _is_claim(call)
        return calls

    async def _round(self, requests: Sequence[Request]) -> list[Any]:
        lost = 0
        with suppress(BlobMissing):  # then met again, below
            if self._has_company and time.monotonic() > self._looked_s + _STALE_S:
                await self._catch_up()  # or the first append would be in vain: dearer, and later
        while True:
            round = Round(self.replica, self._quiet, self._clock())
            round.decide(requests)
            started_s = time.monotonic()
            try:
                if round.encoded:
                    await self._hold_back()
                    if await self._give_way():
                        continue
                    if await self.log.append(encode_body(round.encoded)):
                        self.commits += 1
                        self._looked_s = started_s
                        self._append_s = time.monotonic() - started_s
                        self._wins += 1
                        self._absorb(round.effects)
                        return round.finish(requests)
                    lost += 1
                    await self._catch_up()
                    if lost >= _LOSSES_MAX:
                        await self._reserve()
                elif (round.patient and self._is_watched) or not await self._catch_up():
                    return round.finish(requests)
            except BlobMissing:
                await self._begin_again()

    async def _reserve(self) -> None:
        """The next turn; that is a small append, which soon succeeds."""
        while True:
            await self._give_way()
            if await self.log.reserve():
                return
            await self._catch_up()

    async def _give_way(self) -> bool:
        """Somebody else has reserved the next turn: wait until it has written, or for a moment. Whether anything was written."""
        until = time.monotonic() + _COURTESY_S
        while self.log.place.reserved and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            if await self._catch_up():
                return True
        self.log.place.reserved = False
        return False

    async def _catch_up(self) -> bool:
        """Read what others have written; whether there was anything."""
        started_s = time.monotonic()
        bodies, place = await self.log.read()
        written = [decode_body(body, self.blobs.options.where) for body in bodies]
        self.log.place, self._looked_s = place, started_s
        if written:
            self._company_s, self._wins = time.monotonic(), 0
        for effects in written:
            self._absorb(effects)
        return bool(written)

    def _absorb(self, effects: Sequence[Effect]) -> None:
        news = News()
        self.replica.absorb(effects, news)
        if news:
            self._news_s = time.monotonic()
            self.wakeups.tell(ended=news.ended)

    async def _begin_again(self) -> None:
        """This handle was so slow that its log has been removed meanwhile (or it was deleted: then this raises)."""
        _logger.warning("%s: this handle was left behind; it reads the hub anew", self.blobs.options.where)
        self.replica, self.log = await restore(self.blobs, self.replica.limits, self.log.roll_bytes)
        self.wakeups.tell(ended=True)

    def _clock(self) -> int:
        options = self.blobs.options
        wall_us = options.clock_us() if options.clock_us is not None else self.blobs.clock()
        passing = time.monotonic_ns() // 1_000 if options.clock_us is None else 0
        monotonic_us = options.monotonic_us() if options.monotonic_us is not None else passing
        now_us = self._hub_clock.now_us(wall_us, monotonic_us, self.replica.state.now_us)
        if self._hub_clock.news is not None:
            _logger.warning("%s: %s", options.where, self._hub_clock.news)
            self._hub_clock.news = None
        return now_us

    # ── a new beginning ──────────────────────────────────────────────────────────────────────────────────────

    async def _roll(self) -> None:
        """End a long log. Who succeeds writes the snapshot; one that is late lets the log grow, but not for ever (``_hold_back``)."""
        if self._is_saving:
            return
        try:
            if await self.log.roll():
                # Both now: the log goes on while the snapshot is written.
                tip = self.log.place.tip
                beginning = Manifest(manifests.FORMAT, self.hub, self.log.place.number, tip.number, tip.checksum)
                self._snapshot = asyncio.create_task(self._save(beginning, self.replica.as_effects()), name="durable-azure snapshot")
        except (StoreError, BlobMissing) as error:
            _logger.warning("%s: the log could not be ended: %s; tried again later", self.blobs.options.where, error)

    async def _save(self, beginning: Manifest, effects: Iterable[Effect]) -> None:
        """Again and again: without a snapshot the log that a reader has to read grows."""
        data, pause_s = await encode_snapshot(beginning, effects), _SAVE_AGAIN_S
        while True:
            try:
                await begin_anew(self.blobs, beginning, data)
                return
            except Exception as error:
                _logger.warning("%s: no snapshot was written: %r; trying again", self.blobs.options.where, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _SAVE_AGAIN_MAX_S)

    @property
    def _is_saving(self) -> bool:
        return self._snapshot is not None and not self._snapshot.done()

    async def _hold_back(self) -> None:
        """Back-pressure: whoever writes waits for a snapshot that is late, since opening the hub would take too long later."""
        if self._snapshot is not None and self._is_saving and self.log.is_too_long:
            await asyncio.wait([self._snapshot], timeout=self.blobs.options.patience_s)
            if self._is_saving:
                raise StoreUnavailableError(
                    f"{self.blobs.options.where}: no snapshot can be written, and the log has become long: nothing is added until one is there"
                )

    # ── what others do ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_watched(self) -> bool:
        """Whether somebody listens and the last look was not long ago: what has happened since will wake them."""
        return bool(self.wakeups) and time.monotonic() < self._looked_s + self.blobs.options.poll_s

    async def _watch(self) -> None:
        """While somebody listens: look again and again, after a share of the time for which nothing has happened."""
        while True:
            await self.wakeups.wanted.wait()
            pause_s = min(max(_LOOK_S, (time.monotonic() - self._news_s) * _QUIET_SHARE), self.blobs.options.poll_s)
            wait_s = self._looked_s + pause_s - time.monotonic()
            if not self.wakeups:
                self.wakeups.wanted.clear()
            elif wait_s > 0:
                await asyncio.sleep(wait_s)  # and see whether a call has looked meanwhile
            else:
                try:
                    await self.submit([Look(lambda _state: None)])
                except Exception:  # who calls meets the same trouble and reports it
                    await asyncio.sleep(pause_s)


def _is_claim(call: _Call) -> bool:
    return isinstance(call.requests[0], ClaimRequest) if call.requests else False


def _set(future: asyncio.Future[list[Any]], answer: list[Any] | None = None, error: Exception | None = None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer or [])
