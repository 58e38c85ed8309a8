"""The certificate: what was found out about a store, as JSON for machines and as a table for people."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from msgspec import structs

from durable_conformance.harness import Harness
from durable_conformance.properties import Property
from durable_core.backend import PROTOCOL_VERSION

__all__ = ["Run", "certificate", "table"]


@dataclass
class Run:
    """What happened to one store in one run of pytest. ``cases`` counts what is more than tests: random programs, say."""

    passed: list[tuple[str, frozenset[Property]]] = field(default_factory=list)
    failed: list[tuple[str, Property | None, str]] = field(default_factory=list)
    exempt: list[tuple[str, str]] = field(default_factory=list)
    not_run: list[tuple[str, str]] = field(default_factory=list)
    cases: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def certificate(spec: str, harness: Harness, run: Run, *, profile: str, seed: int) -> dict[str, Any]:
    """Plain data. ``verdict`` is "conforms" only if nothing failed, nothing is exempt, and something was tested."""
    verdict = "fails" if run.failed or not (run.passed or run.exempt) else "conforms with exemptions" if run.exempt else "conforms"
    return {
        "verdict": verdict,
        "backend": spec,
        "backend_version": _version_of(harness),
        "protocol_version": PROTOCOL_VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}",
        "durability": harness.capabilities.durability,
        "capabilities": structs.asdict(harness.capabilities),
        "harness": sorted(harness.features),
        "profile": profile,
        "seed": seed,
        "seconds": round(run.seconds, 1),
        "tests": {"passed": len(run.passed), "failed": len(run.failed), "exempt": len(run.exempt), "not run": len(run.not_run)},
        "cases": dict(run.cases),
        "faults": dict(sorted(run.faults.items())),
        "properties": [_findings(property, run) for property in Property],
        "failures": [
            {"test": test, "property": property.name if property else None, "error": error} for test, property, error in run.failed
        ],
        "exempt": [{"test": test, "why": why} for test, why in run.exempt],
        "not_run": [{"test": test, "why": why} for test, why in run.not_run],
    }


def _findings(property: Property, run: Run) -> dict[str, Any]:
    passed = sum(property in properties for _, properties in run.passed)
    failed = sum(broken is property for _, broken, _ in run.failed)
    return {"number": property.number, "name": property.name, "promise": property.text, "passed": passed, "failed": failed}


def _version_of(harness: Harness) -> str:
    said = getattr(harness, "version", None)
    if said is not None:
        return str(said)
    package = type(harness).__module__.partition(".")[0]
    names = packages_distributions().get(package) or [package]
    try:
        return f"{names[0]} {version(names[0])}"
    except PackageNotFoundError:
        return "unknown"


def table(found: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    capabilities = ", ".join(name for name, value in found["capabilities"].items() if value is True) or "none"
    rows = [
        (f"{row['number']:>2} {row['name']}", str(row["passed"]), str(row["failed"]), _say(row), row["promise"])
        for row in found["properties"]
    ]
    lines = [
        f"{found['backend']} ({found['backend_version']}): {found['verdict']}",
        f"protocol {found['protocol_version']}, durability {found['durability']}, capabilities: {capabilities}",
        f"profile {found['profile']}, seed {found['seed']}, {found['seconds']:.0f} s, {_list(found['tests'])}",
        *([f"cases: {_list(found['cases'])}"] if found["cases"] else []),
        *([f"faults: {_list(found['faults'])}"] if found["faults"] else []),
        "",
        *_aligned([("property", "passed", "failed", "", "promise"), *rows]),
    ]
    why = Counter(entry["why"] for entry in found["not_run"])
    lines += [""] if why else []
    lines += [f"{many} tests were not run: {reason}" for reason, many in sorted(why.items())]
    lines += [f"exempt: {entry['test']}: {entry['why']}" for entry in found["exempt"]]
    return lines


def _say(row: dict[str, Any]) -> str:
    return "BROKEN" if row["failed"] else "ok" if row["passed"] else "not tested"


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
