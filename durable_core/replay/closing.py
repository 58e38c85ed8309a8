"""Ending an execution's life in memory: after its last event, on eviction, or after a problem.

Code is ended as Python ends a coroutine that is closed: ``GeneratorExit`` is raised where it waits, newest task first, now and on this
thread, and not whenever the garbage collector finds it. So ``finally`` blocks run, and ``except CancelledError`` does not: nobody has
cancelled anything, the orchestration may well go on elsewhere. Nothing that the code asks for any more is recorded or answered; so what a
``finally`` block awaits ends it there.

Python closes from the outside inwards, and raises a ``RuntimeError`` into the outer coroutine when an inner one awaits once more. That
would be an error that nobody made; so each chain of awaits is closed here from its innermost end. Code that refuses to end is held for
ever, since letting it be collected would run it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from durable_core.replay.futures import DeterministicTask
from durable_core.replay.loop import DeterministicLoop
from durable_core.replay.source import await_chain, frame_of, is_step

_ATTEMPTS = 10
"""How often one chain of awaits may wait again before it is given up."""

LEAKED: list[object] = []
"""Coroutines and generators of user code that could not be ended; held strongly on purpose."""

_logger = logging.getLogger("durable_core.orchestrator")


def close_loop(loop: DeterministicLoop, what: str) -> None:
    """``what`` names the execution in the log. Idempotent."""
    if loop.is_closed():
        return
    if loop.tasks or loop.generators:
        with loop:
            _close_all(loop, what)
    loop.ready.clear()
    loop.close()


def _close_all(loop: DeterministicLoop, what: str) -> None:
    """What is being closed may start tasks and generators. Those tasks never ran, and end without running."""
    while True:
        if loop.tasks:
            task, _ = loop.tasks.popitem()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                task.context.run(_close_task, loop, task, what)
        elif (generator := loop.generators.pop()) is not None:
            _close_generator(generator, what)
        else:
            return


def _close_task(loop: DeterministicLoop, task: DeterministicTask, what: str) -> None:
    asyncio.tasks._enter_task(loop, task)  # for asyncio.timeout and the like in a finally block
    try:
        _close_chain(task.get_coro(), what)
    finally:
        asyncio.tasks._leave_task(loop, task)


def _close_chain(root: Any, what: str) -> None:
    """From the innermost await outwards."""
    chain, attempts = list(await_chain(root)), 0
    while chain:
        part = chain[-1]
        try:
            ended = _end(part)
        except BaseException as error:  # SystemExit too: whoever ends the code must not be ended by it
            _logger.warning("%s: its code raised %r while it was ended; ignored", what, error)
            ended = frame_of(part) is None
        if ended:
            chain.pop()
        elif (attempts := attempts + 1) == _ATTEMPTS:
            _keep_for_ever(root, f"{what}: code")
            return
        else:
            chain += list(await_chain(part))[1:]


def _end(part: Any) -> bool:
    """Raise ``GeneratorExit`` in one link of a chain. False: it waits again."""
    if is_step(part):
        return _end_step(part)
    if frame_of(part) is None or isinstance(part, AsyncGenerator):
        return True  # a future, or what its step ends
    try:
        part.close()
    except RuntimeError:  # "coroutine ignored GeneratorExit", or one of its own
        if frame_of(part) is None:
            raise
    return frame_of(part) is None


def _end_step(part: Any) -> bool:
    """Its ``close`` would leave the generator as it is."""
    if type(part).__name__ == "anext_awaitable":  # around another step
        return True
    try:
        part.throw(GeneratorExit())
    except (GeneratorExit, StopIteration, StopAsyncIteration):
        return True
    return False


def _close_generator(generator: AsyncGenerator[Any, Any], what: str) -> None:
    """One that nobody waits for: it was left half-way."""
    if generator.ag_frame is None or generator.ag_running:  # type: ignore[attr-defined]
        return
    step: Any = generator.aclose()
    try:
        step.send(None)
    except (StopIteration, StopAsyncIteration):
        return
    except BaseException as error:
        _logger.warning("%s: its async generator raised %r while it was ended; ignored", what, error)
        return
    _close_chain(step, f"{what}: async generator")


def _keep_for_ever(thing: object, what: str) -> None:
    """A list is not for ever: the interpreter empties it when it ends, and code that swallows everything and loops would keep the process
    from ending. So there is one reference more, which nobody owns."""
    _logger.warning("%s could not be ended; it is kept in memory and never run again", what)
    LEAKED.append(thing)
    with suppress(ImportError):  # a Python built without ctypes has the list
        from ctypes import py_object, pythonapi

        pythonapi.Py_IncRef(py_object(thing))
