"""What an orchestrator sees through its context, what it may not do, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import random
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest

from durable_core.converter import JsonConverter
from durable_core.definitions.activity import activity
from durable_core.definitions.orchestrator import orchestrator
from durable_core.definitions.registry import Registry
from durable_core.errors import OrchestrationStuckError, TaskFailedError, TaskTimeoutError, TurnTooLongError
from durable_core.events import (
    CommandCancelled,
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionContinuedAsNew,
    ExecutionFailed,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    Parent,
    SubOrchestrationCompleted,
    TaskScheduled,
    TimerCreated,
)
from durable_core.replay.context import OrchestrationContext
from durable_core.replay.machine import Execution, Limits
from durable_core.retry import RetryPolicy
from tests.core.replay.driver import START_US, Driven, completed, failed, fired, raised
from tests.core.replay.programs import Counter, child, echo, fail, flaky, seconds, square

KNOWN = (square, echo, fail, flaky, Counter, child)


def test_a_pending_call_keeps_nothing_alive_but_itself() -> None:
    """The garbage collector's full passes are the main cost of a large fan-out: no object per call but the task and its command."""
    tasks: list[Any] = []

    async def fan_out(ctx: OrchestrationContext) -> None:
        tasks.extend(ctx.call_activity(square, i) for i in range(3))
        tasks.append(ctx.create_timer(seconds(9)))
        await asyncio.gather(*tasks)

    with Driven(fan_out, known=KNOWN):
        assert [task.on_cancel for task in tasks] == [None] * 4
        own = {id(held) for task in tasks for held in gc.get_referents(task) if inspect.ismethod(held)}
        assert len(own) == 1, "the gather has one callback for all of them"


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def facts(ctx: OrchestrationContext) -> list[Any]:
    seen: list[Any] = [[ctx.instance_id, ctx.execution_id, ctx.name, str(ctx.current_utc_datetime), ctx.history_length]]
    await ctx.call_activity(square, 1)
    seen.append([str(ctx.current_utc_datetime), ctx.history_length])
    await ctx.create_timer(seconds(60))
    seen.append([str(ctx.current_utc_datetime), ctx.history_length])
    await ctx.wait_for_external_event("go")
    seen.append([str(ctx.current_utc_datetime), ctx.history_length])
    return seen


def test_facts_are_those_of_the_history_live_and_replayed() -> None:
    with Driven(facts, known=KNOWN) as driven:
        driven.apply(completed(1, 1, at_s=5))
        driven.apply(fired(1, 65, at_s=66.5))
        driven.apply(raised("go", at_s=3))
        assert driven.result == [
            ["order-7", "x1", "facts", "2023-11-14 22:13:20+00:00", 1],
            ["2023-11-14 22:13:25+00:00", 3],
            ["2023-11-14 22:14:26.500000+00:00", 5],
            ["2023-11-14 22:14:26.500000+00:00", 6],  # time never runs backwards
        ]
        with Driven(facts, known=KNOWN, history=driven.history) as again:
            assert again.ending == driven.ending


def test_time_is_aware_and_utc() -> None:
    seen: list[datetime] = []

    async def looking(ctx: OrchestrationContext) -> None:
        seen.append(ctx.current_utc_datetime)

    Driven(looking).execution.close()
    assert seen == [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]
    assert seen[0].utcoffset() == timedelta(0)


def test_ids_and_chance_are_computed_from_the_execution() -> None:
    async def drawing(ctx: OrchestrationContext) -> list[Any]:
        first = [str(ctx.new_uuid()), ctx.random.random()]
        await ctx.call_activity(square, 1)
        return [*first, str(ctx.new_uuid()), ctx.random.random()]

    def draw(**ids: str) -> list[Any]:
        with Driven(drawing, known=KNOWN, **ids) as driven:  # type: ignore[arg-type]
            driven.apply(completed(1, 1))
            result: list[Any] = driven.result
            return result

    drawn = draw()
    assert drawn == draw()
    assert len(set(drawn)) == 4
    assert UUID(drawn[0]).version == 5
    assert drawn[0] == str(uuid5(NAMESPACE_OID, "order-7\x1fx1\x1f1"))
    assert drawn[1] == random.Random("x1").random()
    assert not set(drawn) & set(draw(execution_id="x2"))
    assert {drawn[0], drawn[2]}.isdisjoint(draw(instance_id="order-8"))


