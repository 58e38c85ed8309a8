"""What an entity's state is: all that its object's attributes say, the same after a restart, apart for each key, whole after a failure."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import types
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
import msgspec
import pydantic
import pytest

from durable_core import EntityId, OrchestrationContext, RegistrationError, TaskFailedError, entity, orchestrator
from tests.runtime.support import PATIENCE, engine_with


@orchestrator
async def play(ctx: OrchestrationContext, name: str, key: str, calls: list[Any]) -> list[Any]:
    """Operations one after the other: what each returns, or the message of its failure."""
    seen: list[Any] = []
    for operation, *args in calls:
        try:
            seen.append(await ctx.call_entity(EntityId(name, key), operation, *args))
        except TaskFailedError as error:
            seen.append(f"{error.details.type}: {error.details.message}")
    return seen


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def calls(store, run):
    """Carry out operations on one entity, in a worker that has only just started."""

    def call(cls: Any, *operations: tuple[Any, ...], key: str = "k", name: str | None = None) -> list[Any]:
        engine = engine_with(cls, play)

        async def main() -> Any:
            async with engine.open(store):
                handle = await engine.client.schedule_new_orchestration(play, name or cls.__name__, key, list(operations))
                return await handle.result(PATIENCE)

        return run(main)

    return call


# ── all attributes ────────────────────────────────────────────────────────────────────────────────────────────


class Counting:
    def add(self) -> int:
        self.value += 1  # type: ignore[attr-defined]
        return self.value  # type: ignore[attr-defined]


@entity
class InInit(Counting):
    def __init__(self) -> None:
        self.value: int = 0


@entity
class WithoutAnnotation(Counting):
    value = 0


@entity
class Hidden:
    _value: int = 0
    __mangled = 0

    def add(self) -> int:
        self._value += 1
        self.__mangled += 1
        return self._value if self._value == self.__mangled else -1


@entity
class Slotted(Counting):
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


@entity
class SlottedWithHidden(Slotted):
    __slots__ = ("_twice",)

    def add(self) -> int:
        self._twice = getattr(self, "_twice", 0) + 2
        return super().add() if self._twice == 2 * (self.value + 1) else -1


@entity
@attrs.define
class Attrs(Counting):
    value: int = 0
    _twice: int = 0

    @functools.cached_property
    def cache(self) -> object:
        return object()

    def add(self) -> int:
        assert self.cache
        self._twice += 2
        return super().add() if self._twice == 2 * (self.value + 1) else -1


@entity
@dataclasses.dataclass
class Data(Counting):
    value: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    given: dataclasses.InitVar[int] = 3

    def __post_init__(self, given: int) -> None:
        self.extra = given

    def add(self) -> int:
        self.extra += 1
        return super().add() if self.extra == self.value + 4 else -1


@entity
@dataclasses.dataclass(frozen=True)
class Frozen:
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self) -> int:
        self.notes.append("x")
        return len(self.notes)


@entity
class Struct(msgspec.Struct):
    value: int = 0
    notes: list[str] = []

    def add(self) -> int:
        self.value += 1
        self.notes.append("x")
        return self.value if self.value == len(self.notes) else -1


@entity
class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    value: int = 0
    notes: list[str] = []
    _private: int = pydantic.PrivateAttr(0)

    def add(self) -> int:
        self.value += 1
        self.notes.append("x")
        self._private += 1
        self.more = getattr(self, "more", 0) + 1
        return self.value if self.value == len(self.notes) == self._private == self.more else -1


@entity
class Dynamic:
    def add(self) -> int:
        self.set_nowhere_else = getattr(self, "set_nowhere_else", 0) + 1
        return self.set_nowhere_else


@entity
class Inherited(WithoutAnnotation):
    pass


@pytest.mark.parametrize(
    "cls",
    [InInit, WithoutAnnotation, Hidden, Slotted, SlottedWithHidden, Attrs, Data, Frozen, Struct, Model, Dynamic, Inherited],
    ids=lambda cls: cls.__name__,
)
def test_all_attributes_are_state_wherever_they_are_kept(calls, cls):
    assert calls(cls, ("add",), ("add",)) == [1, 2]
    assert calls(cls, ("add",), ("add",)) == [3, 4]
    assert calls(cls, ("add",), key="another") == [1]


@entity
class Deleting:
    note: str = "of the class"

    def __init__(self) -> None:
        self.draft = "empty"

    def publish(self) -> None:
        del self.draft

    def write(self) -> None:
        self.draft = "new"

    def read(self) -> list[str]:
        return [self.note, getattr(self, "draft", "none")]


def test_an_attribute_that_was_deleted_stays_so(calls):
    assert calls(Deleting, ("publish",), ("read",)) == [None, ["of the class", "none"]]
    assert calls(Deleting, ("read",), ("write",)) == [["of the class", "none"], None]
    assert calls(Deleting, ("read",)) == [["of the class", "new"]]


# ── of each key its own ───────────────────────────────────────────────────────────────────────────────────────

EVERYBODYS: list[str] = []


class Appending:
    def add(self, text: str) -> list[str]:
        self.items.append(text)  # type: ignore[attr-defined]
        return self.items  # type: ignore[attr-defined]

    def fail(self, text: str) -> None:
        self.add(text)
        raise ValueError("not like this")


@entity
class Annotated(Appending):
    items: list[str] = []  # noqa: RUF012  # as a user has it


@entity
class Unannotated(Appending):
    items = []  # type: ignore[var-annotated]  # noqa: RUF012  # as a user has it


@entity
class DefaultArgument(Appending):
    def __init__(self, items: list[str] = []) -> None:  # noqa: B006  # as a user has it
        self.items = items


@entity
class Constant(Appending):
    def __init__(self) -> None:
        self.items = EVERYBODYS


@entity
@attrs.define
class AttrsDefault(Appending):
    items: list[str] = []  # noqa: RUF008  # as a user has it


@pytest.mark.parametrize("cls", [Annotated, Unannotated, DefaultArgument, Constant, AttrsDefault], ids=lambda cls: cls.__name__)
def test_defaults_are_shared_by_nobody_and_no_failure_changes_them(calls, cls):
    failed = "ValueError: not like this"
    assert calls(cls, ("fail", "lost"), ("add", "one"), ("fail", "lost"), ("add", "two")) == [failed, ["one"], failed, ["one", "two"]]
    assert calls(cls, ("add", "of another"), key="another") == [["of another"]]
    assert calls(cls, ("add", "three")) == [["one", "two", "three"]]


@entity
class Reckless:
    """It changes the class's own default, and fails."""

    items: list[str] = []  # noqa: RUF012  # as a user has it

    def fail(self) -> None:
        type(self).items.append("lost")
        raise ValueError("not like this")

    def read(self) -> list[str]:
        return self.items


