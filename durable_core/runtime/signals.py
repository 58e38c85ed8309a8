"""SIGTERM while an engine is open: the first one cancels the task that opened it, so that it drains and closes; the second ends the
process.

Ctrl-C needs nothing of ours: ``asyncio.run`` cancels the main task at the first and raises KeyboardInterrupt at the second.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading


class TerminationSignal:
    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0

    def install(self) -> None:
        """Only in the main thread, and only if the program has no SIGTERM handler of its own."""
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        opener = asyncio.current_task()
        self._loop = asyncio.get_running_loop()

        def received() -> None:
            self._count += 1
            if self._count > 1 or opener is None:
                os._exit(128 + signal.SIGTERM)
            opener.cancel()

        self._loop.add_signal_handler(signal.SIGTERM, received)

    def remove(self) -> None:
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGTERM)
            self._loop = None
