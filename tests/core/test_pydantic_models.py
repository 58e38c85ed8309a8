"""Pydantic's models: they go by their own rules, and what these do not bring to the other side as it was is refused where it is sent."""

# mypy: disable-error-code="call-arg,arg-type,prop-decorator"
# Its plugin is not in use: models are made by aliases, and of what they convert.

from __future__ import annotations

import enum
import itertools
from datetime import UTC, datetime
from decimal import Decimal
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import pytest

from durable_core.converter import JsonConverter
from tests.core.test_models import CONVERTER, Base, arrives, refusal, travelled

if TYPE_CHECKING:
    import pydantic
else:
    pydantic = pytest.importorskip("pydantic")

T = TypeVar("T")


class Inner(pydantic.BaseModel):
    a: int = 1
    b: int = 2


class InnerPlus(Inner):
    c: int = 3


class SameInner(Inner):
    pass


class Outer(pydantic.BaseModel):
    inner: Inner = Inner()
    several: list[Inner] = []  # noqa: RUF012
    named: dict[str, Inner] = {}  # noqa: RUF012


class Secret(pydantic.BaseModel):
    user: str = "u"
    password: pydantic.SecretStr


class SecretInBytes(pydantic.BaseModel):
    password: pydantic.SecretBytes


class Told(pydantic.BaseModel):
    """A secret whose text is written on purpose."""

    password: pydantic.SecretStr

    @pydantic.field_serializer("password", when_used="json")
    def write(self, password: Any) -> str:
        return str(password.get_secret_value())


class Left(pydantic.BaseModel):
    a: int = 1
    out: int = pydantic.Field(2, exclude=True)


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field
    @property
    def twice(self) -> int:
        return self.a * 2


class Split(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    a: int = pydantic.Field(validation_alias="in_a", serialization_alias="out_a")
    b: int = pydantic.Field(validation_alias=pydantic.AliasChoices("x", "y"))
    inner: Inner = pydantic.Field(validation_alias=pydantic.AliasPath("inners", 0))


class Alias(pydantic.BaseModel):
    a: int = pydantic.Field(alias="A")


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    a: int


class Private(pydantic.BaseModel):
    a: int
    _seen: int = pydantic.PrivateAttr(0)


class Typed(pydantic.BaseModel, Generic[T]):
    value: T


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Named(pydantic.RootModel[dict[str, Inner]]):
    pass


class Kitten(pydantic.BaseModel):
    kind: Literal["kitten"] = "kitten"
    n: int = 1


class Puppy(pydantic.BaseModel):
    kind: Literal["puppy"] = "puppy"
    n: int = 1


class Pet(pydantic.BaseModel):
    pet: Kitten | Puppy = pydantic.Field(discriminator="kind")


class OneWay(pydantic.BaseModel):
    a: int

    @pydantic.field_serializer("a")
    def write(self, a: int) -> str:
        return f"<{a}>"


class OfAnotherShape(pydantic.BaseModel):
    a: int

    @pydantic.model_serializer
    def write(self) -> dict[str, int]:
        return {"z": self.a}


class BothWays(pydantic.BaseModel):
    a: int

    @pydantic.model_serializer
    def write(self) -> dict[str, int]:
        return {"z": self.a}

    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, data: Any) -> Any:
        return {"a": data["z"]} if "z" in data else data