def test_the_parent_is_known() -> None:
    async def looking(ctx: OrchestrationContext) -> list[Any]:
        return [] if ctx.parent is None else [ctx.parent.instance_id, ctx.parent.task_id]

    with Driven(looking) as driven:
        assert driven.result == []
    with Driven(looking, parent=Parent("order-1", "x0", 4, "parents")) as driven:
        assert driven.result == ["order-1", 4]


def test_continuing_as_new_is_suggested_at_a_length() -> None:
    async def looking(ctx: OrchestrationContext) -> list[Any]:
        seen = [ctx.continue_as_new_suggested]
        await ctx.call_activity(square, 1)
        return [*seen, ctx.continue_as_new_suggested]

    for limit, expected in ((4, [False, False]), (3, [False, True]), (1, [True, True])):
        with Driven(looking, known=KNOWN, limits=Limits(suggest_continue_as_new=limit)) as driven:
            driven.apply(completed(1, 1))
            assert driven.result == expected


def test_the_custom_status_is_the_last_of_the_turn_and_only_of_new_turns() -> None:
    async def showing(ctx: OrchestrationContext) -> None:
        ctx.set_custom_status("first")
        ctx.set_custom_status({"step": 1})
        await ctx.call_activity(square, 1)
        await ctx.call_activity(square, 2)
        ctx.set_custom_status(None)

    with Driven(showing, known=KNOWN) as driven:
        assert driven.turn.custom_status == '{"step":1}'
        driven.apply(completed(1, 1))
        assert driven.turn.custom_status is None
        history = list(driven.history)
        driven.apply(completed(2, 4))
        assert driven.turn.custom_status == "null", "a status that was set to None is not a status that was not set"
    with Driven(showing, known=KNOWN, history=history) as again:
        again.apply(raised("unrelated"))
        assert again.turn.custom_status is None


async def logging_orchestrator(ctx: OrchestrationContext) -> None:
    ctx.logger.info("starting with %s", "x", extra={"order": 7})
    assert ctx.is_replaying != ctx.logger.isEnabledFor(logging.INFO)
    await ctx.call_activity(square, 1)
    ctx.logger.warning("second part")
    await ctx.call_activity(square, 1)


def test_the_logger_is_silent_on_replay_and_speaks_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Driven(logging_orchestrator, known=KNOWN) as driven:
        pass
    [record] = caplog.records
    assert record.getMessage() == "starting with x"
    assert record.name == "durable_core.orchestrator.logging_orchestrator"
    assert (record.__dict__["instance_id"], record.__dict__["orchestrator"], record.__dict__["order"]) == (
        "order-7",
        "logging_orchestrator",
        7,
    )
    caplog.clear()
    with Driven(logging_orchestrator, known=KNOWN, history=driven.history) as again:
        assert not caplog.records
        again.apply(completed(1, 1))
        assert [record.getMessage() for record in caplog.records] == ["second part"]


def test_a_timer_in_the_past_is_due_now() -> None:
    async def waiting(ctx: OrchestrationContext) -> None:
        await asyncio.gather(ctx.create_timer(seconds(-5)), ctx.create_timer(ctx.current_utc_datetime - timedelta(days=1)))

    with Driven(waiting) as driven:
        assert driven.asked == [TimerCreated(1, START_US), TimerCreated(2, START_US)]


