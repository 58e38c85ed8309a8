"""What a URL may name, and what opening says when it does not work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from durable_conformance.driver import ALL, HOUR_US
from durable_core.backend import CreateInstance
from durable_core.errors import (
    EngineStateError,
    StoreError,
    StoreFormatError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreUrlError,
    StoreVersionError,
)
from durable_postgres import migrate, open_backend
from durable_postgres.options import parse_url
from durable_postgres.servers import server_url
from durable_postgres.testing import find_faults

SECRET = "s3cret-Pass/word"


@asynccontextmanager
async def admin(hub_url: str | None = None) -> AsyncIterator[Any]:
    settings = {} if hub_url is None else {"search_path": parse_url(hub_url, {}).hub}
    connection = await asyncpg.connect(server_url(), server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


def changed(url: str, **parts: Any) -> str:
    """The URL with another user, password, host, port or database."""
    old = urlsplit(url)
    given = {"username": old.username, "password": old.password, "hostname": old.hostname, "port": old.port, "path": old.path} | parts
    place = f"{given['username']}:{given['password']}@{given['hostname']}:{given['port']}"
    return old._replace(netloc=place, path=given["path"]).geturl()


async def refusal(url: str, kind: type[Exception], **options: Any) -> Exception:
    backend = open_backend(url, **options)
    with pytest.raises(kind) as caught:
        await backend.open()
    await backend.close()
    return caught.value


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("mysql://u:s3cret@h/db", "not a PostgreSQL store URL: it starts with 'mysql'"),
        ("postgresql://u:s3cret@h:port/db", "cannot be read"),
        ("postgresql://u:s3cret@[h/db", "cannot be read"),
        ("postgresql://u:s3cret@h/db?hub=Big", "hub='Big' cannot name a PostgreSQL schema"),
        ("postgresql://u:s3cret@h/db?hub=pg_hub", "cannot name a PostgreSQL schema"),
        ("postgresql://u:s3cret@h/db?readers=none", "readers='none': give a number from 1 to 64"),
        ("postgresql://u:s3cret@h/db?synchronous_commit=maybe", "choose one of on, off, local"),
    ],
)
def test_a_url_that_cannot_be_read(url: str, hint: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        open_backend(url)
    assert hint in str(caught.value)
    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_option() -> None:
    with pytest.raises(StoreUrlError, match="unknown option colour"):
        open_backend("postgresql://h/db", colour="red")


def test_options_of_ours_and_of_the_driver() -> None:
    options = parse_url("postgres://u:p@h:6/db?hub=orders&sslmode=verify-full&readers=5&synchronous_commit=off", {"readers": 3})
    assert (options.hub, options.readers, options.synchronous_commit) == ("orders", 3, "off")
    assert options.dsn == "postgresql://u:p@h:6/db?sslmode=verify-full"
    assert options.where == "hub 'orders' in database 'db' at h:6"
    assert open_backend("postgres://h/db?synchronous_commit=off").capabilities.durability == "process"


async def test_the_password_is_shown_nowhere(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = changed(url, password=SECRET.replace("/", "%2F"))
    backend = open_backend(wrong)
    error = await refusal(wrong, StoreError, connect_timeout_s=5)
    texts = [repr(backend), repr(backend.__dict__), str(error), repr(error), str(error.__cause__), caplog.text]
    assert "does not accept this user and password" in str(error)
    for text in texts:
        assert SECRET not in text
        assert SECRET.replace("/", "%2F") not in text
    right = open_backend(url)
    await right.open()
    password = str(urlsplit(url).password)
    assert password not in repr(right) + repr(right.__dict__) + caplog.text
    await right.close()


@pytest.mark.parametrize(
    ("change", "kind", "hint"),
    [
        ({"path": "/nosuch"}, StoreError, "there is no such database"),
        ({"username": "nobody"}, StoreError, "does not accept this user"),
        ({"port": 1}, StoreUnavailableError, "the connection was lost"),
    ],
)
async def test_a_server_that_does_not_let_us_in(url: str, change: dict[str, Any], kind: type[StoreError], hint: str) -> None:
    error = await refusal(changed(url, **change), kind)
    assert type(error) is kind
    assert hint in str(error)
    assert error.__cause__ is not None


async def test_a_user_without_privileges(url: str) -> None:
    async with admin() as connection:
        await connection.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'poor'")
        await connection.execute("REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
        error = await refusal(changed(url, username="poor", password="poor"), StoreReadOnlyError)
        assert "lacks a privilege" in str(error)
        backend = open_backend(url)
        await backend.open()
        await backend.close()
        error = await refusal(changed(url, username="poor", password="poor"), StoreError)
        assert not isinstance(error, StoreUnavailableError), "it needs a person"
        await connection.execute("DROP ROLE poor")


async def test_a_user_who_may_only_read(url: str, handle: Any) -> None:
    await handle()
    async with admin() as connection:
        await connection.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader SUPERUSER LOGIN PASSWORD 'reader'")
        await connection.execute("ALTER ROLE reader SET default_transaction_read_only = on")
        error = await refusal(changed(url, username="reader", password="reader"), StoreReadOnlyError)
        assert "read-only by default" in str(error)
        await connection.execute("DROP ROLE reader")


async def test_a_server_that_turns_read_only(handle: Any) -> None:
    backend = await handle()
    async with backend._store.steps.batches.use() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(StoreReadOnlyError, match="takes no writes here") as caught:
        await backend.apply([CreateInstance("i", "e", "orch", b"")])
    assert isinstance(caught.value.__cause__, asyncpg.ReadOnlySQLTransactionError)


async def test_a_server_that_is_too_old(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "SERVER_LEAST", 990000)
    assert "durable-core needs 99 or later" in str(await refusal(url, StoreError))


async def test_several_servers_of_which_one_answers(url: str) -> None:
    parts = urlsplit(url)
    hosts = f"host={parts.hostname},{parts.hostname}&port=1,{parts.port}&target_session_attrs=primary"
    several = parts._replace(netloc=f"{parts.username}:{parts.password}@", query=f"{parts.query}&{hosts}").geturl()
    backend = open_backend(several)
    await backend.open()
    assert (await backend.apply([CreateInstance("i", "e", "orch", b"")]))[0].status.name == "OK"
    await backend.close()


async def test_a_hub_that_is_not_there(url: str) -> None:
    backend = open_backend(url)
    with pytest.raises(StoreFormatError, match="there is no hub"):
        await backend.open(create=False)
    await backend.open()
    with pytest.raises(EngineStateError, match="open already"):
        await backend.open()
    await backend.close()
    await backend.close()
    with pytest.raises(EngineStateError, match="not open"):
        await backend.apply([])
    await backend.open(create=False)
    await backend.close()


async def test_a_schema_of_somebody_else(url: str) -> None:
    hub = parse_url(url, {}).hub
    async with admin() as connection:
        await connection.execute(f"CREATE SCHEMA {hub}; CREATE TABLE {hub}.customers (id integer)")
    assert "is somebody else's" in str(await refusal(url, StoreFormatError))


async def test_a_newer_version_stops_whoever_opens_and_whoever_works(url: str, handle: Any) -> None:
    backend = await handle()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    async with admin(url) as connection:
        await connection.execute("UPDATE hub SET version = version + 1")
    hint = f"has schema version {migrate.SCHEMA_VERSION + 1}, this durable-core knows versions up to {migrate.SCHEMA_VERSION}"
    assert hint in str(await refusal(url, StoreVersionError))
    calls: list[Callable[[], Any]] = [
        lambda: backend.apply([CreateInstance("i", "e", "orch", b"")]),
        lambda: backend.claim("w", claim_id="c", turns=1, tasks=1, selectors=ALL),
        lambda: backend.heartbeat("w", ttl_us=HOUR_US),
    ]
    for call in calls:
        with pytest.raises(StoreVersionError):
            await call()


async def test_many_make_the_hub_at_once(url: str) -> None:
    backends = [open_backend(url) for _ in range(6)]
    await asyncio.gather(*(backend.open() for backend in backends))
    outcomes = await asyncio.gather(*(backend.apply([CreateInstance(f"i{n}", "e", "orch", b"")]) for n, backend in enumerate(backends)))
    assert {outcome.status.name for (outcome,) in outcomes} == {"OK"}
    for backend in backends:
        await backend.close()
    assert await find_faults(url) == []


async def test_a_migration_waits_for_workers_and_they_for_it(url: str, handle: Any) -> None:
    """What a migration does: take the version's lock, change a table, count up, all in one transaction, while somebody works."""
    backend = await handle()
    await backend.heartbeat("w", ttl_us=HOUR_US)
    done = asyncio.Event()

    async def work() -> int:
        number = 0
        while not done.is_set():
            number += 1
            await backend.apply([CreateInstance(f"i{number}", f"e{number}", "orch", b"")])
        return number

    working = asyncio.create_task(work())
    async with admin(url) as connection, connection.transaction():
        await connection.execute("ALTER TABLE instance ADD COLUMN colour text; CREATE INDEX instance_by_colour ON instance (colour)")
    done.set()
    number = await working
    assert None not in await backend.get_instances([f"i{n}" for n in range(1, number + 1)])
    assert await find_faults(url) == []


async def test_two_hubs_in_one_database_know_nothing_of_each_other(url: str, handle: Any) -> None:
    mine, theirs = await handle(), await handle(url=url + "_two")
    try:
        await mine.heartbeat("w", ttl_us=HOUR_US)
        await theirs.heartbeat("w", ttl_us=HOUR_US)
        await mine.apply([CreateInstance("i", "e", "orch", b"")])
        assert await theirs.get_instances(["i"]) == [None]
        claim = await theirs.claim("w", claim_id="c", turns=1, tasks=1, selectors=ALL)
        assert claim.turns == ()
    finally:
        await theirs.close()
        async with admin() as connection:
            await connection.execute(f"DROP SCHEMA {parse_url(url, {}).hub}_two CASCADE")
