"""Most tests of this folder wait for a suite that runs in a process of its own. Those suites are begun ahead, one for each processor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture(scope="module")
def begin(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Future[Any]]]]:
    """``begin(test, call)``: the call of each case of this test that was chosen to run, with the case's parameters; by the case's id."""
    futures: list[Future[Any]] = []

    def begin(test: str, call: Callable[..., Any]) -> dict[str, Future[Any]]:
        functions = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
        cases = {item.callspec.id: item.callspec.params for item in functions if item.originalname == test}
        begun = {id: pool.submit(call, **parameters) for id, parameters in cases.items()}
        futures.extend(begun.values())
        return begun

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield begin
        for future in futures:
            future.cancel()
