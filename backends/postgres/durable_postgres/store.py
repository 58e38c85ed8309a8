"""An open store: the parts of this package, put together and taken apart."""

from __future__ import annotations

from attrs import define

from durable_core.backend import Capabilities
from durable_postgres.lives import Lives
from durable_postgres.migrate import prepare
from durable_postgres.options import PostgresOptions
from durable_postgres.reads import Reads
from durable_postgres.steps import Steps
from durable_postgres.wakeups import Wakeups

__all__ = ["Store", "capabilities_of", "open_store"]


@define
class Store:
    """What a handle has while it is open."""

    steps: Steps
    reads: Reads
    wakeups: Wakeups
    lives: Lives

    def cut(self) -> None:
        """Lose all connections."""
        for lane in (self.steps.batches, self.steps.claims, *self.reads.lanes, self.lives.lane):
            lane.cut()

    async def close(self) -> None:
        """Leases stay, but who asks finds this handle's incarnations dead from now on: nobody could work on them any more."""
        await self.wakeups.close()
        await self.steps.close()
        await self.reads.close()
        await self.lives.close()


def capabilities_of(options: PostgresOptions) -> Capabilities:
    return Capabilities(
        durability="process" if options.synchronous_commit == "off" else "disk", multi_process=True, proves_death=True, max_batch=1_000
    )


async def open_store(options: PostgresOptions, *, create: bool) -> Store:
    await prepare(options, create=create)
    lives: Lives
    wakeups = Wakeups(lambda ended: lives.tell(ended))
    lives = Lives(options, lambda ended: wakeups.tell(ended=ended))
    return Store(Steps(options, capabilities_of(options), lives, wakeups), Reads(options), wakeups, lives)
