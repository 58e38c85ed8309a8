"""A proxy breaks requests: whatever is lost, refused or half answered, nothing is lost, nothing happens twice, nothing is skipped."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from durable_azure import AzureBackend
from durable_azure.manifest import load
from durable_azure.proxy import Answered, Fate, Lost, Proxy, Request
from durable_conformance.driver import ALL, HOUR_US, ended
from durable_core.backend import CommitTurn, CompleteTask, CreateInstance, HistoryRange, InstanceStatus, Message, NewTask, OutcomeStatus
from durable_core.errors import StoreError, StoreFormatError, StoreUnavailableError

T = TypeVar("T")
OK, AGAIN, FENCED = OutcomeStatus.OK, OutcomeStatus.ALREADY_APPLIED, OutcomeStatus.FENCED

FATES: dict[str, Fate] = {
    "request lost": Lost.REQUEST,
    "answer lost": Lost.ANSWER,
    "half an answer": Lost.HALF_AN_ANSWER,
    "503": Answered(503, "ServerBusy"),
    "503, done": Answered(503, "ServerBusy", done=True),
    "500": Answered(500, "InternalError"),
    "500, done": Answered(500, "OperationTimedOut", done=True),
    "429": Answered(429),
    "409": Answered(409, "BlobAlreadyExists"),
    "409, done": Answered(409, "BlobAlreadyExists", done=True),
    "412": Answered(412, "AppendPositionConditionNotMet"),
    "412, done": Answered(412, "AppendPositionConditionNotMet", done=True),
    "412, another": Answered(412, "ConditionNotMet"),
}


async def until_it_works(call: Callable[[], Awaitable[T]]) -> T:
    for _ in range(20):
        try:
            return await call()
        except StoreError:
            await asyncio.sleep(0.01)
    raise AssertionError("it never works")


async def scenario(backend: AzureBackend) -> None:
    """An instance from its start to its end, with a task, a message to another one and back; every call is repeated until it is answered."""

    async def apply(*commands: Any) -> list[Any]:
        outcomes = await until_it_works(lambda: backend.apply(commands))
        assert all(outcome.status in (OK, AGAIN) for outcome in outcomes), outcomes
        return outcomes

    await until_it_works(lambda: backend.heartbeat("w", ttl_us=HOUR_US))
    await apply(*(CreateInstance(id, f"e{id}", "orch", bytes(4_000), f"r{id}") for id in "ab"))
    claim = await until_it_works(lambda: backend.claim("w", claim_id="c", turns=10, tasks=0, selectors=ALL))
    turns = {turn.instance: turn for turn in claim.turns}
    assert turns.keys() == {"a", "b"}

    def turn(id: str, version: int, **fields: Any) -> CommitTurn:
        given: dict[str, Any] = {"append": b"[%d]" % version, "append_count": 1, "hold_us": HOUR_US}
        return CommitTurn(id, turns[id].execution, turns[id].epoch, version, "w", f"k{id}-{version}", **(given | fields))

    task = NewTask("t", "act", b"in", claim=True)
    await apply(turn("a", 0, tasks=(task,), messages=(Message("m", "b", b"hello"),)), turn("b", 0))
    await apply(turn("b", 1, consumes=("m",), messages=(Message("n", "a", b"hello yourself"),)))
    await until_it_works(lambda: backend.apply([CompleteTask("t", Message("t", "a", b"out", execution=turns["a"].execution))]))
    (outcome,) = await apply(turn("a", 1, append=None, append_count=0))
    assert sorted(message.id for message in outcome.messages) == ["n", "t"]
    await apply(turn("a", 2, consumes=("n", "t"), record=ended(), hold_us=0), turn("b", 2, record=ended(), hold_us=0))


async def check(backend: AzureBackend) -> None:
    records = await until_it_works(lambda: backend.get_instances(["a", "b"]))
    assert [(record.status, record.version, record.attempt) for record in records if record] == [(InstanceStatus.COMPLETED, 3, 0)] * 2
    pages = await until_it_works(lambda: backend.read_history([HistoryRange("a"), HistoryRange("b")]))
    assert [[row.payload for row in page.rows] for page in pages] == [[b"[0]", b"[2]"], [b"[0]", b"[1]", b"[2]"]]


def every_third(fate: Fate) -> Callable[[Request], Fate]:
    """Of each operation, beginning with the first request. (Every other one would break a call of two requests for ever.)"""
    seen: Counter[str] = Counter()

    def rule(request: Request) -> Fate:
        seen[request.operation] += 1
        return fate if seen[request.operation] % 3 == 1 else None

    return rule


@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
async def test_every_third_request_is_broken(handle: Any, proxy: Proxy, fate: Fate) -> None:
    """From the making of the hub on, with logs so short that they end all the time."""
    proxy.rule = every_third(fate)
    options = {"endpoint": proxy.endpoint, "roll_bytes": 3_000}
    backend = await until_it_works(lambda: handle(**options))
    await scenario(backend)
    await check(backend)
    assert proxy.broken.keys() >= {"append", "read", "ask", "put", "create log", "create container", "list"}
    assert min(proxy.broken["append"], proxy.broken["read"]) > 1
    blobs = await handle.blobs()
    async with asyncio.timeout(20):  # the log has begun anew
        while (await load(blobs))[0].snapshot is None:
            await check(backend)
    await check(await handle())


@pytest.mark.parametrize("seed", range(3))
async def test_two_handles_on_a_bad_network(handle: Any, seed: int) -> None:
    """Both work on everything, each behind a proxy of its own; what both do at once counts once."""
    dice = random.Random(seed)
    fates = [*FATES.values()]

    def rule(request: Request) -> Fate:
        return dice.choice(fates) if request.operation in ("append", "read") and dice.random() < 0.3 else None

    proxies = [await handle.proxy() for _ in range(2)]
    handles = [await handle(endpoint=proxy.endpoint, roll_bytes=3_000) for proxy in proxies]
    for proxy in proxies:
        proxy.rule = rule

    async def create(backend: AzureBackend, number: int) -> OutcomeStatus:
        command = CreateInstance(f"i{number}", f"e{number}", "orch", b"", f"r{number}")
        (outcome,) = await until_it_works(lambda: backend.apply([command]))
        return outcome.status

    for number in range(15):
        answers = await asyncio.gather(*(create(backend, number) for backend in handles))
        assert set(answers) <= {OK, AGAIN}
    assert sum(proxy.broken.total() for proxy in proxies) > 5
    witness = await handle()
    assert all(record is not None and record.version == 0 for record in await witness.get_instances([f"i{n}" for n in range(15)]))


@pytest.mark.parametrize("fate", [None, Lost.ANSWER, Answered(503, done=True)], ids=["healthy", "answer lost", "503, done"])
async def test_two_that_both_believe_they_own_an_instance(handle: Any, fate: Fate) -> None:
    """The first one was given up while it slept. Both commit at the same moment: one counts, and it is the one that owns it."""
    now_us = 1_700_000_000_000_000
    proxies = [await handle.proxy() for _ in range(2)]
    first, second = [await handle(endpoint=proxy.endpoint, clock_us=lambda: now_us) for proxy in proxies]
    await first.heartbeat("first", ttl_us=15_000_000)
    await first.apply([CreateInstance("i", "e", "orch", b"", "r")])
    (mine,) = (await first.claim("first", claim_id="1", turns=1, tasks=0, selectors=ALL)).turns
    for _ in range(6):
        now_us += 6_000_000
        await second.heartbeat("second", ttl_us=15_000_000)
    (theirs,) = (await second.claim("second", claim_id="2", turns=1, tasks=0, selectors=ALL)).turns
    for proxy in proxies:
        proxy.rule = every_third(fate)

    def commit(turn: Any, worker: str) -> CommitTurn:
        return CommitTurn("i", "e", turn.epoch, turn.version, worker, worker, append=worker.encode(), append_count=1)

    (late,), (in_time,) = await asyncio.gather(first.apply([commit(mine, "first")]), second.apply([commit(theirs, "second")]))
    assert (late.status, in_time.status) == (FENCED, OK)
    (page,) = await first.read_history([HistoryRange("i")])
    assert [row.payload for row in page.rows] == [b"second"]
    assert not (await first.heartbeat("first", ttl_us=15_000_000)).alive


async def test_what_was_read_half_way_is_read_again(handle: Any, proxy: Proxy) -> None:
    """The log names a body beside it, which cannot be read for some time."""
    reader, writer = await handle(endpoint=proxy.endpoint, patience_s=0), await handle()
    await writer.apply([CreateInstance("small", "e1", "orch", b"", "r1")])
    await writer.apply([CreateInstance("large", "e2", "orch", bytes(5 << 20), "r2")])
    proxy.rule = lambda request: Answered(503, "ServerBusy") if "/body/" in request.url else None
    with pytest.raises(StoreUnavailableError):
        await reader.get_instances(["small"])
    proxy.rule = lambda _request: None
    found = await reader.get_instances(["small", "large"])
    assert [record and record.instance for record in found] == ["small", "large"]


async def test_a_storm_of_503_is_outlasted(handle: Any, proxy: Proxy) -> None:
    backend = await handle(endpoint=proxy.endpoint)
    proxy.rule = lambda _request: Answered(503, "ServerBusy")
    calm = asyncio.get_running_loop().call_later(2, lambda: setattr(proxy, "rule", lambda _request: None))
    await scenario(backend)
    assert calm.when() <= asyncio.get_running_loop().time()
    assert proxy.broken["read"] + proxy.broken["append"] < 20, "it waits longer and longer"
    await check(backend)


async def test_silence_is_not_waited_for_for_ever(handle: Any, proxy: Proxy) -> None:
    backend = await handle(endpoint=proxy.endpoint)
    proxy.rule = every_third(Lost.SILENCE)
    async with asyncio.timeout(20):
        await backend.apply([CreateInstance("i", "e", "orch", b"", "r")])
    assert proxy.broken["append"] == 1


async def test_an_account_with_a_hierarchical_namespace_is_refused(handle: Any, proxy: Proxy) -> None:
    answer = Answered(200, headers=(("x-ms-is-hns-enabled", "true"), ("x-ms-sku-name", "Standard_LRS"), ("x-ms-account-kind", "StorageV2")))
    proxy.rule = lambda request: answer if "comp=properties" in request.url and "restype=account" in request.url else None
    with pytest.raises(StoreFormatError, match=r"hierarchical namespace.*Use a storage account without it"):
        await handle(endpoint=proxy.endpoint)
    assert proxy.broken["ask"] == 1


async def test_soft_delete_is_warned_of(handle: Any, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    body = b"<?xml version='1.0'?><StorageServiceProperties><DeleteRetentionPolicy><Enabled>%s</Enabled><Days>7</Days></DeleteRetentionPolicy></StorageServiceProperties>"
    for enabled in (b"false", b"true"):
        answer = Answered(200, body=body % enabled)
        proxy.rule = lambda request, answer=answer: answer if "restype=service" in request.url else None  # type: ignore[misc]
        await handle(endpoint=proxy.endpoint)
        warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert [("soft delete is on" in text, "Keep that time short" in text) for text in warnings] == [(True, True)] * (enabled == b"true")


async def test_that_a_blob_is_there_already_has_to_be_true(handle: Any, proxy: Proxy) -> None:
    await handle()
    blobs = await handle.blobs(endpoint=proxy.endpoint)
    lies = iter([Answered(409, "BlobAlreadyExists")])
    proxy.rule = lambda request: next(lies, None) if request.operation == "put" else None
    await blobs.put_new("snapshot/one", b"data")
    assert (await blobs.get("snapshot/one")).data == b"data"
    with pytest.raises(StoreError, match="contradict each other"):
        await blobs.put_new("snapshot/one", b"other data")


async def test_a_log_is_not_ended_before_the_next_one_is_there(handle: Any, proxy: Proxy) -> None:
    backend = await handle(endpoint=proxy.endpoint, roll_bytes=1_000)
    proxy.rule = lambda request: Answered(409, "BlobAlreadyExists") if request.operation == "create log" else None
    await scenario(backend)
    assert proxy.broken["create log"] > 1
    await check(await handle())
    proxy.rule = lambda _request: None
    await check(backend)
    async with asyncio.timeout(10):
        while (await load(await handle.blobs()))[0].log == 1:
            await check(backend)
