"""An activity that is called directly, outside an orchestrator, is its plain function."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from durable_core import ActivityContext, activity


@activity
async def plain(number: int) -> int:
    return number * 2


@activity
def with_context(ctx: ActivityContext, number: int, text: str = "") -> tuple[str, int, str]:
    return ctx.instance_id, number, text


def test_it_is_the_function() -> None:
    assert asyncio.run(plain(2)) == 4


def test_the_context_is_a_stand_in() -> None:
    assert with_context(1) == ("called directly", 1, "")
    assert with_context(number=1, text="a") == ("called directly", 1, "a")


def test_a_context_that_is_given_is_taken() -> None:
    given = ActivityContext("mine", "with_context", "call", "task", 1, 1, logging.LoggerAdapter(logging.getLogger("test")))
    call: Any = with_context  # the signature that type checkers see has no context
    assert call(given, 1) == ("mine", 1, "")
    assert call(ctx=given, number=1) == ("mine", 1, "")
