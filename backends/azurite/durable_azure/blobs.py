"""Blobs: the only file that speaks to the service. What another object store needs to offer is what this class has.

Retries are our own. The SDK's begin after 15 seconds; and whatever is retried below us (aiohttp sends a request again when its connection
drops), a request may be carried out twice. So every write is conditional: it can be sent any number of times and counts once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, TypeVar

from aiohttp import ClientError
from attrs import define, field, frozen
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from durable_azure.clock import ServiceClock
from durable_azure.errors import BlobMissing, code_of, is_transient, translate
from durable_azure.operations import operation_of
from durable_azure.options import AzureOptions
from durable_core.errors import StoreError, StoreUnavailableError, StoreUrlError

__all__ = ["Blobs", "Stored"]

T = TypeVar("T")

_FIRST_PAUSE_S = 0.02
_LAST_PAUSE_S = 1.0
_TRIES = 5
_STREAMED_BYTES = 1 << 19
_BLOCK_BYTES = 1 << 20
_SINGLE_GET_BYTES = 128 << 20
"""Logs are read in one request: the SDK's further ones would demand that the blob has not grown meanwhile."""


@frozen
class Stored:
    """A small blob, and the tag under which it may be replaced."""

    data: bytes
    etag: str


@define
class Blobs:
    """The container of a store. Raises ``BlobMissing``, or what ``errors.translate`` makes of an error.

    ``operations`` counts requests as they are billed: each that was answered, and each that was not.
    """

    options: AzureOptions
    clock: ServiceClock = field(factory=ServiceClock)
    operations: Counter[str] = field(factory=Counter)
    service: BlobServiceClient = field(init=False)
    container: ContainerClient = field(init=False)
    _credential: Any = None

    def __attrs_post_init__(self) -> None:
        options = self.options
        settings: dict[str, Any] = {
            "api_version": options.api_version,
            "retry_total": 0,
            "connection_timeout": 3,
            "read_timeout": 5,
            "max_single_get_size": _SINGLE_GET_BYTES,
            "max_single_put_size": _BLOCK_BYTES,  # aiohttp complains of larger pieces: they hold the loop up
            "max_block_size": _BLOCK_BYTES,
            "raw_response_hook": self._learn,
        }
        if options.connection_string is not None:
            self.service = BlobServiceClient.from_connection_string(options.connection_string, **settings)
        else:
            self._credential = options.sas or options.key or _default_credential(options.where)
            self.service = BlobServiceClient(options.endpoint, self._credential, **settings)
        self.container = self.service.get_container_client(options.container)

    def _learn(self, response: Any) -> None:
        request = response.http_request
        self.operations[operation_of(request.method, request.url, {k.lower(): v for k, v in request.headers.items()})] += 1
        self.clock.learn(response.http_response.headers.get("Date"))

    async def close(self) -> None:
        await self.service.close()
        if hasattr(self._credential, "close"):
            await self._credential.close()

    # ── the log ──────────────────────────────────────────────────────────────────────────────────────────────

    async def create_log(self, name: str) -> bool:
        """An empty append blob; False if there is one of that name. (Without the condition an existing one would be emptied.)"""
        return await self._unless(409, 412, lambda: self.container.get_blob_client(name).create_append_blob(match_condition=_ABSENT))

    async def append(self, name: str, position: int, data: bytes) -> bool:
        """Append at ``position``; False if the blob does not end there (any more: it may be this very data that is there)."""
        client = self.container.get_blob_client(name)
        return await self._unless(412, 409, lambda: client.append_block(_body(data), length=len(data), appendpos_condition=position))

    async def read(self, name: str, position: int = 0) -> bytes | None:
        """Everything from ``position`` on. None: the blob ends before it."""
        client = self.container.get_blob_client(name)

        async def read() -> bytes:
            return (
                await (await client.download_blob(offset=position)).readall()
                if position
                else await (await client.download_blob()).readall()
            )

        try:
            return await self._try(read)
        except HttpResponseError as error:
            if error.status_code != 416:
                raise translate(error, self.options.where) from error
            headers = getattr(error.response, "headers", {})
            size = str(headers.get("Content-Range", "")).rpartition("/")[2]
            return None if size.isdigit() and int(size) < position else b""

    # ── other blobs ──────────────────────────────────────────────────────────────────────────────────────────

    async def put_new(self, name: str, data: bytes) -> None:
        """A blob of a name that nobody else uses. That it is there already says that an earlier request was carried out; see whether
        that is true."""
        client = self.container.get_blob_client(name)
        for _ in range(_TRIES):
            if await self._unless(409, 412, lambda: client.upload_blob(_body(data), overwrite=False)):
                return
            stored = await self.get(name)
            if stored is not None and stored.data == data:
                return
        raise StoreError(f"{self.options.where} does not take {name}, and does not have it: its answers contradict each other")

    async def get(self, name: str) -> Stored | None:
        client = self.container.get_blob_client(name)

        async def read() -> Stored:
            stream = await client.download_blob()
            return Stored(await stream.readall(), str(stream.properties.etag))

        try:
            return await self._call(read)
        except BlobMissing:
            return None

    async def replace(self, name: str, data: bytes, etag: str | None) -> bool:
        """Compare and swap; ``etag`` None: there must be none. False: it is another one, which may be what we wrote."""
        client = self.container.get_blob_client(name)
        if etag is None:
            return await self._unless(409, 412, lambda: client.upload_blob(_body(data), overwrite=False))
        match: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return await self._unless(409, 412, lambda: client.upload_blob(data, overwrite=True, **match))

    async def delete(self, name: str) -> None:
        try:
            await self._call(lambda: self.container.delete_blob(name))
        except BlobMissing:
            pass

    async def names(self, prefix: str) -> list[str]:

        async def names() -> list[str]:
            return [name async for name in self.container.list_blob_names(name_starts_with=prefix)]

        return await self._call(names)

    # ── calling ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _unless(self, first: int, second: int, call: Callable[[], Awaitable[Any]]) -> bool:
        """False if the service answers that a condition does not hold."""
        try:
            await self._try(call, conditional=True)
        except HttpResponseError as error:
            if error.status_code in (first, second) and code_of(error) in _CONDITIONS:
                return False
            raise translate(error, self.options.where) from error
        return True

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Patiently; the answer's errors (but for transient ones) as the service gives them."""
        return await self._repeat(call)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._try(call)
        except AzureError as error:
            raise translate(error, self.options.where) from error

    async def _try(self, call: Callable[[], Awaitable[T]], *, conditional: bool = False) -> T:
        try:
            return await self._repeat(call, conditional=conditional)
        except HttpResponseError as error:
            if error.status_code == 404:
                raise BlobMissing(code_of(error)) from error
            raise

    async def _repeat(self, call: Callable[[], Awaitable[T]], *, conditional: bool = False) -> T:
        """Again and again, after a random pause, while the trouble is transient and patience lasts. A condition that fails where we made none
        is such a trouble: the SDK makes some, between the parts of a large blob."""
        until, pause_s = time.monotonic() + self.options.patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return await call()
            except AzureError as error:
                if not isinstance(error, HttpResponseError):
                    self.operations["unanswered"] += 1
                if not (is_transient(error) or (not conditional and code_of(error) in _CONDITIONS)):
                    if isinstance(error, HttpResponseError):
                        raise
                    raise translate(error, self.options.where) from error
                if time.monotonic() + pause_s > until:
                    raise translate(error, self.options.where) from error
            except (OSError, TimeoutError, ClientError) as error:  # what the SDK lets through of its transport
                self.operations["unanswered"] += 1
                if time.monotonic() + pause_s > until:
                    raise StoreUnavailableError(f"{self.options.where} cannot be reached ({type(error).__name__}: {error})") from error
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)


_ABSENT = MatchConditions.IfMissing
_CONDITIONS = frozenset(
    {"BlobAlreadyExists", "ConditionNotMet", "AppendPositionConditionNotMet", "MaxBlobSizeConditionNotMet", "TargetConditionNotMet"}
)


def _body(data: bytes) -> bytes | BytesIO:
    """Large ones as a stream, which aiohttp sends in pieces; a new one for each attempt."""
    return BytesIO(data) if len(data) > _STREAMED_BYTES else data


def _default_credential(where: str) -> Any:
    try:
        from azure.identity.aio import DefaultAzureCredential  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        options = "connection_string, sas or key (or AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY)"
        raise StoreUrlError(f"{where} needs a credential: give {options}, or install azure-identity") from error
    return DefaultAzureCredential()