def test_external_events_are_typed_buffered_and_given_first_come_first_served() -> None:
    async def waiting(ctx: OrchestrationContext) -> list[Any]:
        dropped = ctx.wait_for_external_event("Order", return_type=int)
        first, second = (ctx.wait_for_external_event("order", return_type=int) for _ in range(2))
        dropped.cancel()
        await ctx.wait_for_external_event("go")
        third = ctx.wait_for_external_event("ORDER", return_type=int)
        return [third.done(), await first, await second, await third]

    with Driven(waiting) as driven:
        driven.apply(raised("ORDER", 1), raised("order", 2), raised("Order", 3), raised("order", 4), raised("go"))
        assert driven.result == [True, 1, 2, 3]


def test_an_event_of_another_type_fails_its_wait_and_no_other() -> None:
    async def waiting(ctx: OrchestrationContext) -> list[Any]:
        outcomes = await asyncio.gather(*(ctx.wait_for_external_event("n", return_type=int) for _ in range(2)), return_exceptions=True)
        return [type(outcome).__name__ for outcome in outcomes]

    with Driven(waiting) as driven:
        driven.apply(raised("n", "three"), raised("n", 4))
        assert driven.result == ["PayloadError", "int"]


def test_a_wait_that_timed_out_consumes_nothing() -> None:
    async def waiting(ctx: OrchestrationContext) -> int:
        try:
            return await ctx.wait_for_external_event("n", return_type=int, timeout=seconds(1))
        except TaskTimeoutError:
            return -(await ctx.wait_for_external_event("n", return_type=int))

    with Driven(waiting) as driven:
        driven.apply(fired(1, 1), raised("n", 5))
        assert driven.result == -5
    with Driven(waiting) as driven:
        driven.apply(raised("n", 5))
        assert driven.result == 5
        assert CommandCancelled("timer", 1) in driven.asked


def test_an_event_without_data_is_none() -> None:
    async def waiting(ctx: OrchestrationContext) -> Any:
        return await ctx.wait_for_external_event("n", return_type=int)

    with Driven(waiting) as driven:
        driven.apply(EventRaised("n", None))
        assert driven.result is None


def test_calls_by_name_are_plain_values_or_typed_by_return_type() -> None:
    async def by_name(ctx: OrchestrationContext) -> list[str]:
        values = await asyncio.gather(
            ctx.call_activity("elsewhere", 1, [2], return_type=tuple[int, ...]),
            ctx.call_activity("elsewhere"),
            ctx.call_activity("elsewhere", return_type=int),
            return_exceptions=True,
        )
        return [type(value).__name__ for value in values]

    with Driven(by_name, known=KNOWN) as driven:
        assert [event.input for event in driven.asked if isinstance(event, TaskScheduled)] == ["[1,[2]]", None, None]
        assert list(driven.turn.unknown_activities) == ["elsewhere"]
        driven.apply(completed(1, [1, 2]), completed(3, "x"))
        assert list(driven.turn.unknown_activities) == ["elsewhere"]
        driven.apply(completed(2, [1, 2]))
        assert driven.result == ["tuple", "list", "PayloadError"]
        assert list(driven.turn.unknown_activities) == []


def test_a_cancelled_call_of_an_unknown_activity_is_not_shown_any_more() -> None:
    async def by_name(ctx: OrchestrationContext) -> None:
        ctx.call_activity("elsewhere").cancel()
        await ctx.wait_for_external_event("go")

    with Driven(by_name) as driven:
        assert list(driven.turn.unknown_activities) == []


def test_options_of_an_activity_are_defaults() -> None:
    @activity(retry=RetryPolicy(first_retry_interval=seconds(2)), timeout=seconds(30))
    def careful(x: int) -> int:
        return x

    async def calling(ctx: OrchestrationContext) -> None:
        ctx.call_activity(careful, 1)
        ctx.call_activity(careful, 2, timeout=seconds(5), retry=RetryPolicy(max_number_of_attempts=1))
        ctx.call_activity(careful.with_options(tags={"a": "b"}), 3)
        await ctx.wait_for_external_event("go")

    with Driven(calling, known=[careful]) as driven:
        assert [event.due_us - START_US for event in driven.asked if isinstance(event, TimerCreated)] == [30_000_000, 5_000_000, 30_000_000]
        assert [event.tags for event in driven.asked if isinstance(event, TaskScheduled)] == [None, None, {"a": "b"}]
        driven.apply(failed(1), failed(2))
        assert driven.asked == [TimerCreated(4, START_US + 2_000_000), CommandCancelled("timer", 2)]


