"""What a store URL says: which file, and how to treat it.

    sqlite:///orders.db                      relative to the working directory
    sqlite:////var/lib/app/orders.db         absolute (four slashes)
    sqlite:///:memory:                       in memory, for one handle; gone when it is closed
    sqlite:///orders.db?synchronous=normal   faster, but the last commits may be lost in a power failure

Options may also be keyword arguments of ``open_backend``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote

from attrs import frozen

from durable_core.errors import StoreUrlError

__all__ = ["MEMORY", "SqliteOptions", "parse_url"]

MEMORY = ":memory:"
_PREFIX = "sqlite:///"
_EXAMPLE = 'write "sqlite:///orders.db" (relative), "sqlite:////var/lib/orders.db" (absolute) or "sqlite:///:memory:"'

Synchronous = Literal["full", "normal"]


@frozen
class SqliteOptions:
    """``path`` None is a store in memory.

    ``synchronous``: "full" syncs every commit to the disk; "normal" syncs at checkpoints only: what was committed survives a
    killed process, but not a power failure. ``readers``: connections (and threads) for reads. ``lock_wait_s``: how long a write
    waits for the writers of other processes before it is ``StoreUnavailableError``. ``clock_us``: the wall clock, and
    ``monotonic_us``: the time that has passed, for tests (beside another wall clock the system's does not count).
    """

    path: Path | None
    synchronous: Synchronous = "full"
    readers: int = 2
    lock_wait_s: float = 30.0
    clock_us: Callable[[], int] | None = None
    monotonic_us: Callable[[], int] | None = None


def parse_url(url: str, options: Mapping[str, object]) -> SqliteOptions:
    """The URL's own options, overridden by ``options``. Raises ``StoreUrlError``."""
    if not url.startswith(_PREFIX):
        raise StoreUrlError(f"not an SQLite store URL: {url!r}; {_EXAMPLE}")
    location, _, query = url[len(_PREFIX) :].partition("?")
    location = unquote(location)
    if not location:
        raise StoreUrlError(f"{url!r} names no file; {_EXAMPLE}")
    if "\0" in location:
        raise StoreUrlError(f"a file name cannot contain a NUL character: {url!r}")
    given: dict[str, object] = {**_query_options(url, query), **options}
    unknown = sorted(given.keys() - {"synchronous", "readers", "lock_wait_s", "clock_us", "monotonic_us"})
    if unknown:
        raise StoreUrlError(
            f"unknown option {', '.join(unknown)} in {url!r}; known are synchronous=full|normal, readers=N and lock_wait_s=SECONDS"
        )
    return SqliteOptions(
        # Resolved now: the working directory may change, and whatever name a process uses, the lock files beside the file are the same.
        path=None if location == MEMORY else Path(os.path.realpath(location)),
        synchronous=_synchronous(given.get("synchronous", "full")),
        readers=int(_number(given.get("readers", 2), "readers", 1, 64)),
        lock_wait_s=_number(given.get("lock_wait_s", 30.0), "lock_wait_s", 0, 3600),
        clock_us=cast("Callable[[], int] | None", given.get("clock_us")),
        monotonic_us=cast("Callable[[], int] | None", given.get("monotonic_us")),
    )


def _query_options(url: str, query: str) -> dict[str, object]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise StoreUrlError(f"cannot read the options of {url!r}: write ?name=value&name=value") from error
    # A clock is a Python function: it cannot come out of a URL.
    return {f"{name} in a URL" if name in ("clock_us", "monotonic_us") else name: value for name, value in pairs}


def _synchronous(value: object) -> Synchronous:
    text = str(value).lower()
    if text not in ("full", "normal"):
        raise StoreUrlError(
            f'synchronous={value!r}: choose "full" (survives a power failure; the default) or "normal" (survives a killed process)'
        )
    return cast("Synchronous", text)


def _number(value: object, name: str, least: float, most: float) -> float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise StoreUrlError(f"{name}={value!r} is not a number") from error
    if not least <= number <= most:
        raise StoreUrlError(f"{name}={value!r} is out of range: {least} to {most}")
    return number
