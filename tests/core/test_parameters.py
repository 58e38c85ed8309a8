"""How arguments travel: binding, arity, and what is refused when."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_core.converter import JsonConverter
from durable_core.errors import ArgumentsError, PayloadError, RegistrationError
from durable_core.parameters import CALL_OPTIONS, Parameters, encode_untyped

if TYPE_CHECKING:
    from somewhere import Context  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

CONVERTER = JsonConverter()


def parameters(function: Callable[..., Any], skip: int = 0) -> Parameters:
    return Parameters(function, skip=skip, name="activity 'work'", converter=CONVERTER)


def none() -> None: ...
def one(item: int) -> None: ...
def two(item: int, note: str) -> None: ...
def defaults(item: int, note: str = "n", on: date = date(2024, 1, 1)) -> None: ...
def extra(item: int, *rest: float) -> None: ...
def positional_only(item: int, /, note: str = "n") -> None: ...
def untyped(item, note=None): ...  # type: ignore[no-untyped-def]
def with_context(ctx: Context, item: int) -> None: ...
def forward(item: Later) -> Later:
    return item


@attrs.frozen
class Later:
    n: int


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "text", "arity", "read"),
    [
        (none, (), {}, None, 0, ()),
        (one, (1,), {}, "1", 1, (1,)),
        (one, (), {"item": 1}, "1", 1, (1,)),
        (two, (1, "a"), {}, '[1,"a"]', 2, (1, "a")),
        (two, (1,), {"note": "a"}, '[1,"a"]', 2, (1, "a")),
        (two, (), {"note": "a", "item": 1}, '[1,"a"]', 2, (1, "a")),
        (defaults, (1,), {}, "1", 1, (1,)),
        (defaults, (1,), {"on": date(2024, 2, 2)}, '[1,"n","2024-02-02"]', 3, (1, "n", date(2024, 2, 2))),
        (defaults, (), {"item": 1, "note": "a"}, '[1,"a"]', 2, (1, "a")),
        (extra, (1,), {}, "1", 1, (1,)),
        (extra, (1, 2.0, 3), {}, "[1,2.0,3.0]", 3, (1, 2.0, 3.0)),
        (extra, (), {"item": 1}, "1", 1, (1,)),
        (positional_only, (1,), {"note": "a"}, '[1,"a"]', 2, (1, "a")),
        (untyped, ([1],), {}, "[1]", 1, ([1],)),
        (untyped, ([1], {"a": 1}), {}, '[[1],{"a":1}]', 2, ([1], {"a": 1})),
        (forward, (Later(1),), {}, '{"n":1}', 1, (Later(1),)),
        (lambda items: None, ([1, 2],), {}, "[1,2]", 1, ([1, 2],)),
    ],
)
def test_arguments_travel(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], text: str | None, arity: int, read: tuple[Any, ...]
) -> None:
    bound = parameters(function)
    assert bound.encode(args, kwargs) == (text, arity)
    assert bound.decode(text, arity) == read
    function(*read)  # Python fills in the rest


def test_leading_parameters_are_skipped_and_their_hints_not_resolved() -> None:
    bound = parameters(with_context, skip=1)
    assert bound.encode((5,), {}) == ("5", 1)
    assert bound.decode("5", 1) == (5,)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "message"),
    [
        (none, (1,), {}, "activity 'work' takes () -> None: too many positional arguments"),
        (one, (), {}, "activity 'work' takes (item: int) -> None: missing a required argument: 'item'"),
        (two, (1,), {}, "activity 'work' takes (item: int, note: str) -> None: missing a required argument: 'note'"),
        (two, (), {"note": "a"}, "activity 'work' takes (item: int, note: str) -> None: missing a required argument: 'item'"),
        (two, (1, "a", 2), {}, "activity 'work' takes (item: int, note: str) -> None: too many positional arguments"),
        (one, (1,), {"item": 1}, "activity 'work' takes (item: int) -> None: multiple values for argument 'item'"),
        (one, (1,), {"itme": 1}, "activity 'work' takes (item: int) -> None: got an unexpected keyword argument 'itme'"),
        # Python's own words follow, and they differ between patch releases
        (positional_only, (), {"item": 1}, "activity 'work' takes (item: int, /, note: str = n) -> None: "),
    ],
)
def test_arguments_that_do_not_fit_fail_at_the_call(function: Callable[..., Any], args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        parameters(function).encode(args, kwargs)
    assert message in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("function", "text", "arity", "message"),
    [
        (none, "1", 1, "too many positional arguments"),
        (two, "1", 1, "activity 'work' takes (item: int, note: str) -> None: missing a required argument: 'note'"),
        (one, "[1,2]", 2, "too many positional arguments"),
        (one, None, 0, "missing a required argument: 'item'"),
        (one, None, 1, "its input is missing"),
    ],
)
def test_a_signature_that_changed_too_much_fails_when_read(
    function: Callable[..., Any], text: str | None, arity: int, message: str
) -> None:
    with pytest.raises(ArgumentsError) as caught:
        parameters(function).decode(text, arity)
    assert message in str(caught.value)


def test_a_parameter_with_a_default_may_be_added_while_calls_are_under_way() -> None:
    text, arity = parameters(two).encode((1, "a"), {})
    assert parameters(lambda item, note, more=3: None).decode(text, arity) == (1, "a")
    text, arity = parameters(one).encode((1,), {})
    assert parameters(defaults).decode(text, arity) == (1,)
    as_list, arity = parameters(lambda items: None).encode(([1, "a"],), {})  # one list is not two arguments
    assert (as_list, arity) == ('[1,"a"]', 1)
    assert parameters(untyped).decode(as_list, arity) == ([1, "a"],)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (one, ("x",), "argument (item) of activity 'work': cannot encode int: expected int, got str ('x')"),
        (two, (1, 2), "arguments (item, note) of activity 'work': cannot encode tuple[int, str][1]: expected str, got int (2)"),
        (
            extra,
            (1, 2.0, "x"),
            "arguments (item, rest, rest) of activity 'work': cannot encode tuple[int, float, float][2]: expected float, got str ('x')",
        ),
        (untyped, (1, {1: 2}), "arguments (item, note) of activity 'work': cannot encode tuple[Any, Any][1][1]: a JSON key is a string"),
    ],
)
def test_an_argument_that_cannot_be_written_is_named(function: Callable[..., Any], args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parameters(function).encode(args, {})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("function", "text", "arity", "message"),
    [
        (one, '"x"', 1, "argument (item) of activity 'work': cannot decode int: expected int, got str ('x')"),
        (two, "[1,2]", 2, "arguments (item, note) of activity 'work': cannot decode tuple[int, str][1]: expected str, got int (2)"),
        (
            two,
            '"x"',
            2,
            "arguments (item, note) of activity 'work': cannot decode tuple[int, str]: expected tuple[int, str], got str ('x')",
        ),
        (
            two,
            "[1]",
            2,
            "arguments (item, note) of activity 'work': cannot decode tuple[int, str]: expected tuple[int, str], got 1 elements",
        ),
    ],
)
def test_an_argument_that_cannot_be_read_is_named(function: Callable[..., Any], text: str, arity: int, message: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parameters(function).decode(text, arity)
    assert str(caught.value) == message


def keyword_only(item: int, *, flag: bool = False) -> None: ...
def any_keywords(item: int, **more: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "skip", "message"),
    [
        (keyword_only, 0, "is given by keyword only"),
        (any_keywords, 0, "is given by keyword only"),
        (lambda: None, 1, "must begin with 1 positional parameter for the engine"),
        (lambda *rest: None, 1, "must begin with 1 positional parameter for the engine"),
        (lambda self: None, 2, "must begin with 2 positional parameters for the engine"),
        *[(eval(f"lambda {name}: None"), 0, f"its parameter {name!r} has the name of an option") for name in sorted(CALL_OPTIONS)],  # noqa: S307
        (type("NoSignature", (), {"__call__": None})(), 0, "cannot be registered"),
    ],
)
def test_signatures_that_cannot_travel_are_refused_at_registration(function: Callable[..., Any], skip: int, message: str) -> None:
    with pytest.raises(RegistrationError, match=r"^activity 'work' cannot be registered: ") as caught:
        parameters(function, skip)
    assert message in str(caught.value)


def test_hints_that_cannot_be_resolved_say_so_at_first_use() -> None:
    bound = parameters(with_context)
    with pytest.raises(RegistrationError, match="the type hints of activity 'work' cannot be resolved: name 'Context' is not defined"):
        bound.encode((1, 2), {})


def test_a_type_that_cannot_travel_is_named_with_its_argument() -> None:
    def function(item: int, callback: Callable[[], None]) -> None: ...

    with pytest.raises(PayloadError, match=r"of activity 'work': no payload can have the type .*Callable"):
        parameters(function).encode((1, print), {})


# ── kinds of functions ────────────────────────────────────────────────────────────────────────────────────────


class Service:
    def method(self, item: Later) -> Later:
        return item

    async def __call__(self, item: Later) -> list[Later]:
        return [item]

    @staticmethod
    def static(item: Later) -> Later:
        return item


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("function", "skip", "returns"),
    [
        (Service().method, 0, Later),
        (Service.method, 1, Later),
        (Service.static, 0, Later),
        (Service(), 0, list[Later]),
        (functools.partial(Service.method, Service()), 0, Later),
        (wrapped(forward), 0, Later),
    ],
)
def test_methods_callables_partials_and_wrappers(function: Callable[..., Any], skip: int, returns: Any) -> None:
    bound = parameters(function, skip)
    assert bound.encode((Later(1),), {}) == ('{"n":1}', 1)
    assert bound.decode('{"n":1}', 1) == (Later(1),)
    assert bound.return_hint == returns


async def coroutine() -> list[int]:
    return []


def awaitable() -> Awaitable[list[int]]:
    return coroutine()


@pytest.mark.parametrize(("function", "hint"), [(coroutine, list[int]), (awaitable, list[int]), (none, type(None)), (untyped, Any)])
def test_return_hint(function: Callable[..., Any], hint: Any) -> None:
    assert parameters(function).return_hint == hint


def test_classes_local_to_a_function_are_found_if_its_body_uses_them() -> None:
    @attrs.frozen
    class Local:
        n: int

    def function(item: Local) -> Local:
        return Local(item.n)

    assert parameters(function).decode('{"n":1}', 1) == (Local(1),)


# ── by name ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("args", "text"), [((), None), ((Later(1),), '{"n":1}'), ((1, "a", [date(2024, 1, 1)]), '[1,"a",["2024-01-01"]]')])
def test_calls_by_name(args: tuple[Any, ...], text: str | None) -> None:
    assert encode_untyped(args, CONVERTER) == (text, len(args))


def test_a_call_by_name_names_the_argument_too() -> None:
    with pytest.raises(PayloadError, match=r"^activity 'x': cannot encode list\[Any\]\[1\]: expected a finite float"):
        encode_untyped((1, float("nan")), CONVERTER, "activity 'x'")
    with pytest.raises(PayloadError, match=r"^activity 'x': cannot encode value: expected a finite float"):
        encode_untyped((float("nan"),), CONVERTER, "activity 'x'")


def test_a_call_by_name_fits_the_callee() -> None:
    text, arity = encode_untyped((1, "a"), CONVERTER)
    assert parameters(two).decode(text, arity) == (1, "a")


# ── a converter that writes no JSON ───────────────────────────────────────────────────────────────────────────


class Reversing:
    inner = JsonConverter()

    def encode(self, value: Any, type_hint: Any) -> str:
        return self.inner.encode(value, type_hint)[::-1]

    def decode(self, text: str, type_hint: Any) -> Any:
        return self.inner.decode(text[::-1], type_hint)


def test_several_arguments_are_one_text_of_the_converter() -> None:
    bound = Parameters(two, name="activity 'work'", converter=Reversing())
    text, arity = bound.encode((1, "ab"), {})
    assert (text, arity) == (']"ba",1[', 2)
    assert bound.decode(text, arity) == (1, "ab")
    with pytest.raises(PayloadError, match=r"^arguments \(item, note\) of activity 'work': cannot encode tuple\[int, str\]\[1\]: "):
        bound.encode((1, 2), {})
    with pytest.raises(PayloadError, match=r"^arguments \(item, note\) of activity 'work': cannot decode "):
        bound.decode("]2,1[", 2)


# ── generated signatures and calls ────────────────────────────────────────────────────────────────────────────


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_whatever_python_binds_travels(data: st.DataObject, required: int, optional: int, star: bool) -> None:
    """A call that Python accepts gives the callee the same arguments through the store; one that it refuses is refused."""
    names = [f"p{index}" for index in range(required + optional)]
    source = ", ".join(
        [name if index < required else f"{name}={index * 10}" for index, name in enumerate(names)] + (["*rest"] if star else [])
    )
    function = eval(f"lambda {source}: [{', '.join([*names, *(['*rest'] if star else [])])}]")  # noqa: S307
    args = tuple(data.draw(st.lists(st.integers(0, 9), max_size=6)))
    kwargs = data.draw(st.dictionaries(st.sampled_from([*names, "other"]), st.integers(0, 9), max_size=4))
    try:
        wanted = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(ArgumentsError):
            parameters(function).encode(args, kwargs)
        return
    assert function(*parameters(function).decode(*parameters(function).encode(args, kwargs))) == wanted