def test_a_childs_id_is_derived_from_the_execution_or_chosen() -> None:
    async def calling(ctx: OrchestrationContext) -> list[int]:
        return list(await asyncio.gather(ctx.call_sub_orchestrator(child, 1), ctx.call_sub_orchestrator(child, 2, instance_id="two")))

    with Driven(calling, known=KNOWN) as driven:
        assert [getattr(event, "instance_id", "") for event in driven.asked] == ["x1:0001", "two"]
        driven.apply(SubOrchestrationCompleted(2, "2"), SubOrchestrationCompleted(1, "1"))
        assert driven.result == [1, 2]


def test_events_to_others_and_entity_operations_share_one_counter() -> None:
    async def sending(ctx: OrchestrationContext) -> None:
        ctx.send_event("other", "go", {"a": 1})
        ctx.entity(Counter, "e").signal(Counter.add, 1)
        ctx.send_event("other", "go")

    with Driven(sending, known=KNOWN) as driven:
        assert driven.asked[0] == EventSent(1, "other", "go", '{"a":1}')
        assert [getattr(event, "id", 0) for event in driven.asked] == [1, 2, 3]


# ── what is forbidden ─────────────────────────────────────────────────────────────────────────────────────────────


async def _never() -> None: ...


async def to_thread() -> None:
    await asyncio.to_thread(print)


async def run_in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def open_connection() -> None:
    await asyncio.open_connection("localhost", 1)


async def start_server() -> None:
    await asyncio.start_server(lambda _reader, _writer: None, "localhost", 1)


async def create_subprocess_exec() -> None:
    await asyncio.create_subprocess_exec("true")


async def create_subprocess_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def call_soon_threadsafe() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def getaddrinfo() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def sock_recv() -> None:
    await asyncio.get_running_loop().sock_recv(None, 1)  # type: ignore[arg-type]


async def add_signal_handler() -> None:
    asyncio.get_running_loop().add_signal_handler(15, print)


async def add_reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def run_until_complete() -> None:
    asyncio.get_running_loop().run_until_complete(_never())


async def open_unix_connection() -> None:
    await asyncio.open_unix_connection("/tmp/x")


FORBIDDEN = [
    to_thread,
    run_in_executor,
    open_connection,
    start_server,
    create_subprocess_exec,
    create_subprocess_shell,
    call_soon_threadsafe,
    getaddrinfo,
    sock_recv,
    add_signal_handler,
    add_reader,
    run_until_complete,
    open_unix_connection,
]


