"""What a store URL says: which server and database, which hub in it, and how to treat it.

    postgresql://user@host:5432/database                       password from PGPASSWORD, PGPASSFILE or ~/.pgpass
    postgresql://user:password@host/database?hub=orders        a hub of its own: the PostgreSQL schema "orders" (default: "durable")
    postgresql://user@host/database?sslmode=verify-full&sslrootcert=/etc/ca.pem
    postgresql:///database?host=/run/postgresql                through a socket

Options of ours may also be keyword arguments of ``open_backend``; all others are libpq's and the driver's (``PG…`` variables count, too).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, cast, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from attrs import field, frozen

from durable_core.errors import StoreUrlError

__all__ = ["PostgresOptions", "parse_url"]

SynchronousCommit = Literal["on", "off", "local", "remote_write", "remote_apply"]
_OURS = ("hub", "readers", "synchronous_commit", "connect_timeout_s", "command_timeout_s", "death_grace_s")
_EXAMPLE = 'write "postgresql://user@host:5432/database", with the password in PGPASSWORD or ~/.pgpass'
_HUB = re.compile(r"[a-z_][a-z0-9_]{0,39}")


@frozen
class PostgresOptions:
    """``dsn`` may hold a password: it is shown nowhere; ``where`` names the store in messages.

    ``hub``: the PostgreSQL schema. ``synchronous_commit``: as the server's setting. ``readers``: connections for reads.
    ``death_grace_s``: how long an incarnation's lock must have been free before it counts as dead: time to reconnect.
    ``clock_us``: a clock instead of the server's, and ``monotonic_us`` the time that has passed by it, for tests.
    """

    dsn: str = field(repr=False)
    where: str
    hub: str = "durable"
    readers: int = 2
    synchronous_commit: SynchronousCommit = "on"
    connect_timeout_s: float = 10.0
    command_timeout_s: float = 60.0
    death_grace_s: float = 0.15
    clock_us: Callable[[], int] | None = None
    monotonic_us: Callable[[], int] | None = None


def parse_url(url: str, options: Mapping[str, object]) -> PostgresOptions:
    """The URL's own options, overridden by ``options``. Raises ``StoreUrlError``, whose text never holds the password."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        # No cause: the driver's and the library's texts quote parts of the URL.
        raise StoreUrlError(f"this PostgreSQL store URL cannot be read; {_EXAMPLE}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise StoreUrlError(f"not a PostgreSQL store URL: it starts with {parts.scheme!r}; {_EXAMPLE}")
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True))
    given: dict[str, object] = {name: pairs.pop(name) for name in _OURS if name in pairs}
    unknown = sorted(options.keys() - {*_OURS, "clock_us", "monotonic_us"})
    if unknown:
        raise StoreUrlError(f"unknown option {', '.join(unknown)}; known are {', '.join(_OURS)}")
    given |= options
    hub = str(given.get("hub", "durable"))
    if not _HUB.fullmatch(hub) or hub.startswith("pg_"):
        raise StoreUrlError(f"hub={hub!r} cannot name a PostgreSQL schema: use lower-case letters, digits and _ (at most 40)")
    place = pairs.get("host", host or "localhost") + (f":{port}" if port else "")
    return PostgresOptions(
        dsn=parts._replace(scheme="postgresql", query=urlencode(pairs)).geturl(),
        where=f"hub {hub!r} in database {_database(parts)!r} at {place}",
        hub=hub,
        readers=int(_number(given, "readers", 2, 1, 64)),
        synchronous_commit=_synchronous_commit(given.get("synchronous_commit", "on")),
        connect_timeout_s=_number(given, "connect_timeout_s", 10.0, 0.1, 600),
        command_timeout_s=_number(given, "command_timeout_s", 60.0, 1, 3600),
        death_grace_s=_number(given, "death_grace_s", 0.15, 0, 60),
        clock_us=cast("Callable[[], int] | None", given.get("clock_us")),
        monotonic_us=cast("Callable[[], int] | None", given.get("monotonic_us")),
    )


def _database(parts: SplitResult) -> str:
    return unquote(parts.path.lstrip("/")) or "(the user's)"


def _synchronous_commit(value: object) -> SynchronousCommit:
    if value not in get_args(SynchronousCommit):
        raise StoreUrlError(f"synchronous_commit={value!r}: choose one of {', '.join(get_args(SynchronousCommit))}")
    return cast("SynchronousCommit", value)


def _number(given: Mapping[str, object], name: str, default: float, least: float, most: float) -> float:
    text = str(given.get(name, default))
    number = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else -1.0
    if not least <= number <= most:
        raise StoreUrlError(f"{name}={text!r}: give a number from {least} to {most}")
    return number