def test_a_default_of_the_class_is_as_it_was_written(calls):
    assert calls(Reckless, ("fail",), ("read",)) == ["ValueError: not like this", []]


@dataclasses.dataclass
class Line:
    text: str
    count: int = 1


@entity
class Whole:
    lines: list[Line]
    last: Line | None = None

    def __init__(self) -> None:
        self.lines = []
        self.draft = {"a": {"b": [1]}}

    def add(self, text: str) -> None:
        self.last = Line(text)
        self.lines.append(self.last)

    def fail(self) -> None:
        self.lines[0].count = 100
        self.draft["a"]["b"].append(2)
        self.added = True
        del self.last
        raise ValueError("not like this")

    def count(self) -> int:
        assert self.last is not None
        self.last.count += 1
        return self.lines[-1].count

    def read(self) -> list[Any]:
        return [[line.text for line in self.lines], self.lines[0].count, self.draft, hasattr(self, "added"), self.last is not None]


def test_a_failed_operation_is_rolled_back_as_a_whole(calls):
    assert calls(Whole, ("add", "one"), ("fail",), ("read",)) == [
        None,
        "ValueError: not like this",
        [["one"], 1, {"a": {"b": [1]}}, False, True],
    ]


def test_two_attributes_share_an_object_no_longer_than_an_operation(calls):
    """After a restart they would not: so they do not before."""
    assert calls(Whole, ("add", "one"), ("count",)) == [None, 1]
    assert calls(Whole, ("count",)) == [1]