@pytest.mark.parametrize("leaving", FORBIDDEN, ids=lambda leaving: leaving.__name__)
def test_what_leaves_the_loop_is_refused_with_orchestrator_line_and_remedy(leaving: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def offending(ctx: OrchestrationContext) -> None:
        await leaving()

    with Driven(offending) as driven:
        assert driven.failure.type == "durable_core.errors.ForbiddenInOrchestratorError"
        line = leaving.__code__.co_firstlineno + 1
        for piece in ("orchestrator 'offending'", f"{__file__}:{line} in {leaving.__name__}", "activity", "ctx.call_activity("):
            assert piece in driven.failure.message, driven.failure.message


def test_what_abstract_loops_offer_beyond_that_does_not_work_either() -> None:
    """Nothing of ``AbstractEventLoop`` does anything that replay would not see."""
    allowed = {
        *("call_soon", "call_later", "call_at", "time", "create_future", "create_task", "is_running", "is_closed", "close"),
        *("get_debug", "get_task_factory"),
        *("call_exception_handler", "default_exception_handler", "_timer_handle_cancelled"),
    }
    results: dict[str, str] = {}

    async def trying(ctx: OrchestrationContext) -> None:
        loop = asyncio.get_running_loop()
        for name in dir(asyncio.AbstractEventLoop):
            if name in allowed or name.startswith("__"):
                continue
            try:
                made = getattr(loop, name)(*[None] * _required(getattr(asyncio.AbstractEventLoop, name)))
                if asyncio.iscoroutine(made):
                    await made
                results[name] = "works"
            except Exception as error:
                results[name] = type(error).__name__

    with Driven(trying) as driven:
        assert isinstance(driven.ending, ExecutionCompleted)
    assert set(results.values()) == {"ForbiddenInOrchestratorError"}, results


def _required(function: Callable[..., Any]) -> int:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return sum(parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)


def test_calling_an_activity_directly_is_refused() -> None:
    async def direct(ctx: OrchestrationContext) -> None:
        square(3)

    with Driven(direct) as driven:
        assert driven.failure.type == "durable_core.errors.ForbiddenInOrchestratorError"
        assert "await ctx.call_activity(square, ...)" in driven.failure.message
    assert square(3) == 9, "outside it is the plain function"


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stuck_orchestrator_is_found_and_every_await_line_named() -> None:
    async def stuck(ctx: OrchestrationContext) -> None:
        async def helper(queue: asyncio.Queue[int]) -> None:
            await queue.get()

        await ctx.call_activity(square, 1)
        task = asyncio.create_task(helper(asyncio.Queue()), name="reader")
        await asyncio.get_running_loop().create_future()
        await task

    driven = Driven(stuck, known=KNOWN)
    driven.execution.apply(completed(1, 1))
    with pytest.raises(OrchestrationStuckError) as problem:
        driven.execution.take_turn()
    text, first = str(problem.value), stuck.__code__.co_firstlineno
    for piece in (f"orchestrator at {__file__}:{first + 6} in", f"reader at {__file__}:{first + 2} in", "'stuck' of 'order-7'"):
        assert piece in text, text
    assert problem.value.instance_id == "order-7"
    assert driven.ending is None
    driven.execution.close()


@pytest.mark.parametrize(
    "outstanding",
    [
        lambda ctx: ctx.call_activity(square, 1),
        lambda ctx: ctx.create_timer(seconds(1)),
        lambda ctx: asyncio.get_running_loop().call_later(1, print),
        lambda ctx: ctx.call_sub_orchestrator(child, 1),
        lambda ctx: ctx.entity(Counter, "e").call(Counter.get),
        lambda ctx: ctx.wait_for_external_event("go"),
    ],
)
def test_something_outstanding_is_not_stuck(outstanding: Callable[[OrchestrationContext], object]) -> None:
    async def waiting(ctx: OrchestrationContext) -> None:
        outstanding(ctx)
        await asyncio.get_running_loop().create_future()

    with Driven(waiting, known=KNOWN) as driven:
        assert driven.ending is None


@pytest.mark.parametrize(
    "given_up",
    [
        lambda ctx: ctx.call_activity(square, 1).cancel(),
        lambda ctx: ctx.create_timer(seconds(1)).cancel(),
        lambda ctx: ctx.wait_for_external_event("go").cancel(),
        lambda ctx: ctx.send_event("other", "go"),
        lambda ctx: ctx.entity(Counter, "e").signal(Counter.get),
    ],
)
def test_what_was_given_up_or_is_never_answered_leaves_it_stuck(given_up: Callable[[OrchestrationContext], object]) -> None:
    async def waiting(ctx: OrchestrationContext) -> None:
        given_up(ctx)
        await asyncio.get_running_loop().create_future()

    driven = Driven(waiting, known=KNOWN, start=False)
    driven.execution.apply(ExecutionStarted("waiting", None, 0))
    with pytest.raises(OrchestrationStuckError):
        driven.execution.take_turn()
    driven.execution.close()


def test_an_execution_that_has_not_started_is_not_stuck() -> None:
    driven = Driven(facts, start=False)
    assert driven.execution.take_turn().events == ()
    driven.execution.close()


def test_a_turn_that_never_comes_to_rest_is_stopped() -> None:
    async def spinning(ctx: OrchestrationContext) -> None:
        while True:
            await asyncio.sleep(0)

    driven = Driven(spinning, start=False, limits=Limits(steps_per_turn=1000))
    driven.execution.apply(ExecutionStarted("spinning", None, 0))
    with pytest.raises(TurnTooLongError, match="'spinning' of 'order-7' ran more than 1000 steps"):
        driven.execution.take_turn()
    assert driven.ending is None
    driven.execution.close()


def test_a_turn_that_asks_for_too_much_is_stopped_and_told_where() -> None:
    async def greedy(ctx: OrchestrationContext) -> None:
        for i in range(200):
            ctx.call_activity(square, i)
        await ctx.wait_for_external_event("go")

    driven = Driven(greedy, known=KNOWN, start=False, limits=Limits(commands_per_turn=100))
    driven.execution.apply(ExecutionStarted("greedy", None, 0))
    with pytest.raises(TurnTooLongError, match="'greedy' of 'order-7' asked for more than 100 things in one turn") as problem:
        driven.execution.take_turn()
    assert f"{__file__}:{greedy.__code__.co_firstlineno + 2} in" in str(problem.value)
    driven.execution.close()


def test_the_limit_of_commands_is_for_a_turn_not_for_a_life_and_not_for_replay() -> None:
    async def steady(ctx: OrchestrationContext) -> int:
        for i in range(30):
            await asyncio.gather(*(ctx.call_activity(square, i) for _ in range(5)))
        return 30

    limits = Limits(commands_per_turn=10)
    with Driven(steady, known=KNOWN, limits=limits) as driven:
        for number in range(30 * 5):
            driven.apply(completed(number + 1, 1))
        assert driven.result == 30
    with Driven(steady, known=KNOWN, limits=limits, history=driven.history) as again:
        assert again.result == 30


# ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def ending_of(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    with Driven(fn, known=KNOWN) as driven:
        assert driven.turn.ending is driven.ending
        assert driven.turn.events[-1] is driven.ending
        return driven.ending


def test_a_return_completes() -> None:
    async def returning(ctx: OrchestrationContext) -> dict[str, int]:
        return {"a": 1}

    assert ending_of(returning) == ExecutionCompleted('{"a":1}')


def test_an_exception_fails_with_its_causes() -> None:
    async def raising(ctx: OrchestrationContext) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise LookupError("outer") from error

    ending = ending_of(raising)
    assert (ending.failure.type, ending.failure.message, ending.failure.inner.type) == ("LookupError", "outer", "KeyError")
    assert f'File "{__file__}"' in ending.failure.stack
    assert "durable_core" not in ending.failure.stack


def test_an_uncaught_failure_of_an_activity_is_the_inner_failure() -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(fail, "x")

    with Driven(calling, known=KNOWN) as driven:
        driven.apply(failed(1, message="x"))
        assert driven.failure.type == "durable_core.errors.TaskFailedError"
        assert driven.failure.inner is not None
        assert driven.failure.inner.type == "ValueError"
        assert driven.failure.is_caused_by(ValueError)


def test_a_cancellation_that_nobody_asked_for_fails() -> None:
    async def cancelling(ctx: OrchestrationContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    ending = ending_of(cancelling)
    assert ending.failure.type == "asyncio.exceptions.CancelledError"
    assert "nobody terminated it" in ending.failure.message


def test_a_group_fails_with_a_hundred_members_and_their_number() -> None:
    async def grouping(ctx: OrchestrationContext) -> None:
        raise ExceptionGroup("many", [ValueError(f"{i}") for i in range(150)])

    failure = ending_of(grouping).failure
    assert failure.type == "ExceptionGroup"
    assert len(failure.members) == 100
    assert failure.member_count == 150
    assert failure.is_caused_by(ValueError)


def test_a_result_that_cannot_be_encoded_fails() -> None:
    async def returning(ctx: OrchestrationContext) -> int:
        return "three"  # type: ignore[return-value]

    failure = ending_of(returning).failure
    assert failure.type == "durable_core.errors.PayloadError"
    assert "returning" in failure.message


def test_an_input_that_cannot_be_decoded_fails() -> None:
    async def taking(ctx: OrchestrationContext, n: int) -> None: ...

    for text, arity in (('"three"', 1), (None, 0), ("[1,2]", 2)):
        driven = Driven(taking, start=False)
        driven.apply(ExecutionStarted("taking", text, arity))
        assert "taking" in driven.failure.message


def test_other_base_exceptions_fail_too() -> None:
    class Odd(BaseException): ...

    async def raising(ctx: OrchestrationContext) -> None:
        raise Odd("odd")

    assert ending_of(raising).failure.message == "odd"


async def exits(ctx: OrchestrationContext) -> None:
    sys.exit(3)


async def interrupts(ctx: OrchestrationContext) -> None:
    raise KeyboardInterrupt


async def runs_out_of_memory(ctx: OrchestrationContext) -> None:
    raise MemoryError


async def runs_out_of_memory_in_a_group(ctx: OrchestrationContext) -> None:
    async def one() -> None:
        raise MemoryError

    async with asyncio.TaskGroup() as group:
        group.create_task(one())


async def exits_in_a_task(ctx: OrchestrationContext) -> None:
    await asyncio.create_task(exits(ctx))


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (exits, SystemExit),
        (exits_in_a_task, SystemExit),
        (interrupts, KeyboardInterrupt),
        (runs_out_of_memory, MemoryError),
        (runs_out_of_memory_in_a_group, BaseExceptionGroup),
    ],
)
def test_the_processs_trouble_is_not_the_orchestrations(fn: Callable[..., Coroutine[Any, Any, Any]], kind: type[BaseException]) -> None:
    driven = Driven(fn, start=False)
    with pytest.raises(kind):
        driven.execution.apply(ExecutionStarted(fn.__name__, None, 0))
    assert driven.ending is None, "nothing is recorded; whoever runs the turn evicts"
    driven.execution.close()


