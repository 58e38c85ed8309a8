"""One measurement is one JSON row; a claim is a median over rows of fresh processes, contenders taking turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

CONTENDERS = ("durable-core", "floor")
ROUNDS = 7
GROWTH = (1_000, 2_000, 10_000, 20_000)
GROWTH_ROUNDS = 5


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)


def run(workload: str, n: int, arguments: Sequence[str]) -> Row:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", workload, str(n), *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {ended.returncode}")
    row: Row = json.loads(ended.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def compare(workload: str, n: int, arguments: Sequence[str]) -> None:
    """durable-core against the floor, alternating, medians of seven. The ratio is the claim, the rest is colour.

    ``arguments`` (the store, a busy thread) are for durable-core. The floor always runs undisturbed: its naive executemany
    gives the interpreter away once a row, and beside a busy thread it would measure that alone.
    """
    rows: dict[str, list[Row]] = {contender: [] for contender in CONTENDERS}
    for _ in range(ROUNDS):
        for contender in CONTENDERS:
            mine = [] if contender == "floor" else arguments
            rows[contender].append(run(workload, n, [*mine, "--contender", contender]))
    figure = "p50_ms" if workload == "latency" else "per_s"
    medians = {contender: statistics.median(row[figure] for row in rows[contender]) for contender in CONTENDERS}
    fsync = statistics.median(row["fsync_ms"] for each in rows.values() for row in each)
    print(f"\n{workload} {n}, median of {ROUNDS}, {figure}; fsync {fsync:.2f} ms\n")
    print(f"{'contender':<14}{'median':>10}{'least':>10}{'most':>10}{'commits':>9}{'MiB':>8}")
    for contender, each in rows.items():
        figures = [row[figure] for row in each]
        commits = statistics.median(row["commits"] for row in each)
        memory = statistics.median(row["maxrss_mib"] for row in each)
        print(f"{contender:<14}{medians[contender]:>10,.6g}{min(figures):>10,.6g}{max(figures):>10,.6g}{commits:>9,.6g}{memory:>8,.5g}")
    ours, floor = (medians[contender] for contender in CONTENDERS)
    share = floor / ours if workload == "latency" else ours / floor
    print(f"\ndurable-core keeps {share:.2f} of the floor")


def growth(arguments: Sequence[str]) -> None:
    """What one more activity costs in a large fan-out against a small one, by slopes: starting up cancels out."""
    rows: dict[int, list[Row]] = {n: [] for n in GROWTH}
    for _ in range(GROWTH_ROUNDS):
        for n in GROWTH:
            rows[n].append(run("fanout", n, arguments))
    seconds = {n: statistics.median(row["seconds"] for row in rows[n]) for n in GROWTH}
    print(f"\nfanout, median of {GROWTH_ROUNDS}\n")
    for n in GROWTH:
        print(f"{n:>7,}  {seconds[n]:8.3f} s  {seconds[n] / n * 1e6:7.1f} us an activity")
    a, b, c, d = GROWTH
    small = (seconds[b] - seconds[a]) / (b - a) * 1e6
    large = (seconds[d] - seconds[c]) / (d - c) * 1e6
    print(f"\nslope {a:,} to {b:,}: {small:.1f} us; {c:,} to {d:,}: {large:.1f} us; ratio {large / small:.2f}")
