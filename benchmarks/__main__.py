"""Measure durable-core, or the floor under it.

    python -m benchmarks WORKLOAD [N] [--url URL] [--contender floor] [--cpu-bound-thread]   one JSON row
    python -m benchmarks compare WORKLOAD [N] [...]     against the floor: alternating, fresh processes, median of seven
    python -m benchmarks growth [...]                   whether an activity costs more in a larger fan-out

``{folder}`` in a URL stands for a fresh temporary folder and ``{fresh}`` for a fresh name (``postgresql://…?hub=bench_{fresh}``), so that every run
starts on an empty store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.machine import fsync_ms, maxrss_mib, start_cpu_bound_thread

SQLITE = "sqlite:///{folder}/hub.db"
SIZES = {"hello5": 2_000, "fanout": 10_000, "latency": 500, "empty": 5_000}


def measure_one(workload: str, n: int, options: argparse.Namespace) -> report.Row:
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as name:
        folder = Path(name)
        fsync = fsync_ms(folder)
        if options.cpu_bound_thread:
            start_cpu_bound_thread()
        if options.contender == "floor":
            seconds, commits, latencies = asyncio.run(measure_floor(workload, n, folder))
            activities = {"hello5": 5, "fanout": 1, "latency": 1, "empty": 1}[workload]
        else:
            from benchmarks import workloads

            measured = asyncio.run(workloads.measure(workload, n, options.url.format(folder=folder, fresh=secrets.token_hex(4))))
            seconds, commits, latencies = measured.seconds, measured.commits, measured.latencies_s
            activities = max(1, workloads.ACTIVITIES_EACH[workload])
        row: report.Row = {"contender": options.contender, "workload": workload, "n": n, "seconds": round(seconds, 4)}
        if latencies:
            row |= {"p50_ms": report.percentile_ms(latencies, 0.5), "p99_ms": report.percentile_ms(latencies, 0.99)}
        else:
            row["per_s"] = round(n * activities / seconds)
        row |= {"commits": commits, "maxrss_mib": round(maxrss_mib(), 1), "fsync_ms": round(fsync, 3)}
        if options.cpu_bound_thread:
            row["cpu_bound_thread"] = True
        return row


async def measure_floor(workload: str, n: int, folder: Path) -> tuple[float, int, list[float]]:
    from benchmarks import floor

    store = floor.Store(folder / "floor.db")
    engine = floor.Floor(store)
    latencies: list[float] = []
    started = time.perf_counter()
    match workload:
        case "hello5":
            await engine.run(floor.hello5, range(n))
        case "empty":
            await engine.run(floor.empty, range(n))
        case "fanout":
            await engine.run(floor.fanout, [n])
        case _:
            for k in range(n):
                before = time.perf_counter()
                await engine.run(floor.hello1, [k])
                latencies.append(time.perf_counter() - before)
    seconds = time.perf_counter() - started
    store.close()
    return seconds, engine.commits, latencies


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", metavar="WORKLOAD [N] | compare WORKLOAD [N] | growth", help=f"workloads: {', '.join(SIZES)}")
    parser.add_argument("--url", default=SQLITE, help=f"the store (default: {SQLITE})")
    parser.add_argument("--contender", choices=report.CONTENDERS, default="durable-core")
    parser.add_argument("--cpu-bound-thread", action="store_true", help="let a thread compute all the time (not in compare's floor)")
    options = parser.parse_args()
    command, rest = ("", options.what) if options.what[0] in SIZES else (options.what[0], options.what[1:])
    passed_on = ["--url", options.url, *(["--cpu-bound-thread"] if options.cpu_bound_thread else [])]
    match command, *rest:
        case "growth", *_ if not rest:
            report.growth([*passed_on, "--contender", options.contender])
        case (("" | "compare"), workload, *size) if workload in SIZES and len(size) <= 1 and all(map(str.isdecimal, size)):
            n = int(size[0]) if size else SIZES[workload]
            if command:
                report.compare(workload, n, passed_on)
            else:
                print(json.dumps(measure_one(workload, n, options)))
        case _:
            parser.error(f"cannot run {' '.join(options.what)!r}; see --help")
    return 0


if __name__ == "__main__":
    sys.exit(main())
