"""Ending an execution's life in memory: after its last event, on eviction, or after a problem.

Live tasks are cancelled, newest first, so that ``finally`` blocks and ``except CancelledError`` run now, on this thread, and not whenever
the garbage collector finds them. Nothing that they ask for any more is recorded. Code that refuses to end is closed by force; what survives
even that is kept on a list for ever, since letting it be collected would run it again.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from durable_core.replay.loop import DeterministicLoop
from durable_core.replay.source import await_chain, frame_of

_ROUNDS = 10
_STEPS_PER_ROUND = 10_000
_STEPS_PER_TASK = 10  # ending takes a task about five steps; a fan-out of ten thousand must not run into the bound

LEAKED: list[object] = []
"""Coroutines and generators of user code that could not be ended; held strongly on purpose."""

_logger = logging.getLogger("durable_core.orchestrator")


def close_loop(loop: DeterministicLoop, what: str) -> None:
    """``what`` names the execution in the log. Idempotent."""
    if loop.is_closed():
        return
    if loop.tasks or loop.generators:
        _cancel_tasks(loop, what)
        _close_tasks(loop, what)
        for generator in loop.generators:
            _close_generator(loop, generator, what)
        for task in loop.tasks:  # started by what was being closed, again and again
            _keep_for_ever(task.get_coro())
    loop.ready.clear()
    loop.close()
    loop.generators.clear()  # after closing: what is dropped now must not be finalised by a task


def _cancel_tasks(loop: DeterministicLoop, what: str) -> None:
    for _ in range(_ROUNDS):
        live = [task for task in loop.tasks if not task.done()]
        if not live:
            return
        for task in reversed(live):
            task.cancel()
        try:
            if not loop.drain(max(_STEPS_PER_ROUND, _STEPS_PER_TASK * len(live))):
                return
        except SystemExit as error:  # whoever ends the code must not be ended by it
            _logger.warning("%s: %r was raised while the code was ended; ignored", what, error)


def _close_tasks(loop: DeterministicLoop, what: str) -> None:
    """What did not end by being cancelled. A ``finally`` block may start further tasks."""
    for _ in range(_ROUNDS):
        tasks = list(loop.tasks)
        loop.tasks.clear()
        for task in reversed(tasks):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _close_by_force(loop, task.get_coro(), what)
        loop.ready.clear()


def _close_by_force(loop: DeterministicLoop, coroutine: Any, what: str) -> None:
    # Closing the outermost coroutine lets go of the inner ones. If one of them refuses to end it is that one that must not be let go:
    # dropping it would run it again.
    running = [generator for generator in loop.generators if getattr(generator, "ag_running", False)]
    parts = [part for root in (coroutine, *running) for part in await_chain(root)]
    try:
        with loop:
            coroutine.close()
    except BaseException as error:  # a coroutine that yields in its finally, or raises: both are told of, neither may stop the engine
        _keep(parts, f"{what}: code", error)


def _close_generator(loop: DeterministicLoop, generator: Any, what: str) -> None:
    if generator.ag_frame is None or generator.ag_running:
        return
    why: object = "it awaits in its finally"
    try:
        with loop:
            generator.aclose().__await__().send(None)
    except (StopIteration, StopAsyncIteration):
        return
    except BaseException as error:
        why = error
    _keep([generator], f"{what}: async generator {generator.__qualname__}", why)


def _keep(parts: list[Any], what: str, why: object) -> None:
    alive = [part for part in parts if frame_of(part) is not None]
    if alive:
        _logger.warning("%s could not be ended (%r); it is kept in memory and never run again", what, why)
        for part in alive:
            _keep_for_ever(part)
    else:
        _logger.warning("%s raised %r while being ended", what, why)


def _keep_for_ever(thing: object) -> None:
    """A list is not for ever: the interpreter empties it when it ends, and code that swallows everything and loops would keep the process
    from ending. So there is one reference more, which nobody owns."""
    LEAKED.append(thing)
    with suppress(ImportError):  # a Python built without ctypes has the list
        from ctypes import py_object, pythonapi

        pythonapi.Py_IncRef(py_object(thing))