class Rising(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def rise(cls, a: int) -> int:
        return a + 1


class Anything(pydantic.BaseModel):
    value: Any


class Kinds(enum.Enum):
    A = "a"


class Rich(pydantic.BaseModel):
    at: datetime
    price: Decimal
    kind: Kinds
    pair: tuple[int, str]
    members: frozenset[int]


NUMBERS = itertools.count()


class Fresh(pydantic.BaseModel):
    a: int = 1
    number: int = pydantic.Field(default_factory=lambda: next(NUMBERS))


class Opaque:
    """Says nothing of what is equal."""

    def __init__(self, n: int) -> None:
        self.n = n


class WithOpaque(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    opaque: Opaque

    @pydantic.field_serializer("opaque")
    def write(self, opaque: Opaque) -> int:
        return opaque.n

    @pydantic.field_validator("opaque", mode="before")
    @classmethod
    def read(cls, given: Any) -> Any:
        return Opaque(given) if isinstance(given, int) else given


@pydantic.dataclasses.dataclass
class OfPydantic:
    a: int
    inner: Base


MODELS = [
    Inner(),
    Inner(b=5),
    Outer(inner=Inner(a=3), several=[Inner(b=1), Inner()], named={"x": Inner(a=1)}),
    Outer(),
    Told(password="x"),
    Left(),
    Computed(a=1),
    Split(in_a=1, y=2, inners=[Inner(a=5)]),
    Alias(A=1),
    Extra(a=1, z=[1]),
    Typed[int](value=1),
    Typed[Inner](value=Inner(a=1)),
    Numbers([1, 2]),
    Named({"a": Inner(a=1)}),
    Pet(pet=Puppy(kind="puppy")),
    BothWays(a=1),
    Anything(value={"a": [1, None, True, "x", 1.5]}),
    Rich(at=datetime(2024, 1, 1, tzinfo=UTC), price=Decimal("1.50"), kind=Kinds.A, pair=(1, "a"), members=frozenset({1, 2})),
    OfPydantic(1, Base(2)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_models_arrive_as_they_were_sent(model: Any) -> None:
    kind = type(model)
    for value, hint in [
        (model, kind),
        ([model, None], GenericAlias(list, (kind | None,))),
        ({"k": model}, GenericAlias(dict, (str, kind))),
    ]:
        assert arrives(value, hint)
    if isinstance(model, pydantic.BaseModel):
        read = travelled(model)
        assert read.model_fields_set == model.model_fields_set
        assert read.model_dump(exclude_unset=True) == model.model_dump(exclude_unset=True)


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (Secret(password="x"), "Secret.password"),
        (SecretInBytes(password=b"x"), "SecretInBytes.password"),
        (Outer(inner=InnerPlus()), "Outer.inner"),
        (Outer(inner=SameInner()), "Outer.inner"),
        (Outer(several=[Inner(), InnerPlus()]), "Outer.several[1]"),
        (Outer(named={"x": InnerPlus()}), "Outer.named['x']"),
        (Left(out=5), "Left.out"),
        (Rising(a=1), "Rising.a"),
        (Anything(value=(1, 2)), "Anything.value"),
        (Anything(value=Inner()), "Anything.value"),
        (OneWay(a=1), "OneWay"),
        (OfAnotherShape(a=1), "OfAnotherShape"),
        (Inner.model_construct(a="x"), "Inner"),
        (Rising.model_construct(a=float("nan")), "Rising"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_models_that_would_not_arrive_as_they_are_are_refused_with_the_place(model: Any, place: str) -> None:
    assert refusal(model).startswith(f"cannot encode {place}")
    assert refusal([model], GenericAlias(list, (type(model),))).startswith(
        f"cannot encode list[{type(model).__name__}][0]{place.removeprefix(type(model).__name__)}"
    )
    assert refusal({"k": model}, Any).startswith("cannot encode value['k']")


def test_a_model_of_a_subclass_is_refused_under_its_base() -> None:
    assert refusal(SameInner(), Inner).startswith("cannot encode Inner: it would not arrive as it is; ")
    assert "expected Inner, got InnerPlus" in refusal(InnerPlus(), Inner)


def test_a_discriminator_that_was_not_set_is_sent_and_counts_as_set() -> None:
    assert arrives(Pet(pet=Puppy()))
    assert travelled(Pet(pet=Puppy())).pet.model_fields_set == {"kind", "n"}


def test_private_attributes_are_no_part_of_what_a_model_writes() -> None:
    private = Private(a=1)
    private._seen = 5
    assert travelled(private)._seen == 0


def test_what_says_nothing_of_equality_is_taken_at_its_word() -> None:
    assert travelled(WithOpaque(opaque=Opaque(5))).opaque.n == 5


def test_a_default_that_is_made_afresh_is_sent_although_it_was_not_set() -> None:
    fresh = Fresh()
    read = travelled(fresh)
    assert read == fresh
    assert read.model_fields_set == set()


def test_a_default_that_is_changed_meanwhile_changes_no_value_that_was_sent() -> None:
    text = CONVERTER.encode(Inner(), Inner)
    later = pydantic.create_model("Inner", a=(int, 100), b=(int, 200))
    assert CONVERTER.decode(text, later).model_dump() == {"a": 1, "b": 2}


def test_who_reads_a_model_without_a_hint_sees_its_fields_only() -> None:
    assert CONVERTER.decode(CONVERTER.encode({"m": Inner()})) == {"m": {"a": 1, "b": 2}}
    with_hooks = JsonConverter()
    with_hooks.cattrs.register_unstructure_hook(Left, lambda left: left.a)
    assert with_hooks.encode({"m": Inner(), "left": Left(a=7)}) == '{"m":{"a":1,"b":2},"left":7}'