@entity
class Sharing:
    def __init__(self) -> None:
        self.one: list[int] = []
        self.two = self.one

    def add(self) -> list[Any]:
        self.one.append(1)
        return [len(self.one), len(self.two)]


def test_plain_lists_are_not_shared_either(calls):
    first = calls(Sharing, ("add",), ("add",))
    assert first[1] == [2, 1]
    assert calls(Sharing, ("add",)) == [[3, 1]]


# ── what comes back as something else ─────────────────────────────────────────────────────────────────────────


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = "large"


@entity
class Loose:
    texts: list[Any]
    counts: dict[str, int]
    colour: str = ""

    def __init__(self) -> None:
        self.value: Any = None
        self.texts = []
        self.counts = {}

    def put(self, what: str) -> None:
        self.value = VALUES[what]

    def put_inside(self, what: str) -> None:
        self.texts.append(VALUES[what])

    def count(self) -> None:
        self.counts = defaultdict(int)

    def paint(self) -> None:
        self.colour = Colour.RED

    def extend(self) -> None:
        line = Line("one")
        line.more = 1  # type: ignore[attr-defined]
        self.texts = [line]

    def read(self) -> Any:
        return [self.value, self.texts, self.counts, self.colour]


VALUES: dict[str, Any] = {
    "tuple": (1, 2),
    "int keys": {1: "one"},
    "dataclass": Line("one"),
    "dataclasses": [Line("one")],
    "datetime": datetime(2030, 1, 1, tzinfo=UTC),
    "enum": Size.LARGE,
    "text of an enum": [Colour.RED],
    "set": {1},
    "bytes": b"1",
    "nested": {"a": [(1,)]},
    "lock": threading.Lock(),
    "function": lambda: None,
    "object": object(),
    "NaN": float("nan"),
}


@pytest.mark.parametrize("what", list(VALUES))
def test_what_would_come_back_as_something_else_is_refused_by_name(calls, what):
    """And nothing is changed by it."""
    refused, _, _, inside, state = calls(Loose, ("put", what), ("read",), ("read",), ("put_inside", what), ("read",))
    assert refused.startswith("durable_core.errors.PayloadError: attribute 'value' of entity 'loose'")
    assert inside.startswith("durable_core.errors.PayloadError: attribute 'texts' of entity 'loose'")
    assert state == [None, [], {}, ""]


@pytest.mark.parametrize(("operation", "attribute"), [("count", "counts"), ("paint", "colour"), ("extend", "texts")])
def test_what_an_annotation_does_not_say_is_refused_by_name(calls, operation, attribute):
    refused, state = calls(Loose, (operation,), ("read",))
    assert refused.startswith(f"durable_core.errors.PayloadError: attribute '{attribute}' of entity 'loose'")
    assert state == [None, [], {}, ""]


def test_the_refusal_says_what_to_do(calls):
    assert "annotate it in the body of the class" in calls(Loose, ("put", "tuple"))[0]
    assert "come back as list [1, 2] instead of tuple (1, 2)" in calls(Loose, ("put", "tuple"))[0]
    assert "functools.cached_property" in calls(Loose, ("put", "lock"))[0]


@entity
class Typed:
    at: datetime | None = None
    tags: set[str]
    lines: dict[int, Line]
    size: Size = Size.LARGE
    share: float = 0

    def __init__(self) -> None:
        self.tags, self.lines = set(), {}

    def change(self) -> None:
        self.at, self.share = datetime(2030, 1, 1, tzinfo=UTC), 1
        self.tags.add("new")
        self.lines[len(self.lines)] = Line("one")

    def read(self) -> str:
        return repr([self.at, self.tags, self.lines, self.size])


def test_annotated_attributes_travel_by_their_types(calls):
    [_, before] = calls(Typed, ("change",), ("read",))
    assert calls(Typed, ("read",)) == [before]
    assert before == repr([datetime(2030, 1, 1, tzinfo=UTC), {"new"}, {0: Line("one")}, Size.LARGE])


