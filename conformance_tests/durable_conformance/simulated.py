"""Does the simulation bite? ``python -m durable_conformance.simulated [--seeds 200] [NAME …]`` runs it on every broken store in memory.

Each has to be found within so many seeds; the same layer without a mistake has to pass some. Exits 1 if one survives.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from attrs import frozen

from durable_conformance.broken.flaw import load
from durable_core.testing.simulation import SimulationFailure, simulate
from durable_core.testing.simulation.programs import LOADS, engine

__all__ = ["Hunt", "hunt", "main"]

_MODULE = "durable_conformance.broken.memory"
_TWIN = f"{_MODULE}:Twin"
_SEEDS_OF_TWIN = 10


@frozen
class Hunt:
    """What the simulation said of one store: the seed that found something (None: it survives), and what."""

    name: str
    seed: int | None
    finding: str = ""


def hunt(spec: str, seeds: int) -> Hunt:
    name = spec.rpartition(":")[2]
    harness = getattr(import_module(_MODULE), name)
    try:
        simulate(engine, LOADS, seeds=range(seeds), backend=harness.kind, shrinks=False)
    except SimulationFailure as failure:
        return Hunt(name, failure.run.seed, " ".join(failure.run.findings[0].split()))
    return Hunt(name, None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m durable_conformance.simulated", description="Simulate the engine on every broken store in memory."
    )
    parser.add_argument("names", nargs="*", help="of stores (default: all)")
    parser.add_argument("--seeds", type=int, default=200, help="within which each has to be found")
    chosen = parser.parse_args(arguments)
    specs = [flaw.spec for flaw in load(["memory"]).values() if not chosen.names or flaw.spec.rpartition(":")[2] in chosen.names]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        twin = pool.submit(hunt, _TWIN, _SEEDS_OF_TWIN)
        hunts = list(pool.map(hunt, specs, [chosen.seeds] * len(specs)))
    for each in hunts:
        where = "SURVIVES" if each.seed is None else f"seed {each.seed}"
        sys.stdout.write(f"{each.name:32} {where:10} {each.finding[:100]}".rstrip() + "\n")
    survivors = [each.name for each in hunts if each.seed is None]
    innocent = twin.result()
    if innocent.seed is not None:
        sys.stdout.write(f"the store without a mistake FAILS, seed {innocent.seed}: {innocent.finding}\n")
    sys.stdout.write(f"{len(hunts)} stores, {len(survivors)} survive{': ' if survivors else ''}{', '.join(survivors)}\n")
    return 1 if survivors or innocent.seed is not None else 0


if __name__ == "__main__":
    sys.exit(main())
