"""``python -m durable_core.testing.simulation``: many seeds on several cores. Without ``--engine`` and ``--load`` it runs random programs, so that it
proves a store, or the engine itself."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from durable_core.testing.simulation.jobs import simulate_by_name
from durable_core.testing.simulation.run import Report

_SEEDS_PER_JOB = 5
_ENOUGH_SEEDS = 200
_PROGRAMS = "durable_core.testing.simulation.programs"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m durable_core.testing.simulation", description="Simulate the engine, seed by seed.")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--workers", type=int, default=3, help="simulated worker processes")
    parser.add_argument("--backend", default="durable_core.testing.memory:MemoryBackend", help="module:factory of the store")
    parser.add_argument("--engine", default=f"{_PROGRAMS}:engine", help="module:name of the DurableEngine")
    parser.add_argument("--load", default=f"{_PROGRAMS}:LOADS", help="module:name of a load, or of a tuple of them")
    options = parser.parse_args(arguments)
    what = options.engine, options.load, options.backend, options.workers
    last = options.first + options.seeds
    parts = [range(first, min(first + _SEEDS_PER_JOB, last)) for first in range(options.first, last, _SEEDS_PER_JOB)]
    report = Report()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(simulate_by_name, *what, seeds) for seeds in parts]):
            result = done.result()
            if isinstance(result, str):
                print(result)
                pool.shutdown(cancel_futures=True)
                return 1
            report += result
    print(report)
    if report.missing and options.seeds >= _ENOUGH_SEEDS:
        print(f"never happened: {', '.join(report.missing)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
