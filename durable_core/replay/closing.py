"""Ending an execution's life in memory: after its last event, on eviction, or after a problem.

Live tasks are cancelled, newest first, so that ``finally`` blocks and ``except CancelledError`` run now, on this thread, and not whenever the garbage collector finds them.
Nothing that they ask for any more is recorded. Code that refuses to end is closed by force; what survives even that is kept on a list for ever, since
letting it be collected would run it again.
"""

from __future__ import annotations

import logging
from asyncio import events
from typing import Any

from durable_core.replay.loop import DeterministicLoop

__all__ = ["LEAKED", "close_loop"]

_ROUNDS = 10
_STEPS_PER_ROUND = 10_000

LEAKED: list[object] = []
"""Coroutines and generators of user code that could not be ended; held strongly on purpose."""

_logger = logging.getLogger("durable_core.orchestrator")


def close_loop(loop: DeterministicLoop, what: str) -> None:
    """``what`` names the execution in the log. Idempotent."""
    if loop.is_closed():
        return
    if loop.tasks or loop.generators:
        _cancel_tasks(loop)
        loop.discard_ready()
        for task in list(loop.tasks):
            if not task.done():
                _close_by_force(loop, task.get_coro(), what)
        for generator in loop.generators:
            _close_generator(loop, generator, what)
        loop.generators.clear()
    loop.discard_ready()
    loop.close()


def _cancel_tasks(loop: DeterministicLoop) -> None:
    for task in loop.tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    for _ in range(_ROUNDS):
        live = [task for task in loop.tasks if not task.done()]
        if not live:
            return
        for task in reversed(live):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.cancel()
        loop.steps = 0
        if not loop.drain(_STEPS_PER_ROUND):
            return


def _close_by_force(loop: DeterministicLoop, coroutine: Any, what: str) -> None:
    previous = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        coroutine.close()
    except BaseException as error:  # a coroutine that yields in its finally, or raises: both are told of, neither may stop the engine
        _logger.warning("%s: code could not be ended (%r); it is kept in memory and never run again", what, error)
        LEAKED.append(coroutine)
    finally:
        events._set_running_loop(previous)


def _close_generator(loop: DeterministicLoop, generator: Any, what: str) -> None:
    if generator.ag_frame is None or generator.ag_running:
        return
    previous = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        generator.aclose().__await__().send(None)
        _logger.warning("%s: async generator %s awaits while being closed; it is kept in memory and never run again", what, generator.__qualname__)
        LEAKED.append(generator)
    except (StopIteration, StopAsyncIteration):
        pass
    except BaseException as error:
        _logger.warning("%s: async generator %s failed while being closed: %r", what, generator.__qualname__, error)
    finally:
        events._set_running_loop(previous)
