"""The errors themselves: what they say in a line, and that they can be copied and sent to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from durable_core import errors
from durable_core.errors import (
    DurableError,
    FailureDetails,
    InstanceNotFoundError,
    OrchestrationFailedError,
    TaskFailedError,
    TaskTimeoutError,
)
from durable_core.failures import DescribedElsewhere

DETAILS = FailureDetails("shop.Declined", "no money", "stack", FailureDetails("OSError", "down"), {"code": "7"}, notes=("order 17",))

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DurableError)]


def made(kind: type[DurableError]) -> DurableError:
    """With what its constructor asks for."""
    given = {"instance_id": "order-7", "message": "a text", "details": DETAILS, "name": "charge", "task_id": 3}
    constructor: Any = kind.__init__
    if not inspect.isfunction(constructor):
        return kind("a text")
    return kind(*(given[name] for name in inspect.signature(constructor).parameters if name in given))


def same(one: BaseException, other: BaseException) -> bool:
    return (type(one), str(one), one.args, vars(one)) == (type(other), str(other), other.args, vars(other))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_every_error_can_be_pickled_and_copied_with_what_it_knows(kind: type[DurableError], again: Any) -> None:
    error = made(kind)
    error.add_note("a note")
    assert same(again(error), error)


def test_all_that_carry_something_are_among_them() -> None:
    assert {InstanceNotFoundError, OrchestrationFailedError, TaskFailedError, TaskTimeoutError} < set(ALL)
    carried = vars(made(OrchestrationFailedError))
    assert carried == {"instance_id": "order-7", "details": DETAILS}


class Declined(OrchestrationFailedError):
    """A class of the user's, with a constructor of its own."""

    def __init__(self, order: int) -> None:
        super().__init__(f"order-{order}", f"order {order} was declined", DETAILS)
        self.order = order


def test_so_can_a_class_of_the_users_with_a_constructor_of_its_own() -> None:
    assert same(pickle.loads(pickle.dumps(Declined(7))), Declined(7))


def refuse(kind: str) -> None:
    raise TaskFailedError("charge", 3, DETAILS) if kind == "ours" else DescribedElsewhere(DETAILS)


@pytest.mark.parametrize("kind", ["ours", "described"])
def test_an_error_comes_out_of_a_process_pool_as_it_was(kind: str) -> None:
    """Before, the pool broke: it could not read back what it had been sent."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(refuse, kind).exception()
        assert isinstance(error, TaskFailedError | DescribedElsewhere)
        assert error.details == DETAILS
        assert pool.submit(len, "abc").result() == 3
