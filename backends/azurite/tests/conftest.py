"""Each coroutine test runs in a loop of its own, on a container of its own in a real emulator: ``url`` names it, ``handle`` opens handles
on it that the test's end closes; ``proxy`` is a proxy before the emulator, started."""

from __future__ import annotations

import asyncio
import inspect
from uuid import uuid4

import pytest

from durable_azure import AzureBackend, open_emulator
from durable_azure.azurite import shared_azurite
from durable_azure.blobs import Blobs
from durable_azure.options import parse_emulator_url
from durable_azure.proxy import Proxy


class Handles:
    """Called like ``open_emulator`` with the container's URL filled in; opened on return. ``blobs`` reaches the container itself."""

    def __init__(self) -> None:
        self.url = f"azurite://test-{uuid4().hex}"
        self.endpoint = shared_azurite().endpoint
        self.opened: list[AzureBackend] = []
        self.edges: list[Blobs] = []
        self.proxies: list[Proxy] = []

    async def __call__(self, *, create: bool = True, **options: object) -> AzureBackend:
        backend = open_emulator(self.url, **({"endpoint": self.endpoint} | options))
        await backend.open(create=create)
        self.opened.append(backend)
        return backend

    async def blobs(self, **options: object) -> Blobs:
        blobs = Blobs(parse_emulator_url(self.url, {"endpoint": self.endpoint} | options))
        self.edges.append(blobs)
        return blobs

    async def proxy(self) -> Proxy:
        proxy = Proxy(self.endpoint)
        await self.start(proxy)
        return proxy

    async def start(self, proxy: Proxy) -> None:
        await proxy.start()
        self.proxies.append(proxy)

    async def close(self) -> None:
        for backend in self.opened:
            await backend.close()
        for blobs in self.edges:
            await blobs.close()
        for proxy in self.proxies:
            await proxy.close()


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Handles:
    handles = Handles()
    monkeypatch.setenv("AZURITE_BLOB_ENDPOINT", handles.endpoint)
    return handles


@pytest.fixture
def proxy(handle: Handles) -> Proxy:
    return Proxy(handle.endpoint)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    handles = pyfuncitem.funcargs.get("handle")

    async def run() -> None:
        try:
            proxy = arguments.get("proxy")
            if isinstance(handles, Handles) and isinstance(proxy, Proxy):
                await handles.start(proxy)
            await asyncio.wait_for(test(**arguments), None if pyfuncitem.get_closest_marker("crash") else 60)
        finally:
            if isinstance(handles, Handles):
                await handles.close()

    asyncio.run(run())
    return True
