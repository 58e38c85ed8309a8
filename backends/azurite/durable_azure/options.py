"""What a store URL says: which container, at which endpoint, with which credential.

    azure://account/container            the credential is an option, or comes from the environment:
        connection_string | AZURE_STORAGE_CONNECTION_STRING     (the account must be the same one)
        sas               | AZURE_STORAGE_SAS_TOKEN
        key               | AZURE_STORAGE_KEY
        otherwise DefaultAzureCredential, if azure-identity is installed
    azurite://container                  the emulator: ``endpoint`` or AZURITE_BLOB_ENDPOINT, else 127.0.0.1:10000

Options stand in the URL's query or are keyword arguments. No message, no ``repr`` shows a credential, nor a URL that may hold one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import parse_qsl

from attrs import field, frozen

from durable_core.errors import StoreUrlError

__all__ = ["AzureOptions", "parse_emulator_url", "parse_url"]

_EMULATOR_ACCOUNT = "devstoreaccount1"
_EMULATOR_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # the same for everybody, documented
)
_EMULATOR_ENDPOINT = f"http://127.0.0.1:10000/{_EMULATOR_ACCOUNT}"
_API_VERSION = "2025-11-05"
_KNOWN = frozenset(
    {
        "connection_string",
        "sas",
        "key",
        "endpoint",
        "roll_bytes",
        "poll_s",
        "commit_every_s",
        "idle_ttl_s",
        "patience_s",
        "api_version",
        "clock_us",
        "monotonic_us",
    }
)
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")


@frozen
class AzureOptions:
    """``where``: what messages call the store. One of ``connection_string``, ``sas``, ``key``, or None of them.

    ``roll_bytes``: how long the log grows before it begins anew with a snapshot (also: how much is read to open a store). ``poll_s``: how long
    an idle handle waits at most between two looks for what others did. ``commit_every_s``: how long a
    handle waits at least between two appends (0: as fast as the service takes them, the dearest). ``idle_ttl_s``: for how long a worker that has nothing in its hands is
    registered at once (``quiet.py``; 0: never for longer than it asks). ``patience_s``: how long a call is tried again before it is
    ``StoreUnavailableError``. ``clock_us``: instead of the service's clock, and
    ``monotonic_us``: the time that has passed by it, for tests.
    """

    where: str
    endpoint: str
    container: str
    connection_string: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    roll_bytes: int = 16 << 20
    poll_s: float = 0.65
    commit_every_s: float = 0.0
    idle_ttl_s: float = 300.0
    patience_s: float = 15.0
    api_version: str = _API_VERSION
    clock_us: Callable[[], int] | None = None
    monotonic_us: Callable[[], int] | None = None


def parse_url(url: str, options: Mapping[str, object]) -> AzureOptions:
    """``azure://account/container``. Raises ``StoreUrlError``."""
    location, given = _split("azure://", "azure://account/container", url, options)
    account, _, container = location.partition("/")
    if not _ACCOUNT.fullmatch(account):
        raise StoreUrlError(f"azure://{location} names no storage account (3 to 24 letters and digits): write azure://account/container")
    credentials = {
        "connection_string": given.pop("connection_string", None) or os.environ.get("AZURE_STORAGE_CONNECTION_STRING"),
        "sas": given.pop("sas", None) or os.environ.get("AZURE_STORAGE_SAS_TOKEN"),
        "key": given.pop("key", None) or os.environ.get("AZURE_STORAGE_KEY"),
    }
    chosen = next(({name: str(value)} for name, value in credentials.items() if value), {})
    if "connection_string" in chosen and f"accountname={account};" not in chosen["connection_string"].lower() + ";":
        raise StoreUrlError(f"the connection string is for another account than {account!r}: correct one of them")
    endpoint = str(given.pop("endpoint", f"https://{account}.blob.core.windows.net"))
    return _options(f"azure://{account}/{container}", endpoint, container, given, chosen)


def parse_emulator_url(url: str, options: Mapping[str, object]) -> AzureOptions:
    """``azurite://container``. Raises ``StoreUrlError``."""
    container, given = _split("azurite://", "azurite://container", url, options)
    endpoint = str(given.pop("endpoint", None) or os.environ.get("AZURITE_BLOB_ENDPOINT") or _EMULATOR_ENDPOINT)
    credentials = {"sas": str(given.pop("sas"))} if "sas" in given else {"key": str(given.pop("key", _EMULATOR_KEY))}
    return _options(f"azurite://{container}", endpoint, container, given, credentials)


def _split(scheme: str, example: str, url: str, options: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    location, _, query = url.removeprefix(scheme).partition("?")
    if not url.startswith(scheme) or not location:
        raise StoreUrlError(f"{scheme}{location} is not the URL of a store: write {example}")
    # A "+" in a key or signature is one, and not a space.
    pairs: dict[str, object] = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    given = {(f"{name} in a URL" if name in ("clock_us", "monotonic_us") else name): value for name, value in pairs.items()} | dict(options)
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        known = ", ".join(sorted(_KNOWN - {"clock_us", "monotonic_us"}))
        raise StoreUrlError(f"unknown option {', '.join(unknown)} of {scheme}{location}; known are {known} (write a SAS token's & as %26)")
    return location, given


def _options(where: str, endpoint: str, container: str, given: dict[str, object], credentials: dict[str, str]) -> AzureOptions:
    if not _CONTAINER.fullmatch(container):
        raise StoreUrlError(f"{container!r} cannot be a container's name: 3 to 63 lower-case letters, digits and single hyphens")
    return AzureOptions(
        where=where,
        endpoint=endpoint,
        container=container,
        roll_bytes=int(_number(given.get("roll_bytes", 16 << 20), "roll_bytes", 1_000, 1 << 30)),
        poll_s=_number(given.get("poll_s", 0.65), "poll_s", 0.01, 60),
        commit_every_s=_number(given.get("commit_every_s", 0.0), "commit_every_s", 0, 5),
        idle_ttl_s=_number(given.get("idle_ttl_s", 300.0), "idle_ttl_s", 0, 3_600),
        patience_s=_number(given.get("patience_s", 15.0), "patience_s", 0, 3600),
        api_version=str(given.get("api_version", _API_VERSION)),
        clock_us=cast("Callable[[], int] | None", given.get("clock_us")),
        monotonic_us=cast("Callable[[], int] | None", given.get("monotonic_us")),
        **credentials,
    )


def _number(value: object, name: str, least: float, most: float) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise StoreUrlError(f"{name}={value!r} is not a number") from error
    if not least <= number <= most:
        raise StoreUrlError(f"{name}={value!r} is out of range: {least} to {most}")
    return number
