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
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cancelled_by_sigterm() -> Iterator[None]:
    """Only in the main thread, and only if the program has no SIGTERM handler of its own."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    loop, opener, earlier = asyncio.get_running_loop(), asyncio.current_task(), itertools.count()

    def received() -> None:
        if next(earlier) > 0 or opener is None:
            os._exit(128 + signal.SIGTERM)
        opener.cancel()

    loop.add_signal_handler(signal.SIGTERM, received)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
