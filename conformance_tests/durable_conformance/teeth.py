"""Does the suite bite? ``python -m durable_conformance.teeth [NAME …]`` runs it on every broken store of ``broken/``.

Each has to fail in the part of the suite that its flaw names, and one of the failing assertions has to name the property that it breaks; the
unbroken twins have to pass all of the suite that runs in one process without an engine. Exits 1 if one survives. Where no PostgreSQL
server can be had, its broken stores are left out, and it says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import frozen

from durable_conformance.broken.flaw import MODULES, TWINS, Flaw, load

__all__ = ["Bite", "bite", "main", "pass_over"]

_ALL = "not end_to_end and not processes and not random and not threads"


@frozen
class Bite:
    """What the suite said of one store. ``named``: the properties that its failing assertions named; ``test``: one that named the right
    one."""

    name: str
    wanted: str
    named: tuple[str, ...]
    test: str

    @property
    def caught(self) -> bool:
        return self.wanted in self.named if self.wanted else not self.named


def run_suite(spec: str, keyword: str) -> list[dict[str, Any]]:
    """Its failures, from the certificate."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "certificate.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "durable_conformance.plugin", "-p", "no:cacheprovider", "-W", "error"]
        command += ["--pyargs", "durable_conformance.suite", "--durable-backend", spec, "--certificate", str(file), "-k", keyword]
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment_of(spec)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
        if not file.exists():
            raise RuntimeError(f"the suite did not run on {spec}:\n{done.stdout}{done.stderr}")
        found = json.loads(file.read_text())
        assert found["tests"]["passed"] + found["tests"]["failed"] > 0, f"-k {keyword!r} selects nothing"
        failures: list[dict[str, Any]] = found["failures"]
        return failures


def environment_of(spec: str) -> dict[str, str]:
    """PostgreSQL's stores share a server. Raises ``ImportError`` without the driver and ``RuntimeError`` without a server."""
    if "broken.postgres:" not in spec:
        return {}
    from durable_postgres.servers import server_url

    return {"DURABLE_TEST_POSTGRES": server_url()}


def bite(flaw: Flaw) -> Bite:
    failures = run_suite(flaw.spec, f"({flaw.found_by}) and {_ALL}")
    right = [failure["test"] for failure in failures if failure["property"] == flaw.property.name]
    named = tuple(dict.fromkeys(str(failure["property"]) for failure in failures))
    return Bite(flaw.name, flaw.property.name, named, right[0] if right else "")


def pass_over(twin: str) -> Bite:
    """A layer without a mistake."""
    failures = run_suite(f"durable_conformance.broken.{twin}", _ALL)
    named = tuple(str(failure["property"]) for failure in failures)
    return Bite(twin.replace(":", "."), "", named, failures[0]["test"] if failures else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m durable_conformance.teeth", description="Run the suite on every broken store.")
    parser.add_argument("names", nargs="*", help="of stores (default: all)")
    chosen = parser.parse_args(arguments)
    modules = [module for module in MODULES if _can_be_there(module)]
    flaws = [flaw for name, flaw in load(modules).items() if not chosen.names or name in chosen.names]
    twins = [twin for twin in TWINS if not chosen.names and twin.partition(":")[0] in modules]
    bites: list[Bite] = []
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
        for each in chain(pool.map(bite, flaws), pool.map(pass_over, twins)):
            bites.append(each)
            sys.stdout.write(_line(each) + "\n")
            sys.stdout.flush()
    survivors = [each.name for each in bites if not each.caught]
    sys.stdout.write(f"{len(bites)} stores, {len(survivors)} survive{': ' if survivors else ''}{', '.join(survivors)}\n")
    return 1 if survivors else 0


def _can_be_there(module: str) -> bool:
    try:
        environment_of(f"broken.{module}:")
    except (ImportError, RuntimeError) as error:
        sys.stdout.write(f"not run: the broken stores of {module}: {error}\n")
        return False
    return True


def _line(bite: Bite) -> str:
    verdict = (bite.wanted if bite.caught else f"SURVIVES {bite.wanted}") if bite.wanted else "passes" if bite.caught else "FAILS"
    test = re.sub(r"durable_conformance\.broken\.\w+:\w+-?", "", bite.test).replace("[]", "")
    others = ", ".join(name for name in bite.named if name != bite.wanted)
    return f"{bite.name:42} {verdict:24} {test}{f'  (also {others})' if others else ''}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
