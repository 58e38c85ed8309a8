"""``JsonConverter``: what travels, exactly how, and what is refused."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import functools
import json
import math
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
    cast,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_core.converter import Compiled, JsonConverter, compiled
from durable_core.errors import PayloadError

T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Shape(enum.Enum):
    SQUARE = (1, 1)
    PRICE = Decimal("1.50")


class Lenient(enum.Enum):
    KNOWN = "known"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.OTHER


@attrs.frozen
class Item:
    name: str
    price: Decimal


@attrs.define
class Order:
    id: int
    items: list[Item]
    note: str | None = None
    _secret: int = attrs.field(default=0, alias="secret")
    total: int = attrs.field(init=False, default=0)


@attrs.frozen
class RushOrder(Order):
    hours: int = 1


@attrs.frozen
class SameItem(Item):
    pass


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)
    next: Node | None = None


@dataclasses.dataclass(frozen=True)
class Derived:
    a: int
    b: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "b", self.a + 1)


@attrs.frozen
class Positive:
    n: int = attrs.field(validator=attrs.validators.gt(0))


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T]


@attrs.define
class Pair(Generic[T]):
    left: T
    right: Box[T]


@dataclasses.dataclass
class IntBox(Box[int]):
    label: str = ""


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: Decimal


@attrs.frozen
class Card:
    number: str
    kind: Literal["card"] = "card"


@attrs.frozen
class Cash:
    number: str
    kind: Literal["cash"] = "cash"


@dataclasses.dataclass
class Opened:
    n: int
    state: Literal["opened"] = "opened"


@dataclasses.dataclass
class Closed:
    n: int
    state: Literal["closed"] = "closed"


@dataclasses.dataclass
class Half:
    m: int
    state: Literal["opened", "half"] = "half"


class ByEnum(NamedTuple):
    n: int
    state: Literal[Color.RED] = Color.RED


class Outer(TypedDict, total=False):
    a: Annotated[Required[int], "why"]
    b: Annotated[list[int], "why not"]


class Ambiguous(enum.Enum):
    ONE = (1, 2)
    TWO = frozenset({1, 2})


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Rectangle:
    width: float
    height: float


@dataclasses.dataclass
class Misspelt:
    when: datetme  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class WithCallback:
    call: Callable[[], None]


class Email(str):
    pass


CONVERTER = JsonConverter()
NOT_DECIMAL = cast(Decimal, 3.5)
ID = UUID("12345678-1234-5678-1234-567812345678")
TAGGED = Card | Cash

# (type hint, value, text): ``decode(text)`` equals the value and has its type.
TRAVELS: list[tuple[Any, Any, str | None]] = [
    (int, 5, "5"),
    (int, -(2**200), str(-(2**200))),
    (int, 2**63, "9223372036854775808"),
    (int, -(2**63) - 1, "-9223372036854775809"),
    (list[int], [2**64, 1], "[18446744073709551616,1]"),
    (Any, [2**64], "[18446744073709551616]"),
    (dict[str, int], {"a": 10**30}, '{"a":1000000000000000000000000000000}'),
    (bool, True, "true"),
    (None, None, "null"),
    (type(None), None, "null"),
    (float, 1.5, "1.5"),
    (float, 1e300, "1e300"),
    (float, -0.0, "-0.0"),
    (str, "é\x00\u2028😀", '"é\\u0000\u2028😀"'),
    (bytes, b"\x00\xff", '"AP8="'),
    (bytes, b"", '""'),
    (Decimal, Decimal("1.50"), '"1.50"'),
    (Decimal, Decimal("-1E+400"), '"-1E+400"'),
    (UUID, ID, f'"{ID}"'),
    (datetime, datetime(2024, 1, 2, 3, 4, 5, 6), '"2024-01-02T03:04:05.000006"'),  # noqa: DTZ001
    (datetime, datetime(2024, 1, 2, tzinfo=UTC), '"2024-01-02T00:00:00+00:00"'),
    (datetime, datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=7))), '"2024-01-02T00:00:00-02:59:53"'),
    (date, date(2024, 1, 2), '"2024-01-02"'),
    (time, time(1, 2, 3, 4), '"01:02:03.000004"'),
    (time, time(1, 2, tzinfo=UTC), '"01:02:00+00:00"'),
    (timedelta, timedelta(days=3, seconds=5, microseconds=7), '"P3DT5.000007S"'),
    (timedelta, timedelta(microseconds=-1), '"-PT0.000001S"'),
    (timedelta, timedelta.min, '"-P999999999D"'),
    (Path, Path("/a/b"), '"/a/b"'),
    (PurePosixPath, PurePosixPath("x"), '"x"'),
    (Color, Color.RED, '"red"'),
    (Level, Level.HIGH, "2"),
    (Mood, Mood.GOOD, '"good"'),
    (Access, Access.READ | Access.WRITE, "3"),
    (Access, Access(0), "0"),
    (Shape, Shape.SQUARE, "[1,1]"),
    (Shape, Shape.PRICE, '"1.50"'),
    (Literal["a", 1, True, None], True, "true"),
    (Literal["a", 1, True, None], 1, "1"),
    (Literal["a", 1, True, None], None, "null"),
    (Literal[Color.RED], Color.RED, '"red"'),
    (list[int], [1, 2], "[1,2]"),
    (list, [1, "a", None, 1.5], '[1,"a",null,1.5]'),
    (list[Any], [1, [True]], "[1,[true]]"),
    (Sequence[int], [1], "[1]"),
    (MutableSequence[Decimal], [Decimal(1)], '["1"]'),
    (tuple[int, str], (1, "a"), '[1,"a"]'),
    (tuple[int, ...], (1, 2, 3), "[1,2,3]"),
    (tuple[()], (), "[]"),
    (tuple, (1, "a"), '[1,"a"]'),
    (set[int], {10, 9, 1}, "[1,10,9]"),
    (frozenset[Color], frozenset(Color), '["green","red"]'),
    (set[tuple[int, str]], {(2, "b"), (1, "z")}, '[[1,"z"],[2,"b"]]'),
    (AbstractSet[str], frozenset({"b", "a"}), '["a","b"]'),
    (dict[str, int], {"b": 1, "a": 2}, '{"b":1,"a":2}'),
    (dict, {"a": [1]}, '{"a":[1]}'),
    (dict[int, str], {5: "x"}, '{"5":"x"}'),
    (dict[bool, int], {True: 1}, '{"true":1}'),
    (dict[float, int], {1.5: 1}, '{"1.5":1}'),
    (dict[Color, int], {Color.RED: 1}, '{"red":1}'),
    (dict[Level, int], {Level.LOW: 1}, '{"1":1}'),
    (dict[UUID, int], {ID: 1}, f'{{"{ID}":1}}'),
    (dict[date, Decimal], {date(2024, 1, 1): Decimal(2)}, '{"2024-01-01":"2"}'),
    (dict[Literal["x", "y"], int], {"x": 1}, '{"x":1}'),
    (Mapping[str, Item], {"a": Item("n", Decimal(1))}, '{"a":{"name":"n","price":"1"}}'),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (int | str, 5, "5"),
    (int | str, "5", '"5"'),
    (float | int, 5, "5"),
    (float | int, 5.0, "5.0"),
    (Optional[Any], None, "null"),  # noqa: UP045
    (Optional[Any], [5], "[5]"),  # noqa: UP045
    (Optional[datetime], None, "null"),  # noqa: UP045
    (Union[datetime, None], datetime(2024, 1, 2, tzinfo=UTC), '"2024-01-02T00:00:00+00:00"'),  # noqa: UP007
    (datetime | date | time | timedelta | UUID | Decimal | int, date(2024, 1, 2), '"2024-01-02"'),
    (datetime | date | time | timedelta | UUID | Decimal | int, datetime(2024, 1, 2, tzinfo=UTC), '"2024-01-02T00:00:00+00:00"'),
    (datetime | date | time | timedelta | UUID | Decimal | int, time(20), '"20:00:00"'),
    (datetime | date | time | timedelta | UUID | Decimal | int, Decimal("20240102"), '"20240102"'),
    (datetime | date | time | timedelta | UUID | Decimal | int, timedelta(0), '"P0D"'),
    (datetime | date | time | timedelta | UUID | Decimal | int, ID, f'"{ID}"'),
    (Literal["auto"] | int, "auto", '"auto"'),
    (Literal["auto"] | str, "auto", '"auto"'),
    (Color | int | None, Color.GREEN, '"green"'),
    (list[int] | int | None, [1], "[1]"),
    (Item | str, Item("a", Decimal(1)), '{"name":"a","price":"1"}'),
    (TAGGED, Cash("1"), '{"number":"1","kind":"cash"}'),
    (TAGGED, Card("1"), '{"number":"1","kind":"card"}'),
    (Opened | Closed, Closed(1), '{"n":1,"state":"closed"}'),
    (Union[ByEnum, Opened], ByEnum(2), '{"n":2,"state":"red"}'),  # noqa: UP007
    (Union[ByEnum, Opened], Opened(2), '{"n":2,"state":"opened"}'),  # noqa: UP007
    (Opened | Half, Half(1), '{"m":1,"state":"half"}'),
    (Point | Node, Point(1, 2), '{"x":1,"y":2}'),
    (Annotated[Outer, "x"], {"a": 1}, '{"a":1}'),
    (Circle | Rectangle | None, Rectangle(1.0, 2.0), '{"width":1.0,"height":2.0}'),
    (list[Circle | Rectangle], [Circle(1.0)], '[{"radius":1.0}]'),
    (Item, Item("a", Decimal("2.0")), '{"name":"a","price":"2.0"}'),
    (Order, Order(1, [], secret=3), '{"id":1,"items":[],"note":null,"_secret":3,"total":0}'),
    (Node, Node(1, [Node(2)], Node(3)), None),
    (Derived, Derived(1), '{"a":1,"b":2}'),
    (Box[int], Box(1, [2]), '{"content":1,"more":[2]}'),
    (Box[list[Item]], Box([Item("a", Decimal(1))], []), '{"content":[{"name":"a","price":"1"}],"more":[]}'),
    (Pair[Decimal], Pair(Decimal(1), Box(Decimal(2), [])), '{"left":"1","right":{"content":"2","more":[]}}'),
    (IntBox, IntBox(1, [2], "x"), '{"content":1,"more":[2],"label":"x"}'),
    (Box, Box(1, ["a"]), '{"content":1,"more":["a"]}'),
    (Point, Point(1, 2), '{"x":1,"y":2}'),
    (Movie, {"title": "t"}, '{"title":"t"}'),
    (Movie, {"title": "t", "year": 1}, '{"title":"t","year":1}'),
    (Partial, {"a": 1, "b": Decimal(1)}, '{"a":1,"b":"1"}'),
    (UserId, UserId(5), "5"),
    (dict[UserId, Annotated[int, "a count"]], {UserId(5): 5}, '{"5":5}'),
    (Final[int], 5, "5"),
    (T, [1], "[1]"),
    (object, {"a": 1}, '{"a":1}'),
    (Any, {"a": [1, 1.5, True, None, "x"]}, '{"a":[1,1.5,true,null,"x"]}'),
]


def same(one: Any, other: Any) -> bool:
    """Equal is not enough: Decimal("1.50") == Decimal("1.5"), 0.0 == -0.0."""
    return type(one) is type(other) and one == other and (not isinstance(one, float | Decimal) or str(one) == str(other))


@pytest.mark.parametrize(("hint", "value", "text"), TRAVELS)
def test_travels_exactly(hint: Any, value: Any, text: str | None) -> None:
    written = CONVERTER.encode(value, hint)
    assert text is None or written == text
    assert same(CONVERTER.decode(written, hint), value)
    assert CONVERTER.encode(CONVERTER.decode(written, hint), hint) == written
    json.loads(written)


# Read back as something else on purpose: the hint says less than the value.
@pytest.mark.parametrize(
    ("hint", "value", "text", "read"),
    [
        (float, 3, "3.0", 3.0),
        (int, Level.LOW, "1", 1),
        (str, Mood.GOOD, '"good"', "good"),
        (str, Email("a@b"), '"a@b"', "a@b"),
        (Sequence[int], (1, 2), "[1,2]", [1, 2]),
        (Sequence[int], range(2), "[0,1]", [0, 1]),
        (Mapping[str, int], collections.OrderedDict(a=1), '{"a":1}', {"a": 1}),
        (dict[str, int], collections.defaultdict(int, a=1), '{"a":1}', {"a": 1}),
        (tuple[int, int], Point(1, 2), "[1,2]", (1, 2)),
        (Any, Item("a", Decimal(1)), '{"name":"a","price":"1"}', {"name": "a", "price": "1"}),
        (Any, [Color.RED, Decimal(1), date(2024, 1, 1)], '["red","1","2024-01-01"]', ["red", "1", "2024-01-01"]),
        (Any, (1, {2, 1}), "[1,[1,2]]", [1, [1, 2]]),
        (Any, {"a": Point(1)}, '{"a":{"x":1,"y":0}}', {"a": {"x": 1, "y": 0}}),
        (Any, Email("a@b"), '"a@b"', "a@b"),
        (Any, collections.Counter("aab"), '{"a":2,"b":1}', {"a": 2, "b": 1}),
        (Any, Path("/a"), '"/a"', "/a"),
        (object, Mood.GOOD, '"good"', "good"),
        (dict[str, Any], {"a": ID}, f'{{"a":"{ID}"}}', {"a": str(ID)}),
        (
            datetime,
            datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris")),
            '"2024-07-01T00:00:00+02:00"',
            datetime.fromisoformat("2024-07-01T00:00+02:00"),
        ),
    ],
)
def test_travels_as_what_the_hint_says(hint: Any, value: Any, text: str, read: Any) -> None:
    assert CONVERTER.encode(value, hint) == text
    assert same(CONVERTER.decode(text, hint), read)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "5"),
        (int, 5.0),
        (int, True),
        (int, None),
        (int, Decimal(5)),
        (float, "5"),
        (float, True),
        (float, math.nan),
        (float, math.inf),
        (float, -math.inf),
        (float, 2**53 + 1),
        (float, 10**400),
        (float, Decimal("1.5")),
        (bool, 1),
        (bool, "true"),
        (str, 5),
        (str, b"a"),
        (str, None),
        (str, "\ud800"),
        (Any, {"\udfff": 1}),
        (set[str], {"\ud800"}),
        (Path, Path("\udcff")),
        (Any, math.nan),
        (Any, [{"a": math.inf}]),
        (Any, {5: 1}),
        (Any, object()),
        (Any, test_travels_exactly),
        (Any, int),
        (Any, 1 + 2j),
        (None, 0),
        pytest.param(int, 10**5_000, id="an int of 5,000 digits"),
        (bytes, "a"),
        (bytes, bytearray(b"a")),
        (Decimal, 1),
        (Decimal, 1.5),
        (Decimal, "1.5"),
        (Decimal, Decimal("NaN")),
        (Decimal, Decimal("sNaN")),
        (Decimal, Decimal("Infinity")),
        (datetime, "2024-01-01"),
        (datetime, date(2024, 1, 1)),
        (date, datetime(2024, 1, 1, tzinfo=UTC)),
        (UUID, str(ID)),
        (Path, "/a"),
        (timedelta, 5),
        (Color, "red"),
        (Color, Mood.GOOD),
        (Level, 1),
        (Literal[1], True),
        (Literal[1], 1.0),
        (Literal["a"], ["a"]),
        (list[int], (1,)),
        (list[int], {1}),
        (list[int], "12"),
        (list[str], "ab"),
        (Sequence[str], "ab"),
        (list[int], [1, "2"]),
        (list[int], [True]),
        (list[float], [1.0, math.nan]),
        (tuple[int, str], [1, "a"]),
        (tuple[int, str], (1,)),
        (tuple[int, ...], [1]),
        (set[int], [1]),
        (set[int], frozenset({1})),
        (set[int], {"1"}),
        (dict[str, int], {1: 1}),
        (dict[int, int], {"1": 1}),
        (dict[int, int], {True: 1}),
        (dict[str, int], [("a", 1)]),
        (dict[str, float], {"a": math.nan}),
        (int | str, 1.5),
        (int | str, True),
        (int | None, "x"),
        (Circle | Rectangle, Item("a", Decimal(1))),
        (Item, {"name": "a", "price": Decimal(1)}),
        (Item, Item("a", NOT_DECIMAL)),
        (Item, SameItem("a", Decimal(1))),
        (Order, RushOrder(1, [])),
        (Point, (1, 2)),
        (Movie, {}),
        (Movie, {"title": "t", "yaer": 1}),
        (Movie, Item("a", Decimal(1))),
        (Outer, {"b": [1]}),
        (Mapping[str, int], collections.UserDict({"b": "x"})),
        (dict[Path, int], {PurePosixPath("a"): 1}),
        (dict[Color, int], {Mood.GOOD: 1}),
        (Derived, object.__new__(Derived)),
        (Box[int], Box("a", [])),
        (UserId, "5"),
    ],
)
def test_refuses_to_write(hint: Any, value: Any) -> None:
    with pytest.raises(PayloadError, match=r"^cannot encode"):
        CONVERTER.encode(value, hint)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (int, '"5"'),
        (int, "5.0"),
        (int, "5.7"),
        (int, "true"),
        (int, "null"),
        (int, "1e3"),
        (float, '"5"'),
        (float, "true"),
        (float, "NaN"),
        (float, "1e999"),
        (float, "1" + "0" * 400),
        (bool, "1"),
        (bool, "0"),
        (bool, '"true"'),
        (str, "5"),
        (str, "null"),
        (str, '"\\ud800"'),
        (None, "false"),
        (bytes, '"a"'),
        (bytes, '"YQ==YQ=="'),
        (bytes, '"Y Q=="'),
        (bytes, '"é"'),
        (bytes, "[1]"),
        (Decimal, "1.5"),
        (Decimal, "1"),
        (Decimal, '"x"'),
        (Decimal, '"NaN"'),
        (Decimal, '"Infinity"'),
        (datetime, "1704067200"),
        (datetime, '"2024-01-01"'),
        (datetime, '"yesterday"'),
        (date, '"2024-01-01T00:00:00"'),
        (date, '"20240101"'),
        (date, '"2024-13-01"'),
        (time, '"12"'),
        (timedelta, "5"),
        (timedelta, '"5"'),
        (UUID, '"1234567812345678123456781234567x"'),
        (Path, "5"),
        (Color, '"RED"'),
        (Color, "1"),
        (Level, '"1"'),
        (Level, "1.0"),
        (Level, "true"),
        (Access, "true"),
        (Access, "4"),
        (Literal[1], "true"),
        (Literal[1], "1.0"),
        (Literal[True], "1"),
        (list[int], '"abc"'),
        (list[str], '"abc"'),
        (list[int], '["5"]'),
        (list[int], "{}"),
        (tuple[int, str], '[1,"a",2]'),
        (tuple[int, str], "[1]"),
        (tuple[int, ...], '"12"'),
        (set[int], "5"),
        (set[list[int]], "[[1]]"),
        (dict[str, int], '{"a":"1"}'),
        (dict[str, int], "[]"),
        (dict[int, int], '{"a":1}'),
        (dict[int, int], '{"1.0":1}'),
        (dict[int, int], '{"true":1}'),
        (dict[Color, int], '{"blue":1}'),
        (int | str, "1.5"),
        (int | str, "true"),
        (int | None, '"5"'),
        (Circle | Rectangle, '{"side":1}'),
        (Circle | Rectangle, "[]"),
        (TAGGED, '{"number":"1","kind":"cheque"}'),
        (Item, '{"name":"a"}'),
        (Item, '["a","1"]'),
        (Positive, '{"n":0}'),
        (Point, "[1,2]"),
        (Movie, '{"year":1}'),
        (Partial, "{}"),
        (Box[int], '{"content":"a","more":[]}'),
        (int, ""),
        (int, "5 5"),
        (int, "{"),
        (Any, "[1,]"),
    ],
)
def test_refuses_to_read(hint: Any, text: str) -> None:
    with pytest.raises(PayloadError, match=r"^cannot decode"):
        CONVERTER.decode(text, hint)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (
            Order,
            Order(1, [Item("a", Decimal(1))] * 3 + [Item("b", NOT_DECIMAL)]),
            "cannot encode Order.items[3].price: expected Decimal, got float (3.5)",
        ),
        (
            Order,
            Order(1, [], "x\ud800"),
            "cannot encode Order.note: 'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed",
        ),
        (
            Order,
            RushOrder(1, []),
            "cannot encode Order: expected Order, got RushOrder, of which hours would be lost; annotate the subclass, or a union that has it",
        ),
        (dict[str, list[int]], {"a b": [1, "x"]}, "cannot encode dict[str, list[int]]['a b'][1]: expected int, got str ('x')"),
        (dict[int, int], {"x": 1}, "cannot encode dict[int, int]['x']: expected int, got str ('x')"),
        (set[int], {"x"}, "cannot encode set[int]{…}: expected int, got str ('x')"),
        (tuple[int, str], (1, 2), "cannot encode tuple[int, str][1]: expected str, got int (2)"),
        (int | None, "x", "cannot encode int | None: expected int | None, got str ('x')"),
        (Item | None, Item("a", cast(Decimal, 1)), "cannot encode Item | None.price: expected Decimal, got int (1)"),
        (Movie, {"title": 5}, "cannot encode Movie.title: expected str, got int (5)"),
        (Movie, {}, "cannot encode Movie.title: it is required, and missing"),
        (Movie, {"title": "", "x": 1}, "cannot encode Movie: expected Movie, got dict, of which x would be lost"),
        (int, None, "cannot encode int: expected int, got None"),
        (float, math.nan, "cannot encode float: expected a finite float, or an int that is equal to one, got float (nan)"),
        (
            Any,
            {"a": {5: 1}},
            "cannot encode value['a'][5]: a JSON key is a string, and no hint says how to read back int: annotate it, as in dict[int, …]",
        ),
        (
            Any,
            [1 + 2j],
            (
                "cannot encode value[0]: there is no rule for complex: use a dataclass or an attrs class, "
                "or register hooks for it (JsonConverter.cattrs)"
            ),
        ),
    ],
)
def test_messages_of_encode_name_type_and_place(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.encode(value, hint)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("hint", "text", "message"),
    [
        (Order, '{"id":1,"items":[{"name":"a","price":1}]}', "cannot decode Order.items[0].price: expected Decimal, got int (1)"),
        (Order, '{"id":1}', "cannot decode Order.items: it is required, and missing"),
        (Positive, '{"n":0}', "cannot decode Positive: Positive raised ValueError: 'n' must be > 0: 0"),
        (dict[int, int], '{"a":1}', "cannot decode dict[int, int]['a']: expected int, got str ('a')"),
        (Circle | Rectangle, "{}", "cannot decode Circle | Rectangle: expected Circle | Rectangle, got dict ({})"),
        (Box[int], '{"content":1,"more":["x"]}', "cannot decode Box[int].more[0]: expected int, got str ('x')"),
    ],
)
def test_messages_of_decode_name_type_and_place(hint: Any, text: str, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.decode(text, hint)
    assert str(caught.value) == message


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.encode("x" * 100_000, int)
    assert len(str(caught.value)) < 120


def test_the_cause_is_the_users_exception() -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.decode('{"n":0}', Positive)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(PayloadError) as caught:
        CONVERTER.decode('"x"', int)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (Callable[[int], str], "there is no rule for Callable[[int], str]"),
        (WithCallback, "no payload can have the type WithCallback.call: there is no rule for Callable[[], None]"),
        (list[WithCallback], "no payload can have the type list[WithCallback].call: there is no rule"),
        (type[int], "there is no rule for type[int]"),
        (Email, "there is no rule for Email"),
        (threading.Thread, "there is no rule for Thread"),
        (collections.deque[int], "there is no rule for deque[int]"),
        (dict[tuple[int, int], str], "tuple[int, int] cannot be the key of a JSON object"),
        (dict[int | str, str], "int | str cannot be the key of a JSON object"),
        (dict[str | None, str], "str | None cannot be the key of a JSON object"),
        (Misspelt, "the type hints of Misspelt cannot be resolved: name 'datetme' is not defined"),
        ("Item", "there is no rule for 'Item'"),
        ([int], "is not a type"),
        (Annotated[int, []], "has metadata that cannot be hashed"),
        (5, "there is no rule for 5"),
    ],
)
def test_types_that_cannot_travel_are_refused_when_compiled(hint: Any, message: str) -> None:
    with pytest.raises(PayloadError, match=r"^no payload can have the type") as caught:
        CONVERTER.compiled(hint)
    assert message in str(caught.value)
    with pytest.raises(PayloadError):  # again: a failed compilation leaves nothing half made
        CONVERTER.compiled(hint)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (str | datetime, datetime(2024, 1, 1, tzinfo=UTC), "what datetime writes, str could read as something else: give "),
        (datetime | str, "2024-01-01T00:00:00", "what str writes, datetime could read as something else: give "),
        (str | bytes, b"a", "what bytes writes, str could read"),
        (Path | str, "a", "what str writes, Path could read"),
        (Color | str, Color.RED, "what Color writes, str could read"),
        (Color | str, "red", "what str writes, Color could read"),
        (Level | int, 1, "what int writes, Level could read"),
        (Literal["P1D"] | timedelta, "P1D", "what Literal['P1D'] writes, timedelta could read"),
        (list[int] | set[int], {1}, "what set[int] writes, list[int] could read"),
        (list[int] | tuple[int, ...], [1], "what list[int] writes, tuple[int, ...] could read"),
        (Item | dict[str, str], Item("a", Decimal(1)), "what Item writes, dict[str, str] could read"),
        (Item | Any, {"name": "a", "price": "1"}, "what value writes, Item could read"),
        (
            Item | SameItem,
            Item("a", Decimal(1)),
            "what Item writes, SameItem could read as something else: give the classes a common field",
        ),
        (list[Box[int] | None], [None, Box(1, ["a"])], "[1].more[0]: expected int, got str ('a')"),  # type: ignore[misc]
    ],
)
def test_what_another_member_of_a_union_would_read_is_refused(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        CONVERTER.encode(value, hint)
    assert message in str(caught.value)


def test_members_of_a_union_may_overlap_where_the_value_does_not() -> None:
    for hint, value in [
        (datetime | str, "tomorrow"),
        (Color | str, "blue"),
        (Item | Movie, {"title": "t"}),
        (Box[int] | Box[str], Box("a", ["b"])),
        (Opened | Half | Closed, Half(1)),
    ]:
        assert same(CONVERTER.decode(CONVERTER.encode(value, hint), hint), value)


def test_enum_members_that_are_the_same_json_are_refused() -> None:
    with pytest.raises(PayloadError, match="cannot encode Ambiguous: expected Ambiguous, got Ambiguous"):
        CONVERTER.encode(Ambiguous.ONE, Ambiguous)


def test_a_type_that_failed_to_compile_leaves_no_half_made_forms() -> None:
    @dataclasses.dataclass
    class Good:
        bad: Bad | None
        n: int

    @dataclasses.dataclass
    class Bad:
        good: Good
        call: Callable[[], None]

    Good.__annotations__["bad"] = Bad | None
    Bad.__annotations__["good"] = Good
    for _ in range(2):
        with pytest.raises(PayloadError, match="no rule for Callable"):
            CONVERTER.compiled(Good)


def test_unknown_keys_are_ignored_and_missing_ones_take_their_default() -> None:
    assert CONVERTER.decode('{"name":"a","price":"1","colour":"red"}', Item) == Item("a", Decimal(1))
    assert CONVERTER.decode('{"id":1,"items":[]}', Order) == Order(1, [])
    assert CONVERTER.decode('{"x":1,"z":3}', Point) == Point(1, 0)
    assert CONVERTER.decode('{"title":"t","z":3}', Movie) == {"title": "t"}


def test_an_enum_may_know_what_to_do_with_unknown_values() -> None:
    assert CONVERTER.decode('"new"', Lenient) is Lenient.OTHER
    with pytest.raises(PayloadError):
        CONVERTER.decode("5", Lenient)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadError, match="contains itself"):
        CONVERTER.encode(loop)
    node = Node(1)
    node.next = node
    with pytest.raises(PayloadError, match="contains itself"):
        CONVERTER.encode(node, Node)


def test_an_int_with_more_digits_than_python_writes_is_refused() -> None:
    with pytest.raises(PayloadError, match=r"cannot encode value\[1\].a: Exceeds the limit"):
        CONVERTER.encode([1, {"a": 10**5000}])
    for hint, value in [(set[int], {10**5000}), (dict[int, int], {10**5000: 1})]:
        with pytest.raises(PayloadError, match="Exceeds the limit"):
            CONVERTER.encode(value, hint)


class Precise(datetime):
    """Writes what ``datetime`` cannot read, as pandas.Timestamp does."""

    def isoformat(self, *_: Any) -> str:
        return super().isoformat() + "+nonsense"


class Later(datetime):
    pass


def test_instances_of_subclasses_are_taken_if_nothing_is_lost() -> None:
    assert CONVERTER.encode(Later(2024, 1, 1), datetime) == '"2024-01-01T00:00:00"'
    assert CONVERTER.encode(Precise(2024, 1, 1), datetime) == '"2024-01-01T00:00:00"'
    assert CONVERTER.encode(Later(2024, 1, 1), datetime | None) == '"2024-01-01T00:00:00"'
    with pytest.raises(PayloadError, match="expected date, got Later"):
        CONVERTER.encode(Later(2024, 1, 1), date)


def test_a_recursive_type_compiles_from_many_threads_at_once() -> None:
    for _ in range(20):
        converter = JsonConverter()
        barrier = threading.Barrier(4)
        texts: list[str] = []

        def work(converter: JsonConverter = converter, barrier: threading.Barrier = barrier, texts: list[str] = texts) -> None:
            barrier.wait()
            texts.append(converter.encode(Node(1, [Node(2)]), Node))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == [CONVERTER.encode(Node(1, [Node(2)]), Node)] * 4


def test_text_that_is_nested_very_deeply_is_read_or_refused() -> None:
    text = "[" * 50_000 + "]" * 50_000
    with contextlib.suppress(PayloadError):
        CONVERTER.decode(text)
    with pytest.raises(PayloadError):
        CONVERTER.decode(text, Node)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement")
def test_type_aliases_and_classes_of_python_312(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("of_python_312")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(  # noqa: S102
        "import dataclasses\n"
        "type Tree = list[Tree] | int\n"
        "type Two[T] = tuple[T, T]\n"
        "@dataclasses.dataclass\n"
        "class Cell[T]:\n    value: T\n    next: Cell[T] | None = None\n"
        "@dataclasses.dataclass\n"
        "class Sub[U](Cell[list[U]]):\n    more: U | None = None\n",
        vars(module),
    )
    tree, two, cell, sub = (getattr(module, name) for name in ("Tree", "Two", "Cell", "Sub"))
    assert CONVERTER.decode(CONVERTER.encode([1, [2, [3]]], tree), tree) == [1, [2, [3]]]
    with pytest.raises(PayloadError, match="cannot encode "):
        CONVERTER.encode([1, ["x"]], tree)
    assert CONVERTER.decode('["1","2"]', two[Decimal]) == (Decimal(1), Decimal(2))
    value = cell(Decimal(1), cell(Decimal(2)))
    assert CONVERTER.decode(CONVERTER.encode(value, cell[Decimal]), cell[Decimal]) == value
    assert CONVERTER.decode('{"value":["1"],"next":null,"more":"2"}', sub[Decimal]) == sub([Decimal(1)], None, Decimal(2))


def test_an_init_var_without_default_is_refused_when_compiled() -> None:
    @dataclasses.dataclass
    class Lossy:
        a: int
        seed: dataclasses.InitVar[int]

    Lossy.__annotations__.update(a=int, seed=dataclasses.InitVar[int])
    with pytest.raises(PayloadError, match="its constructor needs seed, which no field keeps"):
        CONVERTER.compiled(Lossy)


# ── pydantic ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_pydantic_models_travel_by_their_own_rules() -> None:
    pydantic = pytest.importorskip("pydantic")
    fields = {
        "n": (int, ...),
        "price": (Decimal, Decimal(1)),
        "at": (datetime | None, None),
        "name": (str, pydantic.Field("x", alias="Name")),
    }
    model = pydantic.create_model("Model", **fields)
    larger = pydantic.create_model("Larger", __base__=model, more=(int, 1))
    root = pydantic.create_model("Root", __base__=pydantic.RootModel[list[float]])
    value = model(n=5, price="1.50", at=datetime(2024, 1, 1, tzinfo=UTC), Name="é")
    text = CONVERTER.encode(value, model)
    assert text == '{"n":5,"price":"1.50","at":"2024-01-01T00:00:00Z","Name":"é"}'
    assert CONVERTER.decode(text, model) == value
    assert CONVERTER.decode(
        CONVERTER.encode([value, None], of(list, Optional.__getitem__(model))), of(list, Optional.__getitem__(model))
    ) == [value, None]
    assert CONVERTER.encode({"m": value}) == f'{{"m":{text}}}'
    assert CONVERTER.decode("[1.5]", root) == root([1.5])
    for hint, native, message in [
        (
            model,
            '{"n":"5"}',
            "cannot decode Model: Model raised ValidationError: 1 validation error for Model\nn\n  Input should be a valid integer",
        ),
        (
            of(list, model),
            '[{"n":1,"price":1.5,"at":"x"}]',
            "cannot decode list[Model][0]: Model raised ValidationError: 1 validation error for Model\nat\n",
        ),
        (model, "{}", "cannot decode Model: Model raised ValidationError: 1 validation error for Model\nn\n  Field required"),
        (model, "5", "cannot decode Model: Model raised ValidationError: "),
    ]:
        with pytest.raises(PayloadError, match=r"^" + re.escape(message)):
            CONVERTER.decode(native, hint)
    for hint, bad in [(model, {"n": 5}), (model, larger(n=1)), (root, root([math.nan]))]:
        with pytest.raises(PayloadError, match=r"^cannot encode "):
            CONVERTER.encode(bad, hint)


# ── the same text always ──────────────────────────────────────────────────────────────────────────────────────


def test_the_text_does_not_depend_on_the_process() -> None:
    program = (
        "from durable_core.converter import JsonConverter\n"
        "print(JsonConverter().encode({'k': {'b', 'a', 'c', 'xyz'}, 'j': frozenset('hello')}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert texts == {'{"k":["a","b","c","xyz"],"j":["e","h","l","o"]}\n'}


# ── hooks of the user ─────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Money:
    cents: int


class Opaque:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.n == self.n

    def __hash__(self) -> int:
        return hash(self.n)


@dataclasses.dataclass
class Purse:
    contents: list[Money]
    key: Opaque | None = None


def with_hooks() -> JsonConverter:
    converter = JsonConverter()
    assert converter.encode(Money(5), Money) == '{"cents":5}'  # what was compiled before is forgotten
    hooks = converter.cattrs
    hooks.register_unstructure_hook(Money, lambda money: f"{money.cents} ct")
    hooks.register_structure_hook(Money, lambda text, _: Money(int(text.removesuffix(" ct"))))
    hooks.register_unstructure_hook(Opaque, lambda opaque: [opaque.n])
    hooks.register_structure_hook(Opaque, lambda native, _: Opaque(hooks.structure(native, list[int])[0]))
    return converter


def test_the_registry_of_hooks_changes_nothing_while_it_is_empty() -> None:
    converter = JsonConverter()
    assert converter.cattrs is converter.cattrs
    for hint, value, _ in TRAVELS:
        text = CONVERTER.encode(value, hint)
        assert converter.encode(value, hint) == text
        assert same(converter.decode(text, hint), value)
    for hint, bad in [(int, True), (Level, 1), (Path, "x"), (bytes, "x"), (list[int], (1,)), (Item, {})]:
        with pytest.raises(PayloadError):
            converter.encode(bad, hint)
    for hint, text in [(int, '"1"'), (Level, "true"), (Path, "1"), (Lenient, "5"), (list[int], '"1"'), (Email, '"x"')]:
        with pytest.raises(PayloadError):
            converter.decode(text, hint)


def test_hooks_of_the_user_apply_at_any_depth() -> None:
    converter = with_hooks()
    purse = Purse([Money(5)], Opaque(3))
    text = converter.encode(purse, Purse)
    assert text == '{"contents":["5 ct"],"key":[3]}'
    assert converter.decode(text, Purse) == purse
    assert converter.encode({"m": Money(1)}) == '{"m":"1 ct"}'
    assert converter.encode({Money(1): 1}, dict[Money, int]) == '{"1 ct":1}'
    assert converter.decode('{"1 ct":1}', dict[Money, int]) == {Money(1): 1}


def test_hooks_of_the_user_are_held_to_json_and_their_errors_are_placed() -> None:
    converter = with_hooks()
    with pytest.raises(
        PayloadError, match=re.escape("cannot decode Purse.contents[0]: the hook for Money raised ValueError: invalid literal")
    ):
        converter.decode('{"contents":["x"]}', Purse)
    with pytest.raises(PayloadError, match=re.escape("cannot decode Purse.key[0]: expected int, got str ('3')")):  # strict inside the hook
        converter.decode('{"contents":[],"key":["3"]}', Purse)
    converter.cattrs.register_unstructure_hook(Opaque, lambda _: math.nan)
    with pytest.raises(PayloadError, match="finite float"):
        converter.encode(Opaque(1), Opaque)


def test_cattrs_strategies_work_for_unions_that_are_ambiguous_otherwise() -> None:
    from cattrs.strategies import configure_tagged_union

    converter = JsonConverter()
    with pytest.raises(PayloadError):
        converter.encode(SameItem("a", Decimal(1)), Item | SameItem)
    configure_tagged_union(Item | SameItem, converter.cattrs)
    value = [SameItem("a", Decimal(1)), Item("b", Decimal(2))]
    text = converter.encode(value, list[Item | SameItem])
    assert text == '[{"name":"a","price":"1","_type":"SameItem"},{"name":"b","price":"2","_type":"Item"}]'
    assert converter.decode(text, list[Item | SameItem]) == value


# ── other converters ──────────────────────────────────────────────────────────────────────────────────────────


class Rot(JsonConverter):
    """A subclass that overrides ``encode`` and ``decode`` only: its ``compiled`` would pass them by."""

    def encode(self, value: Any, type_hint: Any = Any, /) -> str:
        return super().encode(value, type_hint)[::-1]

    def decode(self, text: str, type_hint: Any = Any, /) -> Any:
        return super().decode(text[::-1], type_hint)


class Wrapping:
    def __init__(self) -> None:
        self.inner = JsonConverter()

    def encode(self, value: Any, type_hint: Any) -> Any:
        if value == 13:
            return b"13"
        return "!" + self.inner.encode(value, type_hint)

    def decode(self, text: str, type_hint: Any) -> Any:
        assert text[0] == "!"
        return self.inner.decode(text[1:], type_hint)


def test_json_converter_is_used_directly() -> None:
    with pytest.raises(PayloadError, match=r"^argument 1: cannot encode int: expected int, got str \('x'\)$"):
        compiled(CONVERTER, int, "argument 1").encode("x")
    with pytest.raises(PayloadError, match=r"^argument 1: cannot decode int: "):
        compiled(CONVERTER, int, "argument 1").decode("x")
    with pytest.raises(PayloadError, match=r"^argument 1: no payload can have the type "):
        compiled(CONVERTER, Email, "argument 1")


def test_a_subclass_that_overrides_encode_is_not_passed_by() -> None:
    both = compiled(Rot(), list[int])
    assert both.encode([1, 23]) == "]32,1["
    assert both.decode("]32,1[") == [1, 23]


def test_other_converters_work_through_the_same_interface() -> None:
    both: Compiled = compiled(Wrapping(), int, "here")
    assert both.encode(5) == "!5"
    assert both.decode("!5") == 5
    with pytest.raises(PayloadError, match=r"^here: cannot encode int: expected int, got str"):
        both.encode("x")
    with pytest.raises(PayloadError, match=r"^here: Wrapping cannot encode int: TypeError: a payload is a str, not bytes$"):
        both.encode(13)
    with pytest.raises(PayloadError, match=r"^here: Wrapping cannot decode int: AssertionError") as caught:
        both.decode("?")
    assert isinstance(caught.value.__cause__, AssertionError)


# ── generated types ───────────────────────────────────────────────────────────────────────────────────────────

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
moments = st.datetimes(
    timezones=st.none() | st.just(UTC) | st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))
)
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (bool, st.booleans()),
    (float, finite),
    (str, texts),
    (bytes, st.binary()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (datetime, moments),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (type(None), st.none()),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
Typed = tuple[Any, st.SearchStrategy[Any]]
hashable = st.sampled_from(SCALARS)


def of(generic: Any, *arguments: Any) -> Any:
    """``generic[arguments]``, for arguments that are values here."""
    return generic[arguments]


def nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    keys = st.sampled_from([typed for typed in SCALARS if typed[0] != Literal["a", 1]])
    few = functools.partial(st.lists, max_size=3)
    return st.one_of(
        inner.map(lambda one: (of(list, one[0]), few(one[1]))),
        inner.map(lambda one: (of(tuple, one[0], ...), few(one[1]).map(tuple))),
        st.tuples(inner, inner).map(lambda two: (of(tuple, two[0][0], two[1][0]), st.tuples(two[0][1], two[1][1]))),
        hashable.map(lambda one: (of(set, one[0]), st.sets(one[1], max_size=3))),
        st.tuples(keys, inner).map(lambda two: (of(dict, two[0][0], two[1][0]), st.dictionaries(two[0][1], two[1][1], max_size=3))),
        inner.map(lambda one: (of(Box, one[0]), st.builds(Box, one[1], few(one[1])))),
    )


typed_values = st.recursive(st.sampled_from([*SCALARS, (Any, JSON)]), nested, max_leaves=4).flatmap(
    lambda typed: st.tuples(st.just(typed[0]), typed[1])
)


@settings(max_examples=400, deadline=None)
@given(typed_values)
def test_any_value_of_any_type_survives(typed: tuple[Any, Any]) -> None:
    hint, value = typed
    text = CONVERTER.encode(value, hint)
    read = CONVERTER.decode(text, hint)
    assert read == value
    assert type(read) is type(value)
    assert CONVERTER.encode(read, hint) == text
    assert json.dumps(json.loads(text), ensure_ascii=False) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    st.lists(
        st.sampled_from([typed for typed in SCALARS if typed[0] not in (str, bytes, Color, Level, Literal["a", 1])]), min_size=2, max_size=5
    ),
)
def test_unions_of_scalars_keep_value_and_class(data: st.DataObject, members: list[Typed]) -> None:
    hint = of(Union, *(member[0] for member in members))
    value = data.draw(data.draw(st.sampled_from(members))[1])
    assert same(CONVERTER.decode(CONVERTER.encode(value, hint), hint), value)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_plain_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    assert json.loads(CONVERTER.encode(value)) == value
    assert CONVERTER.decode(json.dumps(value)) == value


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SCALARS), st.sampled_from(SCALARS), st.data())
def test_a_value_of_another_class_is_refused_or_equal(one: Typed, other: Typed, data: st.DataObject) -> None:
    """Written under the wrong hint, a value is refused, or comes back equal (an int under float, an IntEnum under int)."""
    value = data.draw(one[1])
    try:
        text = CONVERTER.encode(value, other[0])
    except PayloadError:
        return
    assert CONVERTER.decode(text, other[0]) == value
