"""What would not arrive as it was sent is refused where it is sent: classes whose own code has a hand in what is made of their fields, and
msgspec's Structs. Pydantic's models: test_pydantic_models.py."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, datetime
from decimal import Decimal
from types import GenericAlias
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pytest

from durable_core.converter import JsonConverter
from durable_core.errors import PayloadError

CONVERTER = JsonConverter()
T = TypeVar("T")


def travelled(value: Any, hint: Any = None) -> Any:
    """As another process would get it."""
    hint = type(value) if hint is None else hint
    return JsonConverter().decode(CONVERTER.encode(value, hint), hint)


def arrives(value: Any, hint: Any = None) -> bool:
    read = travelled(value, hint)
    return type(read) is type(value) and bool(read == value)


def refusal(value: Any, hint: Any = None) -> str:
    with pytest.raises(PayloadError, match=r"^cannot encode") as refused:
        CONVERTER.encode(value, type(value) if hint is None else hint)
    return str(refused.value)


# ── classes whose code has a hand in it ───────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class InCents:
    """Makes 100 of 1, and 10,000 of that when it is read."""

    amount: int

    def __post_init__(self) -> None:
        self.amount *= 100


@dataclasses.dataclass
class Trimmed:
    """Makes of what it has made the same."""

    name: str
    words: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.name = self.name.strip()
        self.words = len(self.name.split())


@dataclasses.dataclass
class FromSetting:
    n: int
    factor: dataclasses.InitVar[int] = 2

    def __post_init__(self, factor: int) -> None:
        self.n *= factor


@dataclasses.dataclass(init=False)
class ByHand:
    n: int

    def __init__(self, n: int) -> None:
        self.n = n + 1


def twice(n: int) -> int:
    return n * 2


@attrs.define
class Doubled:
    n: int = attrs.field(converter=twice)


def lowered(name: str) -> str:
    return name.lower()


@attrs.define
class Lower:
    name: str = attrs.field(converter=lowered)
    at: int = attrs.field(kw_only=True, default=1, alias="moment")


@attrs.define
class PostInit:
    n: int

    def __attrs_post_init__(self) -> None:
        self.n += 1


@attrs.define
class ByHandOfAttrs:
    n: int

    def __init__(self, n: int) -> None:
        self.__attrs_init__(n + 1)  # type: ignore[attr-defined]


class Grown(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n += 1


class Pair(NamedTuple):
    a: int
    b: int


class Sorted(Pair):
    def __new__(cls, a: int, b: int) -> Sorted:
        return super().__new__(cls, max(a, b), min(a, b))


class Shifted(Pair):
    def __new__(cls, a: int, b: int) -> Shifted:
        return super().__new__(cls, a + 1, b)


@pytest.mark.parametrize(
    "value",
    [InCents(1), FromSetting(1), ByHand(1), Doubled(1), PostInit(1), ByHandOfAttrs(1), Grown(1), Shifted(1, 2)],
    ids=lambda value: type(value).__name__,
)
def test_a_class_that_makes_something_else_of_what_it_has_made_is_refused(value: Any) -> None:
    text = refusal(value)
    name = type(value).__name__
    assert text.startswith(f"cannot encode {name}.")
    assert "when it is read" in text
    assert refusal([value], GenericAlias(list, (type(value),))).startswith(f"cannot encode list[{name}][0].")


@pytest.mark.parametrize(
    "value", [Trimmed("  a b "), FromSetting(0), Lower("ABC", moment=5), Sorted(1, 2), InCents(0)], ids=lambda value: type(value).__name__
)
def test_one_that_makes_the_same_travels(value: Any) -> None:
    assert arrives(value)
    assert arrives([value], GenericAlias(list, (type(value),)))


@dataclasses.dataclass
class Base:
    a: int = 1


@dataclasses.dataclass
class Renamed(Base):
    """Has no field of its own, but a class."""


@dataclasses.dataclass
class Holder:
    base: Base
    more: list[Base] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("value", "place"), [(Holder(Renamed()), "Holder.base"), (Holder(Base(), [Base(), Renamed()]), "Holder.more[1]")], ids=["field", "list"]
)
def test_a_subclass_in_a_field_of_its_base_is_refused(value: Any, place: str) -> None:
    assert refusal(value) == (
        f"cannot encode {place}: expected Base, got Renamed, of which the class would be lost; annotate the subclass, or a union that has it"
    )


# ── containers ────────────────────────────────────────────────────────────────────────────────────────────────────


class Name(str):
    pass


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (dict[str, int], Counter("aab")),
        (dict[str, int], defaultdict(int, a=1)),
        (dict[str, int], OrderedDict(b=1, a=2)),
        (str, Name("x")),
        (list[int], type("Ints", (list,), {})([1])),
    ],
    ids=["Counter", "defaultdict", "OrderedDict", "str", "list"],
)
def test_of_subclasses_of_builtins_the_class_alone_is_lost(hint: Any, value: Any) -> None:
    read = travelled(value, hint)
    assert read == value
    assert type(read) in (dict, str, list)


@pytest.mark.parametrize("hint", [defaultdict[str, int], Counter[str], deque[int]], ids=repr)
def test_what_there_is_no_rule_for_says_what_to_do(hint: Any) -> None:
    with pytest.raises(PayloadError, match=r"there is no rule for .*: use a dataclass or an attrs class, or register hooks"):
        CONVERTER.encode(None, hint)


# ── msgspec ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Plain(msgspec.Struct):
    n: int
    at: datetime | None = None
    price: Decimal = Decimal(1)


class Frozen(msgspec.Struct, frozen=True, kw_only=True, order=True):
    a: int
    b: str = "x"


class Camel(msgspec.Struct, rename="camel"):
    first_name: str
    last_seen: int = msgspec.field(default=0, name="seenAt")


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    n: int


class Lean(msgspec.Struct, omit_defaults=True):
    n: int = 1
    tags: list[str] = []


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    lives: int = 1


class One(msgspec.Struct, tag=1, tag_field="version"):
    n: int


class Two(msgspec.Struct, tag=2, tag_field="version"):
    n: int


class Change(msgspec.Struct):
    name: str | msgspec.UnsetType | None = msgspec.UNSET
    age: int | msgspec.UnsetType = msgspec.UNSET


class Box(msgspec.Struct, Generic[T]):
    items: list[T]


class Tree(msgspec.Struct):
    n: int
    children: list[Tree] = []


class PlainPlus(Plain):
    more: int = 0


@dataclasses.dataclass
class Mixed:
    pet: Cat | Dog
    frozen: Frozen
    versions: dict[str, One | Two]


class Around(msgspec.Struct):
    mixed: Mixed
    lower: Lower
    pair: Pair


MIXED = Mixed(Dog(), Frozen(a=1), {"a": One(1), "b": Two(1)})


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (Plain, Plain(1, datetime(2024, 1, 1, tzinfo=UTC), Decimal("1.50")), '{"n":1,"at":"2024-01-01T00:00:00+00:00","price":"1.50"}'),
        (Frozen, Frozen(a=1), '{"a":1,"b":"x"}'),
        (Camel, Camel("a", 5), '{"firstName":"a","seenAt":5}'),
        (Strict, Strict(1), '{"n":1}'),
        (Lean, Lean(), '{"n":1,"tags":[]}'),
        (Row, Row(1, "b"), '{"a":1,"b":"b"}'),
        (Cat, Cat(), '{"type":"Cat","lives":9}'),
        (Cat | Dog, Dog(9), '{"type":"Dog","lives":9}'),
        (list[One | Two | None], [One(1), None, Two(1)], '[{"version":1,"n":1},null,{"version":2,"n":1}]'),
        (Change, Change(), "{}"),
        (Change, Change(None, 5), '{"name":null,"age":5}'),
        (Change, Change(age=5), '{"age":5}'),
        (Box[int], Box([1]), '{"items":[1]}'),
        (Tree, Tree(1, [Tree(2)]), '{"n":1,"children":[{"n":2,"children":[]}]}'),
        (Mixed, MIXED, None),
        (Around, Around(MIXED, Lower("a"), Pair(1, 2)), None),
        (Any, Plain(1), None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_structs_travel(hint: Any, value: Any, text: str | None) -> None:
    written = CONVERTER.encode(value, hint)
    assert text is None or written == text
    assert hint is Any or arrives(value, hint)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Plain, Plain("5")),  # type: ignore[arg-type]
        (Plain, PlainPlus(1)),
        (Plain, {"n": 1}),
        (Lean, Lean(tags=("a",))),  # type: ignore[arg-type]
        (Cat | Dog, Plain(1)),
        (Change, Change(age="5")),  # type: ignore[arg-type]
    ],
)
def test_structs_that_do_not_fit_are_refused(hint: Any, value: Any) -> None:
    assert refusal(value, hint)


@pytest.mark.parametrize(
    ("hint", "text", "says"),
    [
        (Plain, '{"n":"5"}', ".n: expected int"),
        (Plain, "{}", ".n: it is required, and missing"),
        (Plain, "[1]", "expected Plain"),
        (Strict, '{"n":1,"m":2,"k":3}', "Strict forbids unknown fields, got 'k', 'm'"),
        (Cat, '{"type":"Dog","lives":1}', "expected Cat, whose 'type' is 'Cat', got 'Dog'"),
        (One, '{"n":1}', "expected One, whose 'version' is 1, got None"),
        (One, '{"version":true,"n":1}', "expected One, whose 'version' is 1, got True"),
        (Cat | Dog, '{"type":"Cow"}', "expected Cat | Dog"),
        (Camel, '{"first_name":"a"}', "firstName: it is required, and missing"),
    ],
)
def test_texts_that_do_not_fit_a_struct_are_refused(hint: Any, text: str, says: str) -> None:
    with pytest.raises(PayloadError) as refused:
        CONVERTER.decode(text, hint)
    assert says in str(refused.value)


def test_a_struct_of_an_older_version_takes_its_defaults_and_unknown_fields_are_ignored() -> None:
    assert CONVERTER.decode('{"n":1,"later":5}', Plain) == Plain(1)
