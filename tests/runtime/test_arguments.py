"""What is wrong is said at the call that is wrong, in the words of the one who calls; what a person would write is taken."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from durable_core import (
    DurableClient,
    DurableEngine,
    EntityId,
    InstanceStatus,
    InvalidInstanceIdError,
    NotRegisteredError,
    OrchestrationContext,
    OrchestrationFailedError,
    PayloadError,
    RegistrationError,
    RetryPolicy,
    TaskTimeoutError,
    WorkerOptions,
    activity,
    entity,
    orchestrator,
)
from durable_core.errors import UsageError
from tests.runtime.support import PATIENCE, engine_with

MONTH = timedelta(days=30)


@activity
async def echo(value: Any) -> Any:
    return value


@orchestrator
async def quick(ctx: OrchestrationContext) -> str:
    return "done"


@orchestrator
async def waits(ctx: OrchestrationContext) -> Any:
    return await ctx.wait_for_external_event("go")


@entity
class Counter:
    value: int = 0

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


# ── a while ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_seconds_wherever_a_while_is_asked_for(run, url):
    seen: dict[str, Any] = {}

    @activity(retry=RetryPolicy(first_retry_interval=0.01, max_retry_interval=1, retry_timeout=60, max_number_of_attempts=2), timeout=30)
    async def flaky() -> str:
        seen["tries"] = seen.get("tries", 0) + 1
        if seen["tries"] == 1:
            raise ValueError
        return "ok"

    @activity
    async def slow() -> None:
        await asyncio.sleep(60)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        begun = ctx.current_utc_datetime
        await ctx.create_timer(0.05)
        ctx.entity(Counter, "k").signal_at(0.01, Counter.add, 1)
        ctx.signal_entity(EntityId("counter", "k"), "add", 1, signal_time=0.01)
        late = []
        for call in (ctx.call_activity(slow, timeout=0.05), ctx.wait_for_external_event("never", timeout=0.05)):
            try:
                await call
            except TaskTimeoutError as error:
                late.append(str(error))
        return [
            await ctx.call_activity(flaky),
            await ctx.call_activity(echo, 1, timeout=30),
            late,
            (ctx.current_utc_datetime - begun).total_seconds(),
        ]

    async def main():
        async with engine_with(flaky, slow, echo, root, waits, Counter).open(url) as engine:
            client = engine.client
            await client.signal_entity(EntityId("counter", "k"), "add", 1, signal_time=0.01)
            handle = await client.schedule_new_orchestration(root, start_at=0.01)
            assert (await client.wait_for_start(handle.id, 20)).instance_id == handle.id
            ok, one, late, took = await handle.result(20)
            assert (ok, one) == ("ok", 1)
            assert late == ["'slow' did not end within 0.05 s", "event 'never' did not end within 0.05 s"]
            assert took >= 0.11, "a timer, a timeout, a delay before the second attempt"
            assert (await client.wait_for_completion(handle.id, 20.0)).runtime_status is InstanceStatus.COMPLETED
            waiting = await client.schedule_new_orchestration(waits)
            with pytest.raises(TimeoutError, match=r"did not end within 0\.01 s"):
                await waiting.result(0.01)
            with pytest.raises(TimeoutError):
                await waiting.result(0)

    run(main)


@pytest.mark.parametrize("wrong", ["5", True, date(2026, 1, 1), [1], float("nan"), float("inf"), 10**30])
def test_what_is_no_while_is_refused_at_the_call(run, wrong):
    refused = (TypeError, ValueError)

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        texts = []
        for call in (
            lambda: ctx.create_timer(wrong),
            lambda: ctx.call_activity(echo, 1, timeout=wrong),
            lambda: ctx.wait_for_external_event("go", timeout=wrong),
            lambda: ctx.entity(Counter, "k").signal_at(wrong, Counter.add, 1),
            lambda: ctx.signal_entity(EntityId("counter", "k"), "add", 1, signal_time=wrong),
        ):
            try:
                call()
            except refused as error:
                texts.append(str(error))
        return texts

    async def main():
        async with engine_with(echo, quick, root, Counter).open("memory://") as engine:
            client = engine.client
            texts = await (await client.schedule_new_orchestration(root)).result(PATIENCE)
            assert len(texts) == 5
            handle = await client.schedule_new_orchestration(quick)
            for call in (handle.result, lambda wrong: client.wait_for_start(handle.id, wrong)):
                with pytest.raises(refused, match="seconds") as error:
                    await call(wrong)
                texts.append(str(error.value))
            for call in (
                lambda: client.schedule_new_orchestration(quick, start_at=wrong),
                lambda: client.signal_entity(EntityId("counter", "k"), "add", 1, signal_time=wrong),
            ):
                with pytest.raises(refused, match="seconds") as error:
                    await call()
                texts.append(str(error.value))
            for text in texts:
                assert repr(wrong) in text
                assert "seconds" in text

    run(main)


@pytest.mark.parametrize("wrong", [0, -1, timedelta(0), -MONTH])
def test_a_timeout_of_a_call_is_above_zero(run, wrong):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(echo, 1, timeout=wrong)

    async def main():
        async with engine_with(echo, root).open("memory://") as engine:
            with pytest.raises(OrchestrationFailedError, match="timeout must be above zero"):
                await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)

    run(main)


# ── decorators ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry": 3}, r"activity 'f': retry must be a RetryPolicy, got 3; write: RetryPolicy\(max_number_of_attempts=3\)"),
        ({"retry": True}, r"write: RetryPolicy\(max_number_of_attempts=3\)"),
        ({"timeout": "5"}, "timeout must be a timedelta or a number of seconds, got '5'"),
        ({"timeout": 0}, "above zero"),
        ({"tags": ["a"]}, "tags must be a dict of texts"),
        ({"tags": {"a": 1}}, "tags must be a dict of texts"),
        ({"tags": {"a": "\udcff"}}, "half a surrogate pair"),
        ({"executor": "fiber"}, "executor must be 'thread' or 'process', got 'fiber'"),
        ({"name": 5}, "the name of an activity must be a text, got 5"),
        ({"name": ""}, "must not be empty"),
        ({"name": "\udcff"}, "half a surrogate pair"),
        (
            {"retries": 3, "max": 1},
            "@activity has no option '(max', 'retries|retries', 'max)'; it has: name, retry, timeout, tags, executor",
        ),
    ],
)
@pytest.mark.parametrize("decorator", [activity, DurableEngine().activity], ids=["free", "engine"])
def test_options_of_an_activity_are_checked_where_they_are_given(decorator, options, says):
    def f() -> None: ...

    with pytest.raises(RegistrationError, match=says):
        decorator(**options)(f)


def test_an_unknown_option_is_refused_before_anything_is_decorated():
    engine = DurableEngine()
    for decorator in (activity, orchestrator, entity, engine.activity, engine.orchestrator, engine.entity):
        with pytest.raises(RegistrationError, match="has no option 'retries'; it has: name"):
            decorator(retries=3)


def test_a_name_by_position_is_refused_with_how_to_write_it():
    engine = DurableEngine()
    decorators = [(activity, "activity"), (orchestrator, "orchestrator"), (entity, "entity")]
    decorators += [(engine.activity, "activity"), (engine.orchestrator, "orchestrator"), (engine.entity, "entity")]
    for decorator, kind in decorators:
        with pytest.raises(RegistrationError, match=rf"write: @{kind}\(name='charge'\)"):
            decorator("charge")
    for decorator in (orchestrator, entity):
        with pytest.raises(UsageError, match=r"must be a text.*got 5"):
            decorator(name=5)(Counter if decorator is entity else lambda ctx: None)


def test_options_of_a_changed_copy_are_checked():
    for options in ({"retry": 3}, {"timeout": "5"}, {"tags": 5}):
        with pytest.raises(TypeError):
            echo.with_options(**options)
    with pytest.raises(InvalidInstanceIdError):
        quick.with_options(instance_id="@counter@k")


def test_tags_may_be_given_at_the_decorator(run):
    @activity(tags={"team": "red"}, timeout=60)
    async def tagged() -> None: ...

    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(tagged)
        await ctx.call_activity(tagged.with_options(tags={"team": "blue"}))

    async def main():
        async with engine_with(tagged, root).open("memory://") as engine:
            handle = await engine.client.schedule_new_orchestration(root)
            await handle.result(PATIENCE)
            history = await engine.client.get_history(handle.id)
            assert [event.tags for event in history if type(event).__name__ == "TaskScheduled"] == [{"team": "red"}, {"team": "blue"}]

    run(main)


# ── policies, options of the worker ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_retry_interval": "1"},
        {"first_retry_interval": True},
        {"max_number_of_attempts": 2.5},
        {"max_number_of_attempts": True},
        {"max_number_of_attempts": "3"},
        {"backoff_coefficient": "2"},
        {"non_retriable": (5,)},
        {"non_retriable": [int]},
        {"handler": 5},
    ],
    ids=str,
)
def test_a_policy_of_wrong_types_is_refused_when_it_is_made(wrong):
    with pytest.raises((TypeError, ValueError)):
        RetryPolicy(**wrong)


def test_one_exception_may_stand_for_a_list_of_one():
    assert RetryPolicy(non_retriable=ValueError).non_retriable == (ValueError,)
    assert RetryPolicy(non_retriable="shop.Declined").non_retriable == ("shop.Declined",)
    assert RetryPolicy(non_retriable=[ValueError, "shop.Declined"]).non_retriable == (ValueError, "shop.Declined")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_attempts": 0}, "max_attempts must be a whole number, at least 1, got 0"),
        ({"activity_threads": 2.0}, "activity_threads must be a whole number"),
        ({"max_cached_instances": True}, "max_cached_instances must be a whole number, at least 0"),
        ({"poll_s": 0}, "poll_s must be above zero"),
        ({"poll_s": "1"}, "must be a timedelta or a number of seconds, got '1'"),
        ({"drain_s": -1}, "drain_s"),
        ({"on_mismatch": "ignore"}, "on_mismatch"),
        ({"heartbeat_s": 20}, r"heartbeat_s \(20\) must be below worker_ttl_s \(15\)"),
    ],
)
def test_options_of_a_worker_that_make_no_sense_are_refused(wrong, says):
    with pytest.raises((TypeError, ValueError), match=says):
        WorkerOptions(**wrong)


def test_times_of_a_worker_may_be_timedeltas():
    assert WorkerOptions(drain_s=timedelta(minutes=1), poll_s=2) == WorkerOptions(drain_s=60, poll_s=2.0)


def test_an_engine_checks_what_it_is_given():
    for wrong, says in (({"url": 5}, "URL"), ({"options": {"max_attempts": 3}}, "WorkerOptions"), ({"converter": 5}, "encode")):
        with pytest.raises(TypeError, match=says):
            DurableEngine(**wrong)


# ── the client ────────────────────────────────────────────────────────────────────────────────────────────────────

IDS = ["", None, 5, b"order-7", "x" * 600, "line\nbreak", "\udcff", "a\0b"]


async def consumed(found: Any) -> list[Any]:
    return [each async for each in found]


@pytest.mark.parametrize("wrong", IDS, ids=repr)
def test_every_method_of_the_client_checks_the_id(run, wrong):
    async def main():
        async with engine_with(quick, waits, Counter).open("memory://") as engine:
            client: DurableClient = engine.client
            handle = await client.schedule_new_orchestration(quick)
            await handle.result(PATIENCE)
            for call in (
                client.get_instance,
                client.get_history,
                client.wait_for_start,
                client.wait_for_completion,
                client.terminate,
                client.suspend,
                client.resume,
                client.restart,
                client.purge,
                lambda wrong: client.raise_event(wrong, "go"),
            ):
                with pytest.raises(InvalidInstanceIdError, match="an instance id"):
                    await call(wrong)
            with pytest.raises(InvalidInstanceIdError):
                client.get_handle(quick, wrong)
            if wrong is not None:
                with pytest.raises(InvalidInstanceIdError):
                    await client.restart(handle.id, new_instance_id=wrong)
                with pytest.raises(InvalidInstanceIdError):
                    await client.schedule_new_orchestration(quick, instance_id=wrong)
            with pytest.raises(InvalidInstanceIdError):
                EntityId("counter", wrong) if wrong in ("", None, 5, b"order-7", "\udcff") else client.get_handle(quick, wrong)

    run(main)


def test_a_restart_does_not_get_an_entitys_id(run):
    async def main():
        async with engine_with(quick).open("memory://") as engine:
            handle = await engine.client.schedule_new_orchestration(quick)
            await handle.result(PATIENCE)
            with pytest.raises(InvalidInstanceIdError, match="entity"):
                await engine.client.restart(handle.id, new_instance_id="@counter@k")

    run(main)


@pytest.mark.parametrize("wrong", [None, "\udcff", b"x"], ids=repr)
def test_one_that_asks_for_nonsense_spoils_nothing_for_others(run, url, wrong):
    """All that ask and write within one tick of the loop share a read or a batch of the store."""

    async def main():
        async with engine_with(quick, waits).open(url) as engine:
            client = engine.client
            handle = await client.schedule_new_orchestration(waits, instance_id="order-7")
            nonsense = [
                client.get_instance(wrong),
                client.raise_event(wrong, "go"),
                client.raise_event("order-7", wrong),
                client.terminate(wrong),
                client.suspend("order-7", reason=wrong),
                client.schedule_new_orchestration(quick, instance_id=wrong or 5),
                client.schedule_new_orchestration(wrong),
                client.schedule_new_orchestration(quick, tags={"a": wrong}),
                client.signal_entity(wrong, "add", 1),
                client.signal_entity(EntityId("counter", "k"), wrong, 1),
                client.get_history(wrong),
                consumed(client.query_instances(name=wrong or 5)),
                consumed(client.query_instances(parent=wrong or 5)),
            ]
            sound = [client.get_instance("order-7"), client.schedule_new_orchestration(quick), client.raise_event("order-7", "other")]
            *refused, found, other, raised = await asyncio.gather(*nonsense, *sound, return_exceptions=True)
            assert [each for each in refused if not isinstance(each, TypeError | ValueError | NotRegisteredError)] == []
            assert found.instance_id == "order-7"
            assert await other.result(PATIENCE) == "done"
            assert raised is True
            await client.raise_event("order-7", "go", 5)
            assert await handle.result(PATIENCE) == 5

    run(main)


def test_reuse_policies_are_those_that_exist(run):
    async def main():
        async with engine_with(quick).open("memory://") as engine:
            names = "'error', 'return_existing', 'replace_ended', 'terminate_and_replace'"
            with pytest.raises(ValueError, match=f"reuse_policy must be one of {names}, got 'replace'"):
                await engine.client.schedule_new_orchestration(quick, instance_id="x", reuse_policy="replace")
            assert await engine.client.get_instance("x") is None

    run(main)


def test_queries_check_what_they_are_given(run):
    naive = datetime(2026, 1, 1)  # noqa: DTZ001

    async def main():
        async with engine_with(quick).open("memory://") as engine:
            client = engine.client
            handle = await client.schedule_new_orchestration(quick)
            await handle.result(PATIENCE)
            for statuses in (InstanceStatus.COMPLETED, "COMPLETED", ["COMPLETED"], {InstanceStatus.COMPLETED}):
                assert [state.instance_id for state in await consumed(client.query_instances(statuses=statuses))] == [handle.id]
            for wrong in (
                {"statuses": "DONE"},
                {"statuses": ["DONE"]},
                {"statuses": 5},
                {"name": 5},
                {"id_prefix": ""},
                {"parent": b"x"},
                {"created_from": naive},
                {"created_to": "2026-01-01"},
                {"created_to": date(2026, 1, 1)},
                {"page_size": 0},
                {"page_size": "5"},
            ):
                with pytest.raises((TypeError, ValueError)):
                    await consumed(client.query_instances(**wrong))
            for wrong in ({"name": "@"}, {"key_prefix": "k"}, {"page_size": 0}, {"updated_from": naive}, {"name": "c", "key_prefix": 5}):
                with pytest.raises((TypeError, ValueError)):
                    await consumed(client.query_entities(**wrong))
            for wrong in ({"statuses": "DONE"}, {"created_from": naive}, {"name": 5}, {"updated_to": 5}):
                with pytest.raises((TypeError, ValueError)):
                    await client.purge_instances(**wrong)
            assert await client.purge_instances(statuses=InstanceStatus.COMPLETED, updated_to=datetime.now(UTC) + MONTH) == 1

    run(main)


def test_keywords_of_a_signal_by_name_are_not_dropped(run):
    async def main():
        async with engine_with(quick).open("memory://") as engine:
            with pytest.raises(PayloadError, match=r"keyword arguments \(amount\) cannot be bound"):
                await engine.client.signal_entity(EntityId("unknown", "k"), "add", amount=5)

    run(main)


def test_what_is_of_another_kind_is_told_how_it_is_called(run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(quick)  # type: ignore[call-arg]

    async def main():
        async with engine_with(echo, quick, root).open("memory://") as engine:
            client = engine.client
            with pytest.raises(OrchestrationFailedError, match=r"<orchestrator 'quick'> is not an activity.*ctx\.call_sub_orchestrator"):
                await (await client.schedule_new_orchestration(root)).result(PATIENCE)
            with pytest.raises(NotRegisteredError, match=r"<activity 'echo'> is not an orchestrator.*ctx\.call_activity"):
                await client.schedule_new_orchestration(echo, 1)
            with pytest.raises(NotRegisteredError, match="pass the function and its arguments, not what calling it gives"):
                await client.schedule_new_orchestration(quick(None))

    run(main)


# ── the context ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_context_is_given_is_checked_at_the_call(run):
    wrong_calls = {
        "an event name must be a text, got 5": lambda ctx: ctx.wait_for_external_event(5),
        "an event name must not be empty": lambda ctx: ctx.send_event("x", ""),
        "an event name must not contain": lambda ctx: ctx.send_event("x", "\udcff"),
        "an instance id must be a text": lambda ctx: ctx.send_event(5, "go"),
        "an instance id must not be empty": lambda ctx: ctx.call_sub_orchestrator(quick, instance_id=""),
        "an entity is named by an EntityId, got '@counter@k'": lambda ctx: ctx.call_entity("@counter@k", "add", 1),
        "an entity is named by an EntityId, got 5": lambda ctx: ctx.signal_entity(5, "add", 1),
        "an entity is named by an EntityId, got 'k'": lambda ctx: ctx.lock_entities("k"),
        "the name of an operation must be a text": lambda ctx: ctx.call_entity(EntityId("counter", "k"), Counter.add, 1),
        "an entity key must be a text": lambda ctx: ctx.entity(Counter, 5),
        "retry must be a RetryPolicy, got 3": lambda ctx: ctx.call_sub_orchestrator(quick, retry=3),
        "tags must be a dict of texts": lambda ctx: ctx.call_activity(echo, 1, tags=["a"]),
    }

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        texts = []
        for call in wrong_calls.values():
            try:
                call(ctx)
            except (TypeError, ValueError) as error:
                texts.append(str(error))
        return texts

    async def main():
        async with engine_with(echo, quick, root, Counter).open("memory://") as engine:
            handle = await engine.client.schedule_new_orchestration(root)
            texts = await handle.result(PATIENCE)
            assert [text[: len(says)] for text, says in zip(texts, wrong_calls, strict=True)] == list(wrong_calls)
            assert len(await engine.client.get_history(handle.id)) == 2, "a call that raises leaves no trace"

    run(main)
