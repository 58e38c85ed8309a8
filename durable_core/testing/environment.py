"""``engine.testing()``: the real engine, worker, client and replay, on a store in memory, fake activities and virtual time.

Time passes only while somebody waits for an orchestration (or says ``advance``), and only when nothing is under way: then it jumps to the
next moment at which something is due. "Under way" is a turn, a commit, or an activity, which takes real time in its thread or process. And
since an ordinary event loop does not say whether anybody is about to run, nobody may have asked the clock or the store for some rounds of the
loop either: the test's own tasks pass results on to each other in fewer, and each call of a client asks.

Whatever an engine does in vain at intervals (heartbeats, polls, turns that failed and are tried again) is put off for ever: each would be a
moment to jump to.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve

from durable_core.errors import UsageError
from durable_core.moments import Duration, duration, to_datetime
from durable_core.runtime.client.client import DurableClient
from durable_core.runtime.options import WorkerOptions
from durable_core.runtime.session import Session
from durable_core.runtime.worker.worker import Worker
from durable_core.testing.clock import BESIDE, HORIZON_YEARS, LAST, NEVER_S, VirtualClock
from durable_core.testing.dead_ends import dead_end
from durable_core.testing.fakes import with_fakes
from durable_core.testing.memory import MemoryBackend

if TYPE_CHECKING:
    from durable_core.runtime.engine import DurableEngine

_logger = logging.getLogger("durable_core.testing")
_QUIET_ROUNDS = 50
_PAUSE_S = 0.001
_TOLD_AFTER_S = 5.0


class _Store(MemoryBackend):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock_us=clock.now_us)
        self._clock = clock

    @property
    def _store(self) -> Any:
        self._clock.asked += 1
        return super()._store


class Environment:
    """An engine under test. ``client`` is also ``engine.client`` meanwhile, so that the code under test finds it where it looks for it."""

    def __init__(self, client: DurableClient, session: Session, clock: VirtualClock) -> None:
        assert isinstance(session.worker, Worker)
        self.client = client
        self._session = session
        self._worker = session.worker
        self._clock = clock

    @property
    def now(self) -> datetime:
        """The virtual time: aware, UTC."""
        return to_datetime(self._clock.now_us())

    async def advance(self, by: Duration = timedelta()) -> None:
        """Let this much time pass, with all that is due on the way, and return when everything has come to rest. ``advance()`` lets no time
        pass: it only waits for what is under way."""
        if asyncio.current_task() in self._running:
            raise UsageError("an activity cannot advance the time, which stands still while it runs; write: await env.sleep(...)")
        seconds = _seconds(by)
        if seconds > self._clock.seconds_left:
            raise ValueError(f"virtual time ends {HORIZON_YEARS} years after it began; {by} is too far")
        with self._clock.driven():
            await self._clock.sleep(seconds, LAST)

    async def sleep(self, by: Duration) -> None:
        """Wait until this much time has passed, without making it pass: for a fake activity that takes two hours, or for a task that acts
        beside the one that waits for the result."""
        await self._clock.sleep(_seconds(by), BESIDE)

    # ── passing time ──────────────────────────────────────────────────────────────────────────────────────────

    async def _pass_time(self) -> None:
        clock = self._clock
        while True:
            await clock.wanted.wait()
            await self._come_to_rest()
            if clock.wanted.is_set() and not clock.jump():
                error = await dead_end(self._session)
                for wait in clock.waits:
                    wait.fail(error)

    async def _come_to_rest(self) -> None:
        clock, quiet, busy = self._clock, 0, 0
        since: float | None = time.monotonic()
        while quiet < _QUIET_ROUNDS:
            asked = clock.asked
            await asyncio.sleep(0 if busy < _QUIET_ROUNDS else _PAUSE_S)  # real work takes real time: soon look at it at intervals only
            if self._under_way():
                quiet, busy = 0, busy + 1
                if since is not None and time.monotonic() - since > _TOLD_AFTER_S:
                    since = None
                    during = ", ".join(self._running.values()) or "a turn"
                    _logger.warning("time has stood still for %.0f s, during: %s", _TOLD_AFTER_S, during)
            else:
                quiet, busy = (quiet + 1 if asked == clock.asked else 0), 0

    def _under_way(self) -> bool:
        return self._worker.in_turns or bool(self._running.keys() - self._clock.resting)

    @property
    def _running(self) -> dict[asyncio.Task[Any] | None, str]:
        return self._worker.turns.activities.running


class DurableTest(AbstractAsyncContextManager[Environment]):
    """What ``engine.testing(...)`` gives: a context manager, or the decorator of one test, which gets the environment as ``env`` and can
    then be run by pytest without a plugin, or by anything else that calls functions::

        @engine.testing(activities={charge: fake_charge})
        async def test_it(env):
            handle = await env.client.schedule_new_orchestration(subscription, "ada")
            assert await handle.result() == "paid"

    ``activities`` is what is faked; all others run for real. ``now`` is the virtual time at the beginning (default: the real one).
    """

    def __init__(self, engine: DurableEngine, activities: Mapping[Any, Any], now: datetime | None) -> None:
        if now is not None and now.tzinfo is None:
            raise ValueError(f"now must be an aware datetime, got the naive {now!r}")
        self._engine = engine
        self._fakes = dict(activities)
        self._now = now
        self._contexts: list[AbstractAsyncContextManager[Environment]] = []

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Environment]:
        engine = self._engine
        clock = VirtualClock(round((self._now or datetime.now(UTC)).timestamp() * 1e6))
        registry = with_fakes(engine._registry, self._fakes)
        async with engine._open(_Store(clock), registry, _without_routine(engine._options), clock) as session:
            env = Environment(engine.client, session, clock)
            passing = asyncio.create_task(env._pass_time(), name="durable-core virtual time")
            try:
                yield env
            finally:
                passing.cancel()
                await asyncio.wait([passing])
        if not passing.cancelled():
            passing.result()

    async def __aenter__(self) -> Environment:
        context = self._open()
        env = await context.__aenter__()
        self._contexts.append(context)
        return env

    async def __aexit__(self, *exc: Any) -> None:
        await self._contexts.pop().__aexit__(*exc)

    def __call__(self, test: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., None]:
        signature = inspect.signature(test)
        others = [parameter for name, parameter in signature.parameters.items() if name != "env"]

        async def in_environment(*args: Any, **kwargs: Any) -> None:
            async with self as env:
                await test(*args, **kwargs, env=env)

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            asyncio.run(in_environment(*args, **kwargs))

        run.__signature__ = signature.replace(parameters=others, return_annotation=None)  # type: ignore[attr-defined]
        return run


def _without_routine(options: WorkerOptions) -> WorkerOptions:
    return evolve(
        options,
        poll_s=NEVER_S,
        heartbeat_s=NEVER_S,
        worker_ttl_s=2 * NEVER_S,
        hold_s=NEVER_S,
        first_backoff_s=NEVER_S,
        last_backoff_s=NEVER_S,
        drain_s=0.0,
    )


def _seconds(by: Duration) -> float:
    while_ = duration(by, "a while")
    if while_ < timedelta():
        raise ValueError(f"time passes forwards only, got {by}")
    return while_.total_seconds()
