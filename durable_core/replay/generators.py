"""The async generators of one execution: one that is dropped half-way cleans up, as on any loop.

A loop of asyncio starts ``aclose()`` when the last reference goes, and so does this one: at an ``async for`` that is left by ``break``, the
``finally`` blocks of the generator run in a task of their own. That is deterministic as long as reference counting does it, since that
follows the code. What sits in a cycle of references is found by the garbage collector, at a moment that the next replay will not repeat; that
waits for the end of the execution, and so does what is dropped while no code runs.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

Generator = AsyncGenerator[Any, Any]


class Generators:
    """``run_cleanup`` starts a task, or says that it cannot."""

    def __init__(self, run_cleanup: Callable[[Coroutine[Any, Any, None]], bool]) -> None:
        self._run_cleanup = run_cleanup
        self._in_use: dict[weakref.ref[Generator], None] = {}
        self._dropped: dict[Generator, None] = {}

    def __bool__(self) -> bool:
        """Whether there may be one to close."""
        return bool(self._in_use or self._dropped)

    def begun(self, generator: Generator) -> None:
        self._in_use[weakref.ref(generator, self._forget)] = None

    def _forget(self, reference: weakref.ref[Generator]) -> None:
        self._in_use.pop(reference, None)

    def dropped(self, generator: Generator) -> None:
        """Python calls this once a generator; so it is held until it has cleaned up, now or at the end."""
        self._dropped[generator] = None
        if not is_collecting():
            cleanup = self._clean_up(generator)
            if not self._run_cleanup(cleanup):
                cleanup.close()

    async def _clean_up(self, generator: Generator) -> None:
        await generator.aclose()
        self._dropped.pop(generator, None)

    def pop(self) -> Generator | None:
        """For the end: one that may have to be closed, the newest first."""
        while self._in_use:
            generator = self._in_use.popitem()[0]()
            if generator is not None:
                return generator
        return self._dropped.popitem()[0] if self._dropped else None


def is_collecting() -> bool:
    """Whether the garbage collector runs: then it does not begin again."""
    begun: list[str] = []

    def note(phase: str, _info: dict[str, int]) -> None:
        begun.append(phase)

    gc.callbacks.append(note)
    try:
        gc.collect(0)
    finally:
        gc.callbacks.remove(note)
    return not begun
