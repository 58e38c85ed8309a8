"""The store on Azure Blob Storage alone: no database, no queue service.

The hub is a *replicated state machine over a shared log*. An append blob holds the effects of every accepted command, in order. Each
handle keeps the whole hub in memory: a snapshot, and the log's effects absorbed since. To write, it decides on its copy and appends the
effects under the condition that the log ends where its copy does. The service accepts exactly one append at a position; who loses reads what
the winner wrote, and decides anew.

So the position is the only fence. Nobody owns anything, there is no lease to lose, and two handles that both believe they are alone are
told apart by the service. (docs/decisions/0014 has the road not taken: logs that belong to workers.)

    backend.py      the nine methods
    store.py        an open store: rounds of calls, each one storage operation
      rounds.py       what one round decides, on the rows that it needs
      replica.py      the hub in memory, and what of it may be claimed
      log.py          the shared log: read, append at the end, roll over
        frames.py       what one append consists of: checksums, chained; codec.py: effects as bytes
      snapshots.py    a new beginning for the log; what is older is removed
        manifest.py     hub.json: where to begin
      quiet.py        beats that write nothing
      wakeups.py      who is told of what was done, here or elsewhere
    blobs.py        the only file that speaks to the service; errors.py: what its errors mean; checks.py: is it fit
    clock.py        the service's clock; options.py: the URL; operations.py: what requests cost
    recovery.py     what is sound of a damaged hub; __main__.py: the tool
    azurite.py      the emulator, proxy.py: a bad network, testing.py: the harness of the conformance kit; all for tests

The rules are those of ``durable_core.hub``: this package lets the hub decide, and makes durable what it decided.
"""

from __future__ import annotations

from durable_azure.backend import AzureBackend, open_backend, open_emulator
from durable_azure.options import AzureOptions

__all__ = ["AzureBackend", "AzureOptions", "open_backend", "open_emulator"]
