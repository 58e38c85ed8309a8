"""Where a client may be used: on the event loop on which its engine was opened, and not inside an orchestrator.

An orchestrator would send the message at once and again on every replay; another loop or thread would wait for an answer that is given on
the engine's loop, for ever. Both are refused before anything is sent.
"""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import NoReturn

from durable_core.errors import EngineStateError, ForbiddenInOrchestratorError
from durable_core.replay.futures import orchestrators_loop
from durable_core.replay.source import user_line

_CHILD = "ctx.call_sub_orchestrator(...)"
_CANCEL = "cancel the task that ctx.call_sub_orchestrator(...) returned"
_EVENT = "ctx.send_event(...)"
_ENTITY = "ctx.call_entity(...) or ctx.entity(cls, key).call(...)"
_SIGNAL = "ctx.signal_entity(...) or ctx.entity(cls, key).signal(...)"
_INSTEAD = {
    "schedule_new_orchestration": _CHILD,
    "restart": _CHILD,
    "result": f"await {_CHILD}",
    "wait_for_completion": f"await {_CHILD}",
    "terminate": _CANCEL,
    "raise_event": _EVENT,
    "signal_entity": _SIGNAL,
    "get_entity": _ENTITY,
}
_ELSE = "an activity that calls it, and await ctx.call_activity(...)"


def check_place(engines: asyncio.AbstractEventLoop) -> None:
    """``engines`` is the loop on which the engine was opened. Raises ``ForbiddenInOrchestratorError``, ``EngineStateError``."""
    here = asyncio._get_running_loop()
    if here is not engines:
        refuse_inside_orchestrator(_called())
        _refuse_elsewhere(here)


def refuse_inside_orchestrator(called: str) -> None:
    orchestrators = orchestrators_loop()
    if orchestrators is not None:
        instead = _INSTEAD.get(called.removesuffix("()"), _ELSE)
        what = f"{called} was used inside orchestrator {orchestrators.host.name!r} ({user_line()}); it would have its effect again on every replay"
        raise ForbiddenInOrchestratorError(f"{what}. Write instead: {instead}")


def _refuse_elsewhere(here: asyncio.AbstractEventLoop | None) -> NoReturn:
    where = "in another thread, without an event loop" if here is None else "on another event loop"
    what = f"{_called()} was called {where}: a client works on the event loop on which its engine was opened"
    remedy = (
        "Write: asyncio.run_coroutine_threadsafe(engine.client.…(...), loop).result(), where loop is what asyncio.get_running_loop() gave there. "
        "In a synchronous activity or operation, an async def one is the simpler way"
    )
    raise EngineStateError(f"{what}. {remedy}")


def _called() -> str:
    """The client's or handle's method that the user called: the outermost of ours."""
    frame: FrameType | None = sys._getframe(2)
    called = "the client"
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("durable_core.runtime."):
        if not frame.f_code.co_name.startswith(("_", "<")):
            called = f"{frame.f_code.co_name}()"
        frame = frame.f_back
    return called
