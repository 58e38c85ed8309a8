"""The harness with which the conformance kit tests this store (entry point ``durable_core.harnesses``)."""

from __future__ import annotations

from uuid import uuid4

from durable_azure.azurite import shared_azurite
from durable_azure.backend import AzureBackend, open_emulator
from durable_azure.blobs import Blobs
from durable_azure.options import parse_emulator_url
from durable_core.backend import Backend, Capabilities
from durable_core.errors import StoreUrlError

__all__ = ["AzuriteHarness"]

_START_US = 1_700_000_000_000_000


class AzuriteHarness:
    """A container of its own on an emulator of this process, whose clock stands still but for ``advance_clock``.

    The URL's query holds options of the store, such as ``?roll_bytes=20000``.
    """

    features = frozenset({"many_handles", "frozen_clock"})

    def __init__(self, url: str = "azurite:///:temp:") -> None:
        location, question, query = url.partition("?")
        if location != "azurite:///:temp:":
            raise StoreUrlError(f"the tests make and remove a container of their own: use azurite:///:temp:, not {url!r}")
        self.url = f"azurite://test-{uuid4().hex}{question}{query}"
        self._now_us = _START_US
        self._handles: list[AzureBackend] = []

    @property
    def capabilities(self) -> Capabilities:
        return open_emulator(self.url).capabilities

    async def open(self) -> Backend:
        handle = open_emulator(self.url, endpoint=shared_azurite().endpoint, clock_us=lambda: self._now_us)
        await handle.open()
        self._handles.append(handle)
        return handle

    async def kill(self, handle: Backend) -> None:
        """Closing gives nothing back, and stops in the middle of whatever is under way."""
        await handle.close()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()
        if self._handles:
            blobs = Blobs(parse_emulator_url(self.url, {"endpoint": shared_azurite().endpoint}))
            await blobs.container.delete_container()
            await blobs.close()

    def advance_clock(self, us: int) -> None:
        self._now_us += us
