"""In which order an entity serves its requests, locked or not: against a model, and by hand."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from durable_core.events import EntityRequest, LockReleased, LockRequested, OperationRequested, Parent
from durable_core.mailbox import EntitySnapshot


def operation(name: str) -> OperationRequested:
    return OperationRequested(name, None, 0)


def lock(who: str, number: int = 1) -> LockRequested:
    return LockRequested(Parent(who, f"x-{who}", number))


def release(who: str) -> LockReleased:
    return LockReleased(f"x-{who}")


def serve(snapshot: EntitySnapshot, *requests: tuple[str, EntityRequest]) -> list[str]:
    served = [each for sender, request in requests for each in snapshot.admit(sender, request)]
    return [f"lock {each.caller.instance_id}" if isinstance(each, LockRequested) else each.operation for each in served]


def test_unlocked_it_serves_in_order_of_arrival() -> None:
    snapshot = EntitySnapshot()
    assert serve(snapshot, ("a", operation("1")), ("b", operation("2")), ("a", operation("3"))) == ["1", "2", "3"]
    assert snapshot.is_empty


def test_locked_it_serves_its_holder_and_keeps_the_others() -> None:
    snapshot = EntitySnapshot()
    assert serve(snapshot, ("b", operation("b1")), ("a", lock("a")), ("b", operation("b2")), ("a", operation("a1"))) == [
        "b1",
        "lock a",
        "a1",
    ]
    assert (len(snapshot.waiting), snapshot.is_empty) == (1, False)
    assert serve(snapshot, ("c", lock("c")), ("d", operation("d1")), ("c", operation("c1"))) == []
    assert serve(snapshot, ("a", operation("a2")), ("a", release("a"))) == ["a2", "b2", "lock c", "c1"]
    assert serve(snapshot, ("a", operation("a3")), ("c", release("c"))) == ["d1", "a3"]
    assert snapshot.is_empty


def test_a_request_is_taken_back_whether_it_was_granted_or_not() -> None:
    snapshot = EntitySnapshot()
    assert serve(snapshot, ("a", lock("a")), ("b", lock("b")), ("c", operation("c1"))) == ["lock a"]
    assert serve(snapshot, ("b", release("b"))) == []
    assert serve(snapshot, ("a", release("a"))) == ["c1"]
    assert serve(snapshot, ("a", release("a")), ("b", release("b"))) == [], "once more harms nothing"
    assert snapshot.is_empty


def test_it_survives_being_stored() -> None:
    snapshot = EntitySnapshot({"value": "1"})
    serve(snapshot, ("a", lock("a")), ("b", lock("b", 7)), ("c", operation("c1")))
    stored = msgspec.json.encode(snapshot)
    again = msgspec.json.decode(stored, type=EntitySnapshot)
    assert again == snapshot
    assert serve(again, ("a", release("a")), ("b", release("b"))) == ["lock b", "c1"]
    assert msgspec.json.encode(EntitySnapshot()) == b"{}"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["call", "lock", "release"])), max_size=30))
def test_nothing_is_lost_nobody_is_passed_over_and_sections_are_whole(steps: list[tuple[str, str]]) -> None:
    """Senders that behave: lock, operate, release. What is served between a grant and its release is the holder's."""
    snapshot, inside, served, sent = EntitySnapshot(), set[str](), list[tuple[str, Any]](), dict[str, list[str]]()
    for number, (who, kind) in enumerate(steps):
        if (kind == "lock") == (who in inside) and kind != "call":
            continue
        inside ^= set() if kind == "call" else {who}
        requests: dict[str, EntityRequest] = {"call": operation(f"{who}{number}"), "lock": lock(who, number), "release": release(who)}
        request = requests[kind]
        sent.setdefault(who, []).append(f"{kind} {number}")
        before = snapshot.holder
        for each in snapshot.admit(who, request):
            owner = each.caller.instance_id if isinstance(each, LockRequested) else each.operation[0]
            served.append((owner, each))
            holder = snapshot.holder
            assert holder is None or owner == holder.instance_id or kind == "release"
        if before is not None and kind == "call" and who == before.instance_id:
            assert served[-1][1] is request, "the holder is served at once"
    for who in sorted(inside):
        served += [(each.operation[0], each) for each in snapshot.admit(who, release(who)) if isinstance(each, OperationRequested)]
    assert snapshot.is_empty
    for who, calls in sent.items():
        mine = [each.operation for owner, each in served if owner == who and isinstance(each, OperationRequested)]
        assert mine == [f"{who}{call.split()[1]}" for call in calls if call.startswith("call")]
