"""What a figure depends on beside the code: how long an fsync takes, a busy thread, how much memory was taken."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path

FSYNCS = 50


def fsync_ms(folder: Path) -> float:
    """The median time of writing one page and making it durable, in the folder of the store."""
    page, times = bytes(4096), list[float]()
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(FSYNCS):
            started = time.perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def maxrss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start_cpu_bound_thread() -> None:
    """A thread that never lets go of the interpreter of its own accord. It ends with the process."""

    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, name="cpu-bound", daemon=True).start()
