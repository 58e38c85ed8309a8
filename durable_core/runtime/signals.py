"""SIGTERM while an engine is open: the first one cancels the task that opened it, so that it drains and closes; the second ends the
process.

Ctrl-C needs nothing of ours: ``asyncio.run`` cancels the main task at the first and raises KeyboardInterrupt at the second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StoppedBySigtermError(asyncio.CancelledError, SystemExit):
    """The cancellation of a stop in order. For asyncio and for handlers on the way out it is a cancellation like any other; if nobody stops it,
    the interpreter ends as for ``sys.exit(0)``, without a traceback: what was asked for has been done."""

    def __init__(self) -> None:
        super().__init__(0)
        self.code = 0


@contextmanager
def cancelled_by_sigterm() -> Iterator[None]:
    """Only in the main thread, and only if the program has no SIGTERM handler of its own."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    opener, earlier = asyncio.current_task(), itertools.count()
    cancelled = False

    def received() -> None:
        nonlocal cancelled
        if next(earlier) > 0 or opener is None:
            os._exit(128 + signal.SIGTERM)
        cancelled = opener.cancel()

    stop_listening = _listen(received)
    try:
        yield
    except asyncio.CancelledError as error:
        if cancelled and type(error) is asyncio.CancelledError:
            raise StoppedBySigtermError from error
        raise
    finally:
        stop_listening()


def _listen(received: Callable[[], None]) -> Callable[[], object]:
    """Call it in the loop; what comes back ends that. Event loops on Windows, and some others, leave signals to the interpreter."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, received)
    except NotImplementedError:
        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(received))
        return lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return lambda: loop.remove_signal_handler(signal.SIGTERM)
