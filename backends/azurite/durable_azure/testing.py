"""The harness with which the conformance kit tests this store (entry point ``durable_core.harnesses``)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from durable_azure.azurite import VERSION, shared_azurite
from durable_azure.backend import AzureBackend, open_emulator
from durable_azure.blobs import Blobs
from durable_azure.log import FIRST_LOG, log_name
from durable_azure.options import parse_emulator_url
from durable_azure.proxy import Fate, Proxy, Request, bad_network
from durable_core.backend import Backend, Capabilities
from durable_core.errors import StoreUrlError

__all__ = ["AzuriteHarness", "BadNetworkHarness"]

_START_US = 1_700_000_000_000_000


class _Handles:
    """Handles on one container; each has a proxy of its own, so that its connections can be cut."""

    version = f"Azurite {VERSION}"

    def __init__(self, url: str, endpoint: str, **clocks: Callable[[], int]) -> None:
        self.url = url
        self.endpoint = endpoint
        self._clocks: dict[str, Any] = dict(clocks)
        self._rule: Callable[[Request], Fate] | None = None
        self._handles: dict[AzureBackend, Proxy] = {}
        self._proxies: list[Proxy] = []

    @property
    def location(self) -> str:
        return f"{self.url}{'&' if '?' in self.url else '?'}endpoint={self.endpoint}"

    @classmethod
    def attach(cls, location: str) -> AttachedHarness:
        return AttachedHarness(location)

    @property
    def capabilities(self) -> Capabilities:
        return open_emulator(self.url).capabilities

    async def open(self) -> Backend:
        proxy = Proxy(self.endpoint)
        self._proxies.append(proxy)
        await proxy.start()
        proxy.rule = self._rule or proxy.rule
        handle = open_emulator(self.url, endpoint=proxy.endpoint, **self._clocks)
        await handle.open()
        self._handles[handle] = proxy
        return handle

    async def kill(self, handle: Backend) -> None:
        """Closing gives nothing back, and stops in the middle of whatever is under way."""
        await handle.close()

    async def cut_connection(self, handle: Backend) -> None:
        assert isinstance(handle, AzureBackend)
        self._handles[handle].cut()

    async def destroy(self) -> None:
        for handle in self._handles:
            await handle.close()
        for proxy in self._proxies:  # also of handles that could not be opened
            await proxy.close()


class AzuriteHarness(_Handles):
    """A container of its own on an emulator of this process, whose clock stands still but for ``advance_clock``.

    The URL's query holds options of the store, such as ``?roll_bytes=20000``.
    """

    features = frozenset({"many_handles", "frozen_clock", "wall_clock", "attach", "corrupt", "cut_connection"})

    def __init__(self, url: str = "azurite:///:temp:") -> None:
        location, question, query = url.partition("?")
        if location != "azurite:///:temp:":
            raise StoreUrlError(f"the tests make and remove a container of their own: use azurite:///:temp:, not {url!r}")
        self._now_us = _START_US
        self._passed_us = 0
        clocks: Any = {"clock_us": lambda: self._now_us, "monotonic_us": lambda: self._passed_us}
        super().__init__(f"azurite://test-{uuid4().hex}{question}{query}", shared_azurite().endpoint, **clocks)

    async def destroy(self) -> None:
        await super().destroy()
        if self._handles:
            blobs = self._blobs()
            await blobs.container.delete_container()
            await blobs.close()

    def advance_clock(self, us: int) -> None:
        self._now_us += us
        self._passed_us += us

    def jump_clock(self, us: int) -> None:
        self._now_us += us

    async def corrupt(self) -> None:
        """A byte of the log is flipped."""
        blobs, name = self._blobs(), log_name(FIRST_LOG)
        data = await blobs.read(name)
        assert data is not None
        await blobs.delete(name)
        await blobs.container.upload_blob(name, data[:-1] + bytes([data[-1] ^ 1]), blob_type="AppendBlob")
        await blobs.close()

    def _blobs(self) -> Blobs:
        return Blobs(parse_emulator_url(self.url, {"endpoint": self.endpoint}))


class BadNetworkHarness(AzuriteHarness):
    """The same on a bad network. Callable without arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._rule = bad_network(random.Random(self.url), 0.1)


class AttachedHarness(_Handles):
    """On the container of another harness, with the service's clock."""

    features = frozenset({"many_handles"})

    def __init__(self, location: str) -> None:
        url, _, endpoint = location.rpartition("endpoint=")
        super().__init__(url.rstrip("?&"), endpoint)

    def advance_clock(self, us: int) -> None:
        raise NotImplementedError("it is the service's clock")
