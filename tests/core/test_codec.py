"""Events as bytes: every class there is, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from durable_core import events
from durable_core.codec import decode_event, decode_events, encode_event, join_events
from durable_core.errors import FailureDetails, PayloadError, StoreFormatError, StoreVersionError
from durable_core.events import (
    COMMAND_EVENTS,
    MESSAGE_EVENTS,
    Event,
    EventRaised,
    ExecutionStarted,
    LockReleased,
    LockRequested,
    OperationRequested,
    Parent,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
)

ENTITY_REQUESTS = (OperationRequested, LockRequested, LockReleased)
CLASSES: tuple[type[Any], ...] = (*MESSAGE_EVENTS, *COMMAND_EVENTS, *ENTITY_REQUESTS)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
times = st.integers(0, 2**53)
failures: st.SearchStrategy[FailureDetails] = st.deferred(
    lambda: st.builds(
        FailureDetails,
        type=texts,
        message=texts,
        stack=texts,
        inner=st.none() | st.none() | failures,
        properties=st.dictionaries(texts, texts, max_size=2),
        non_retriable=st.booleans(),
        members=st.just(()) | st.tuples(failures),
        member_count=st.integers(0, 1000),
    )
)


def encode_row(history: Iterable[Any]) -> bytes:
    return join_events(map(encode_event, history))


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that a field with this hint may hold."""
    if hint is FailureDetails:
        return failures
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return built(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=2).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(texts, texts, max_size=2)
    if get_args(hint):
        return st.one_of([values(member) for member in get_args(hint)])
    return {int: times, str: texts, bool: st.booleans(), type(None): st.none()}[hint]


def built(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in fields(cls)})


any_event = st.one_of([built(cls) for cls in CLASSES])


@settings(max_examples=400, deadline=None)
@given(any_event, times)
def test_every_event_survives(event: Any, at_us: int) -> None:
    read = decode_event(encode_event(event), at_us)
    assert type(read) is type(event)
    assert read == (replace(event, at_us=at_us) if hasattr(event, "at_us") else event)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of([built(cls) for cls in CLASSES if cls not in ENTITY_REQUESTS]), max_size=5))
def test_rows_of_events_survive(history: list[Any]) -> None:
    row = encode_row(history)
    assert decode_events(row) == history
    assert msgspec.json.encode(history) == row
    assert [event["type"] for event in json.loads(row)] == [type(event).__name__ for event in history]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_event_names_its_class(cls: type[Any]) -> None:
    assert cls.__struct_config__.tag == cls.__name__
    assert cls in vars(events).values()


def test_what_is_stored_can_be_read_by_a_person() -> None:
    assert json.loads(encode_event(TaskScheduled(1, "charge", "5", 1))) == {
        "type": "TaskScheduled", "id": 1, "name": "charge", "input": "5", "arity": 1,
    }  # fmt: skip
    started = ExecutionStarted("o", None, 0, parent=Parent("p", "e", 1), carried=(EventRaised("go", "1"),))
    assert decode_event(encode_event(started), 7) == replace(started, at_us=7)


def test_the_time_of_a_message_is_when_it_was_applied() -> None:
    assert decode_event(encode_event(TaskCompleted(1, "2", at_us=5)), 9).at_us == 9
    assert decode_events(encode_row([TaskCompleted(1, "2", at_us=5)])) == [TaskCompleted(1, "2", at_us=5)]


def test_fields_that_a_newer_version_added_are_ignored_and_missing_ones_take_their_default() -> None:
    assert decode_events(b'[{"type":"TaskCompleted","id":1,"result":"2","at_us":3,"cost":5}]') == [TaskCompleted(1, "2", at_us=3)]
    assert decode_events(b'[{"type":"TaskScheduled","id":1,"name":"n","input":null,"arity":0}]') == [TaskScheduled(1, "n", None, 0)]
    failed = b'{"type":"TaskFailed","id":1,"failure":{"type":"E","message":"m","severity":3}}'
    assert decode_event(failed, 0) == TaskFailed(1, FailureDetails("E", "m"))


def test_what_a_newer_version_wrote_is_not_guessed_at() -> None:
    data = b'{"type":"TaskPaused","id":1}'
    with pytest.raises(StoreVersionError, match="a newer one wrote it"):
        decode_event(data, 0)
    with pytest.raises(StoreVersionError):
        decode_events(b"[" + data + b"]")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"5",
        b"\xff",
        b'{"id":1}',
        b'{"type":5}',
        b'{"type":["TaskCompleted"]}',
        b'{"type":"TaskCompleted"}',
        b'{"type":"TaskCompleted","id":"1","result":null,"at_us":1}',
        b'{"type":"TaskFailed","id":1,"failure":null,"at_us":1}',
        b'{"type":"CommandCancelled","id":1,"kind":"tea"}',
    ],
)
def test_damage_is_told_from_newness(data: bytes) -> None:
    with pytest.raises(StoreFormatError, match="damaged"):
        decode_event(data, 0)
    with pytest.raises(StoreFormatError, match="damaged"):
        decode_events(b"[" + data + b"]" if data else data)


def test_a_name_that_no_store_takes_is_refused() -> None:
    with pytest.raises(PayloadError, match="lone surrogates"):
        encode_event(EventRaised("\ud800", None))


def test_bytes_of_an_event_are_always_the_same() -> None:
    """Golden: histories of earlier versions are compared with these."""
    history: list[Event] = [TaskCompleted(1, "2", at_us=3), TaskScheduled(2, "n", '"x"', 1, tags={"b": "1", "a": "2"})]
    assert encode_row(history) == (
        b'[{"type":"TaskCompleted","id":1,"result":"2","at_us":3},'
        b'{"type":"TaskScheduled","id":2,"name":"n","input":"\\"x\\"","arity":1,"tags":{"b":"1","a":"2"}}]'
    )
    assert msgspec.json.decode(encode_row(history)) == json.loads(encode_row(history))
