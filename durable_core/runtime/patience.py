"""How long a client's call waits for the store: up to a deadline that begins with the call, whatever the store does meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable_core.errors import StoreError, StoreUnavailableError
from durable_core.runtime.clock import Clock
from durable_core.runtime.outage import Outage

T = TypeVar("T")

CLIENT_PATIENCE_S = 10.0
"""How long a client's call waits for the store."""
FIRST_RETRY_S = 0.02
LAST_RETRY_S = 2.0


async def read_patiently(ask: Callable[[], Awaitable[T]], patience_s: float, clock: Clock, outage: Outage) -> T:
    """Ask until the store answers. Raises ``StoreUnavailableError`` at the deadline."""
    until_s, pause_s = clock.time() + patience_s, FIRST_RETRY_S
    trouble: StoreError | None = None
    limit = clock.limit(patience_s)
    try:
        async with limit:
            while True:
                try:
                    answer = await ask()
                except StoreUnavailableError as error:
                    trouble = error
                    outage.failed("reads", error)
                    if clock.time() + pause_s > until_s:
                        break
                else:
                    outage.worked("reads")
                    return answer
                await clock.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_RETRY_S)
    except TimeoutError:
        if not limit.expired():
            raise  # not ours
    in_vain = out_of_patience("has not answered", patience_s, trouble)
    outage.failed("reads", in_vain)
    raise in_vain


def out_of_patience(what: str, patience_s: float, trouble: StoreError | None) -> StoreUnavailableError:
    why = f"the last trouble was: {trouble}" if trouble is not None else "it does not answer at all"
    error = StoreUnavailableError(f"the store {what} for {patience_s:g} s: {why}")
    error.__cause__ = trouble
    return error