@pytest.mark.parametrize("at", ["the result of an activity", "the result of the orchestrator", "a retry handler"])
def test_memory_that_runs_out_in_a_converter_or_handler_is_not_recorded(at: str) -> None:
    def handler(_: Any) -> bool:
        raise MemoryError

    async def calling(ctx: OrchestrationContext) -> int:
        try:
            return await ctx.call_activity(square, 1, retry=RetryPolicy(handler=handler))
        except MemoryError:
            return 0  # code that swallows it would decide by the state of the process

    def explode(*_: Any) -> Any:
        raise MemoryError

    driven = Driven(calling, known=KNOWN)
    bound = driven.execution.registry.activities["square"]
    if at == "the result of the orchestrator":
        driven.execution.orchestrator.__dict__["encode_result"] = explode
    driven.execution.close()
    if at == "the result of an activity":
        bound.__dict__["decode_result"] = explode
    fresh = Execution(driven.bound, driven.execution.registry, "order-7", "x1")
    fresh.apply(driven.history[0])  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        fresh.apply(failed(1) if at == "a retry handler" else completed(1, 1))
    assert fresh.ending is None
    fresh.close()


def test_terminating_ends_in_the_same_turn() -> None:
    async def waiting(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(square, 1)

    with Driven(waiting, known=KNOWN) as driven:
        turn = driven.apply(ExecutionTerminated('"enough"', at_us=START_US + 5), raised("late"))
        assert turn.ending == ExecutionTerminated('"enough"', at_us=START_US + 5)
        assert turn.events == (turn.ending,)


def test_continuing_as_new_carries_what_nobody_waited_for_in_order() -> None:
    async def continuing(ctx: OrchestrationContext, n: int) -> None:
        ctx.continue_as_new(0)
        got = await ctx.wait_for_external_event("b", return_type=int)
        ctx.continue_as_new(n + got)

    with Driven(continuing, 1) as driven:
        driven.apply(raised("A", 1), raised("c", 2))
        driven.apply(raised("a", 3), raised("B", 4), raised("after the end", 5))
        assert driven.ending == ExecutionContinuedAsNew("5", 1, (raised("A", 1), raised("c", 2), raised("a", 3)))
        assert driven.history[-1] == driven.ending
        carried = driven.ending.carried if isinstance(driven.ending, ExecutionContinuedAsNew) else ()

    async def next_generation(ctx: OrchestrationContext) -> list[int]:
        return [await ctx.wait_for_external_event(name, return_type=int) for name in ("a", "c", "A")]

    with Driven(next_generation, carried=carried) as driven:
        assert driven.result == [1, 2, 3]


def test_continuing_as_new_and_then_failing_fails() -> None:
    async def continuing(ctx: OrchestrationContext) -> None:
        ctx.continue_as_new()
        raise LookupError

    assert isinstance(ending_of(continuing), ExecutionFailed)


def test_continuing_as_new_with_arguments_that_do_not_fit_raises_at_the_call() -> None:
    async def continuing(ctx: OrchestrationContext, n: int) -> str:
        try:
            ctx.continue_as_new()
        except TypeError as error:
            return str(error)
        return "taken"

    with Driven(continuing, 1) as driven:
        assert "continuing" in driven.result


def test_nothing_is_applied_after_the_end() -> None:
    async def returning(ctx: OrchestrationContext) -> int:
        return 1

    with Driven(returning) as driven:
        assert driven.apply(raised("late"), completed(1, 1)).events == ()


def test_suspension_is_noted_and_changes_nothing_else() -> None:
    async def waiting(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(square, 1)

    with Driven(waiting, known=KNOWN) as driven:
        driven.apply(ExecutionSuspended("lunch"))
        assert driven.execution.suspended
        with Driven(waiting, known=KNOWN, history=driven.history) as again:
            assert again.execution.suspended
        driven.apply(ExecutionResumed(), completed(1, 1))
        assert not driven.execution.suspended
        assert isinstance(driven.ending, ExecutionCompleted)


def test_calls_outlive_the_orchestration_that_did_not_await_them() -> None:
    """They still run; nothing cancels them but ``terminate``."""

    async def forgetting(ctx: OrchestrationContext) -> None:
        ctx.call_activity(square, 1)
        ctx.create_timer(seconds(1))

    with Driven(forgetting, known=KNOWN) as driven:
        assert not any(isinstance(event, CommandCancelled) for event in driven.history)


def test_the_registry_of_another_engine_is_not_asked() -> None:
    async def calling(ctx: OrchestrationContext) -> None:
        await ctx.call_activity(square, 1)

    registry = Registry(JsonConverter())
    registry.add(orchestrator(calling))
    execution = Execution(registry.orchestrators["calling"], registry, "i", "x")
    execution.apply(ExecutionStarted("calling", None, 0))
    assert isinstance(execution.ending, ExecutionFailed)
    assert execution.ending.failure.type == "durable_core.errors.NotRegisteredError"


def test_a_result_that_does_not_fit_its_type_is_the_awaiting_codes_to_see() -> None:
    async def calling(ctx: OrchestrationContext) -> str:
        try:
            await ctx.call_activity(square, 1)
        except TaskFailedError:
            return "failed"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "decoded"

    with Driven(calling, known=KNOWN) as driven:
        driven.apply(completed(1, "three"))
        assert driven.result.startswith("PayloadError")
        assert "square" in driven.result
