"""What is kept of an exception."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from durable_core.codec import decode_event, encode_event
from durable_core.converter import JsonConverter
from durable_core.errors import FailureDetails, PayloadError, TaskFailedError
from durable_core.events import TaskFailed
from durable_core.failures import describe


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class ShopError(Exception):
    non_retriable = True

    def __init__(self, message: str, **properties: str) -> None:
        super().__init__(message)
        self.failure_properties = properties


class ByMethod(Exception):
    def failure_properties(self) -> dict[str, Any]:
        return {"code": 7}


class Broken(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    @property
    def non_retriable(self) -> bool:
        raise ValueError

    @property
    def failure_properties(self) -> dict[str, str]:
        raise ValueError


def boom() -> None:
    raise ValueError("bad")


def test_type_message_and_stack() -> None:
    details = describe(raised(boom))
    assert (details.type, details.message, details.inner, details.members, details.non_retriable) == ("ValueError", "bad", None, (), False)
    assert f'File "{__file__}"' in details.stack
    assert "in boom" in details.stack
    assert 'raise ValueError("bad")' in details.stack


def test_an_exception_that_was_never_raised_has_no_stack() -> None:
    assert describe(KeyError("k")) == FailureDetails("KeyError", "'k'")


def test_an_empty_message_is_a_failure_all_the_same() -> None:
    details = describe(ValueError())
    assert (details.type, details.message) == ("ValueError", "")
    assert str(details) == "ValueError"


def test_classes_are_named_with_their_module() -> None:
    details = describe(ShopError("out of stock", sku="7"))
    assert details.type == f"{__name__}.ShopError"
    assert details.properties == {"sku": "7"}
    assert details.non_retriable
    assert details.is_caused_by(ShopError)
    assert describe(ByMethod()).properties == {"code": "7"}


def test_an_exception_that_misbehaves_is_described_all_the_same() -> None:
    details = describe(Broken())
    assert details == FailureDetails(f"{__name__}.Broken", "(its __str__ failed)")
    odd = ValueError()
    odd.failure_properties = [1]  # type: ignore[attr-defined]
    assert describe(odd).properties == {}


def chained(suppress: bool) -> None:
    try:
        boom()
    except ValueError as error:
        if suppress:
            raise KeyError from None
        raise KeyError from error


def contextual() -> None:
    try:
        boom()
    except ValueError:
        {}["k"]  # type: ignore[index]


def test_the_cause_is_the_inner_failure() -> None:
    details = describe(raised(lambda: chained(suppress=False)))
    assert details.inner is not None
    assert (details.type, details.inner.type, details.inner.message) == ("KeyError", "ValueError", "bad")
    assert details.is_caused_by(ValueError)
    assert details.is_caused_by(LookupError)
    assert describe(raised(lambda: chained(suppress=True))).inner is None


def test_the_context_is_the_inner_failure_where_there_is_no_cause() -> None:
    details = describe(raised(contextual))
    assert details.inner is not None
    assert details.inner.type == "ValueError"


def test_causes_are_at_most_ten_deep() -> None:
    error: Exception = ValueError("0")
    for number in range(1, 50):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    chain = list(describe(error).chain())
    assert [link.message for link in chain] == [str(number) for number in range(49, 39, -1)]


def test_cycles_are_cut() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert [link.message for link in describe(one).chain()] == ["one", "two"]
    one.__cause__ = one
    assert [link.message for link in describe(one).chain()] == ["one"]


def test_the_details_of_a_failed_task_become_the_inner_failure() -> None:
    there = FailureDetails("shop.OutOfStock", "none left", "the stack there", FailureDetails("OSError", "disk"))
    details = describe(TaskFailedError("charge", 3, there))
    assert (details.type, details.message) == ("durable_core.errors.TaskFailedError", "charge (call 3) failed: shop.OutOfStock: none left")
    assert details.inner == there
    assert details.is_caused_by("shop.OutOfStock")
    assert details.is_caused_by(OSError)


def test_failures_that_pass_through_many_orchestrations_stay_ten_deep() -> None:
    details = FailureDetails("ValueError", "the root")
    for level in range(50):
        details = describe(TaskFailedError("child", level, details))
    assert len(list(details.chain())) == 10
    assert details.type == "durable_core.errors.TaskFailedError"


def test_members_of_a_group() -> None:
    group = ExceptionGroup(
        "several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")]), TaskFailedError("x", 1, FailureDetails("E", "m"))]
    )
    details = describe(group)
    assert details.type == "ExceptionGroup"
    assert details.message == "several (3 sub-exceptions)"
    assert details.member_count == 3
    assert [member.type for member in details.members] == ["ValueError", "ExceptionGroup", "durable_core.errors.TaskFailedError"]
    assert details.members[1].members[0].message == "'b'"
    assert details.is_caused_by(KeyError)
    assert details.is_caused_by("E")


def test_members_are_at_most_a_hundred_in_all_and_counted() -> None:
    details = describe(ExceptionGroup("many", [ValueError(str(number)) for number in range(1000)]))
    assert (len(details.members), details.member_count) == (100, 1000)
    nested: Exception = ValueError("leaf")
    for _ in range(8):
        nested = ExceptionGroup("level", [nested] * 5)
    assert sum(1 for _ in describe(nested).chain()) <= 101


def test_texts_are_storable_and_bounded() -> None:
    details = describe(ValueError("file \ud800\x00 " + "x" * 10_000_000))
    assert details.message.startswith("file \\ud800\x00 xxx")
    assert details.message.endswith(" more characters)")
    assert len(details.message) < 20_000
    encode_event(TaskFailed(1, details))
    group = ExceptionGroup("g", [ValueError("y" * 100_000) for _ in range(100)])
    assert len(encode_event(TaskFailed(1, describe(group)))) < 600_000


def test_a_deep_recursion_keeps_its_innermost_frames() -> None:
    def down(n: int) -> None:
        down(n + 1)

    details = describe(raised(lambda: down(0)))
    assert details.type == "RecursionError"
    assert len(details.stack) < 20_000
    assert "down(n + 1)" in details.stack


def test_frames_of_the_engine_are_left_out() -> None:
    error = raised(lambda: JsonConverter().encode("x", int))
    assert isinstance(error, PayloadError)
    assert "converter.py" in "".join(traceback.format_exception(error))
    assert "durable_core" not in describe(error).stack
    assert __file__ in describe(error).stack


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseExceptionGroup("b", [KeyboardInterrupt()])])
def test_exceptions_that_are_no_errors_can_be_described(error: BaseException) -> None:
    assert describe(error).type == type(error).__qualname__


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.text().map(ValueError), lambda inner: st.lists(inner, min_size=1, max_size=4).map(lambda errors: ExceptionGroup("g", errors))
    )
)
def test_every_description_can_be_stored(error: Exception) -> None:
    details = describe(error)
    assert decode_event(encode_event(TaskFailed(1, details)), 0).failure == details
    assert asdict(details)["type"] == type(error).__qualname__


# ── in one line ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_group_names_its_first_members() -> None:
    text = "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception) [ValueError: the card was declined]"
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("the card was declined")])
    assert str(describe(group)) == text
    assert str(TaskFailedError("charge", 1, describe(group))) == f"charge (call 1) failed: {text}"


def test_of_many_members_three_are_named_and_those_of_groups_within_stand_for_these() -> None:
    inner = ExceptionGroup("inner", [KeyError("a"), KeyError("b")])
    assert str(describe(ExceptionGroup("g", [inner, OSError("c")]))) == (
        "ExceptionGroup: g (2 sub-exceptions) [KeyError: 'a'; KeyError: 'b'; OSError: c]"
    )
    many = str(describe(ExceptionGroup("g", [inner, OSError("c"), OSError("d")])))
    assert many.endswith("[KeyError: 'a'; KeyError: 'b'; OSError: c; …]")
    assert len(str(describe(ExceptionGroup("g", [ValueError(str(number)) for number in range(1_000)])))) < 200


def test_members_of_groups_that_are_cut_off_are_told_of_as_missing() -> None:
    error: Exception = ValueError("leaf")
    for _ in range(12):
        error = ExceptionGroup("g", [error])
    assert str(describe(error)).endswith("[ExceptionGroup: g (1 sub-exception)]")


def test_notes_are_kept_and_read() -> None:
    error = ValueError("bad")
    error.add_note("while charging order 17")
    error.add_note("\udcff")
    details = describe(error)
    assert details.notes == ("while charging order 17", "\\udcff")
    assert str(details) == "ValueError: bad (while charging order 17) (\\udcff)"
    event = TaskFailed(1, details)
    assert decode_event(encode_event(event), 0) == event


def test_notes_are_bounded_and_may_be_anything() -> None:
    error = ValueError("bad")
    for number in range(1_000):
        error.add_note(f"{number} " + "x" * 100_000)
    notes = describe(error).notes
    assert len(notes) == 20
    assert sum(map(len, notes)) < 400_000
    error.__notes__ = 5  # type: ignore[assignment]
    assert describe(error).notes == ()


def test_an_older_record_without_notes_can_be_read() -> None:
    details = describe(ValueError("bad"))
    assert b"notes" not in encode_event(TaskFailed(1, details))
