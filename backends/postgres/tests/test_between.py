"""What may stand between a handle and its server: a pooler, TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from durable_conformance.driver import ALL, HOUR_US
from durable_core import DurableEngine, OrchestrationContext
from durable_core.backend import CreateInstance
from durable_core.errors import StoreError, StoreUnavailableError, StoreUrlError
from durable_postgres import open_backend
from durable_postgres.servers import Server, free_port, unprivileged

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pooled = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)")


# ── a pooler ─────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def pgbouncer(url: str, folder: Path, mode: str, settings: str = "") -> AsyncIterator[str]:
    """The URL of the same hub by way of the pooler."""
    server, port = urlsplit(url), free_port()
    target = f"host={server.hostname} port={server.port} user={server.username} password={server.password}"
    configuration = folder / f"{mode}.ini"
    configuration.write_text(
        f"[databases]\n{server.path[1:]} = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\n{settings}\n"
    )
    configuration.chmod(0o644)
    assert PGBOUNCER is not None
    pooler = await asyncio.create_subprocess_exec(
        PGBOUNCER, "-q", str(configuration), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **unprivileged()
    )
    try:
        yield server._replace(netloc=f"{server.username}:anything@127.0.0.1:{port}").geturl()
    finally:
        pooler.kill()
        await pooler.wait()


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A folder into which everybody may look."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


async def open_patiently(url: str, **options: Any) -> Any:
    """The pooler has just been started."""
    while True:
        backend = open_backend(url, **options)
        try:
            await backend.open()
            return backend
        except StoreUnavailableError:
            await asyncio.sleep(0.05)


@pooled
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_keeps_no_session_is_refused(url: str, readable: Path, mode: str) -> None:
    async with pgbouncer(url, readable, mode) as pooled_url:
        with pytest.raises(StoreUrlError, match="put it into session mode, or pass it by") as caught:
            await open_patiently(pooled_url)
    assert "anything" not in str(caught.value)


@pooled
async def test_a_busy_pooler_that_keeps_no_session_is_refused_too(url: str, readable: Path) -> None:
    """Others use it at the same time, so that we do not get the same process every time."""
    async with pgbouncer(url, readable, "transaction", "server_round_robin = 1\nmin_pool_size = 3") as pooled_url:
        for _ in range(3):
            with pytest.raises(StoreUrlError, match="session mode"):
                await open_patiently(pooled_url)


@pooled
async def test_a_pooler_in_session_mode_will_do(url: str, readable: Path) -> None:
    """Locks, hints and settings are those of a session of our own."""
    engine = DurableEngine()

    @engine.activity
    async def double(value: int) -> int:
        return value * 2

    @engine.orchestrator
    async def twice(ctx: OrchestrationContext, value: int) -> int:
        return await ctx.call_activity(double, await ctx.call_activity(double, value))

    async with pgbouncer(url, readable, "session") as pooled_url:
        backend = await open_patiently(pooled_url)
        async with backend._store.steps.batches.use() as connection:
            assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        await backend.heartbeat("w", ttl_us=HOUR_US)
        direct = open_backend(url)
        await direct.open()
        await direct.heartbeat("heir", ttl_us=HOUR_US)
        await backend.apply([CreateInstance("i", "e", "orch", b"", worker="w")])
        claim = await direct.claim("heir", claim_id="1", turns=5, tasks=5, selectors=ALL)
        assert claim.turns == (), "its session lives"
        await backend.close()
        while not claim.turns:
            claim = await direct.claim("heir", claim_id="1", turns=5, tasks=5, selectors=ALL)
        await direct.close()
        async with engine.open(pooled_url):
            handle = await engine.client.schedule_new_orchestration(twice, 5)
            assert await handle.result() == 20


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_certificate(folder: Path, name: str) -> None:
    """``name``.crt and ``name``.key: signed by itself, for the loopback address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def tls_server() -> Iterator[Server]:
    """It takes nobody without TLS."""
    server = Server("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
    try:
        make_certificate(server.data, "server")
        make_certificate(server.folder, "somebody-else")
        access = server.data / "pg_hba.conf"
        access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        server.own(server.data)
        server.start()
        yield server
    finally:
        server.destroy()


async def test_tls_with_a_certificate_that_is_checked(tls_server: Server) -> None:
    backend = open_backend(f"{tls_server.url}?sslmode=verify-full&sslrootcert={tls_server.data / 'server.crt'}")
    await backend.open()
    async with backend._store.steps.batches.use() as connection:
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await backend.close()


async def test_tls_from_the_environment(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the password, which then stands in no URL."""
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    monkeypatch.setenv("PGSSLROOTCERT", str(tls_server.data / "server.crt"))
    monkeypatch.setenv("PGPASSWORD", tls_server.password)
    backend = open_backend(f"postgresql://tester@127.0.0.1:{tls_server.port}/postgres")
    await backend.open()
    await backend.close()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("?sslmode=verify-full&sslrootcert={folder}/somebody-else.crt", "certificate is not accepted: look at sslmode and sslrootcert"),
        ("?sslmode=disable", "no encryption"),
    ],
)
async def test_tls_that_does_not_fit_needs_a_person(tls_server: Server, options: str, hint: str) -> None:
    with pytest.raises(StoreError, match=hint) as caught:
        await open_backend(tls_server.url + options.format(folder=tls_server.folder)).open()
    assert not isinstance(caught.value, StoreUnavailableError)
    assert tls_server.password not in str(caught.value)


async def test_a_server_without_tls_is_refused_where_it_is_asked_for(url: str) -> None:
    with pytest.raises(StoreError, match="the server has no TLS") as caught:
        await open_backend(url + "&sslmode=require").open()
    assert not isinstance(caught.value, StoreUnavailableError)