# ── what is no state ──────────────────────────────────────────────────────────────────────────────────────────


@entity
class Machinery:
    limit: ClassVar[int] = 3
    factor: Final = 2
    lock: ClassVar = threading.Lock()
    log = logging.getLogger("machinery")
    RATES = types.MappingProxyType({"EUR": 1})
    ALLOWED = frozenset({"a", "b"})
    NAMES = {"a": Line("one")}  # noqa: RUF012  # as a user has it
    value: int = 0

    @functools.cached_property
    def connection(self) -> Any:
        return threading.Lock()

    @property
    def twice(self) -> int:
        return self.value * self.factor

    def add(self) -> int:
        with self.connection, self.lock:
            self.value += 1
        return self.twice

    def shadow(self, name: str) -> None:
        setattr(self, name, 5)
        self.__dict__[name] = 5


def test_class_variables_properties_methods_and_caches_are_no_state(calls, store, run):
    assert calls(Machinery, ("add",), ("add",)) == [2, 4]
    assert calls(Machinery, ("add",)) == [6]
    engine = engine_with(Machinery)

    async def main() -> Any:
        async with engine.open(store, worker=False):
            [state] = [state async for state in engine.client.query_entities(name="machinery")]
            return state._snapshot.state

    assert run(main) == {"value": "3"}


@pytest.mark.parametrize("name", ["limit", "add"])
def test_what_is_the_classs_own_cannot_be_set_on_an_object(calls, name):
    [refused, then] = calls(Machinery, ("shadow", name), ("add",))
    assert f"attribute '{name}' of entity 'machinery': it cannot be set on an object" in refused
    assert then == 2


class WithLock:
    lock: threading.Lock


class WithLambda:
    rule: Callable[[int], int] = lambda n: n


class WithSharedLock:
    lock = threading.Lock()


class Plain:
    pass


class WithPlainObject:
    stats = Plain()


class OfList(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("cls", "named"),
    [
        (WithLock, "attribute 'lock'"),
        (WithLambda, "attribute 'rule'"),
        (WithSharedLock, "attribute 'lock'"),
        (WithPlainObject, "attribute 'stats'"),
        (OfList, "must not be a list"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_state_is_refused_at_registration(cls, named):
    with pytest.raises(RegistrationError, match=named):
        engine_with(entity(cls))


@entity
class Ahead:
    lines: list[Later]

    def __init__(self) -> None:
        self.lines = []

    def add(self) -> int:
        self.lines.append(Later("one"))
        return len(self.lines)


def test_annotations_may_name_what_is_defined_later(calls):
    assert calls(Ahead, ("add",)) == [1]
    assert calls(Ahead, ("add",)) == [2]


@dataclasses.dataclass
class Later:
    text: str


# ── the class changes ─────────────────────────────────────────────────────────────────────────────────────────


@entity(name="account")
class Before:
    balance: int = 0
    owner: str = "ada"
    total: int = 0

    def add(self) -> int:
        self.balance += 1
        self.total += 1
        return self.balance


@entity(name="account")
class Renamed:
    """``balance`` has another name now, ``total`` is computed, ``limit`` is new."""

    amount: int = 0
    owner: str = "nobody"
    limit: int = 7

    @property
    def total(self) -> int:
        return -1

    def add(self) -> list[Any]:
        self.amount += 1
        return [self.amount, self.owner, self.limit, self.total]


def test_what_the_class_does_not_know_any_more_is_kept_and_told_of(calls, caplog):
    with caplog.at_level(logging.WARNING, "durable_core.engine"):
        assert calls(Before, ("add",), ("add",), name="account") == [1, 2]
        assert not caplog.records
        assert calls(Renamed, ("add",), name="account") == [[1, "ada", 7, -1]]
    [told] = [record.getMessage() for record in caplog.records]
    assert "entity 'account' has a stored attribute 'balance'" in told
    assert calls(Before, ("add",), name="account") == [3]
