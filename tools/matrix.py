"""Run the core's tests on every CPython of this machine that pyproject.toml claims, each with several hash seeds.

Usage: .venv/bin/python tools/matrix.py [PYTEST_ARGUMENT...]     (default: tests/core, tests/golden, then replay between versions)
       .venv/bin/python tools/matrix.py --exchange PROGRAMS      (random programs between versions, and nothing else)

Replay must not depend on the interpreter's version or on the order of a set: after the tests the histories that the programs of
tests/core/replay leave on each version are replayed on every other, and random programs are begun on each version, stopped at every message and
continued on every other. The version of .venv runs there; each other
one gets a .venv-3.N with the core's own needs and nothing more. Interpreters are looked for on PATH and among those of
pyenv and uv; of one version the latest patch is taken. Pre-releases, free-threaded builds and versions that are not
claimed are passed over.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HASH_SEEDS = ("0", "42")
EXCHANGED = 40  # random programs a pair of versions; `make exchange` takes 500
NEEDS = ("conformance", "pytest-timeout")
PROBE = """
import json, sys, sysconfig, venv
final = sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
print(json.dumps([final and not sysconfig.get_config_var("Py_GIL_DISABLED"), *sys.version_info[:3]]))
"""


def claimed_minors() -> list[int]:
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["classifiers"]
    prefix = "Programming Language :: Python :: 3."
    return [int(line.removeprefix(prefix)) for line in classifiers if line.startswith(prefix)]


def candidates(minor: int) -> Iterator[Path]:
    name = f"python3.{minor}"
    for folder in os.get_exec_path():
        yield Path(folder, name)
    for command, places in ((["pyenv", "root"], "versions/*/bin"), (["uv", "python", "dir"], "*/bin")):
        if shutil.which(command[0]):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                for place in sorted(Path(answer.stdout.strip()).glob(places)):
                    yield place / name


def probe(python: Path, minor: int) -> tuple[int, ...] | None:
    """The interpreter's version, or None if it is not one of ours (a pyenv shim that leads nowhere ends with an error)."""
    if not os.access(python, os.X_OK):
        return None
    answer = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    if answer.returncode:
        return None
    usable, *version = json.loads(answer.stdout)
    return tuple(version) if usable and version[1] == minor else None


def interpreters() -> dict[str, Path]:
    """Version -> an interpreter whose environment is filled, that of .venv first."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": Path(sys.executable)}
    for minor in claimed_minors():
        known = [(version, python) for python in candidates(minor) if (version := probe(python, minor))]
        if minor != sys.version_info.minor and known:
            _, base = max(known)
            folder = PROJECT / f".venv-3.{minor}"
            subprocess.run([sys.executable, PROJECT / "tools" / "venv.py", "--base", base, folder, *NEEDS], check=True)
            found[f"3.{minor}"] = folder / "bin" / "python"
    return found


def run(python: Path, hash_seed: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=PROJECT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def replay_each_others_histories(pythons: dict[str, Path]) -> int:
    """What one version recorded, every version replays, every prefix of it. Returns how many versions could not."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        files = {version: Path(folder, version) for version in pythons}
        for version, file in files.items():
            failures += histories(version, pythons[version], ["--dump", file])
        for version, python in pythons.items():
            failures += histories(version, python, ["--replay", *(file for file in files.values() if file.exists())])
    return failures


def exchange(pythons: dict[str, Path], programs: int) -> int:
    """Random programs, begun on one version and continued on each other one. Returns in how many pairs something went wrong."""
    module = "tests.core.replay.exchange"
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        files = {version: Path(folder, version) for version in pythons}
        recordings = [
            pool.submit(core_module, version, python, module, ["--programs", str(programs), "--record", files[version]])
            for version, python in pythons.items()
        ]
        failures = sum(each.result() for each in recordings)
        continuations = [
            pool.submit(core_module, version, python, module, ["--continue", file])
            for version, python in pythons.items()
            for other, file in files.items()
            if other != version and file.exists()
        ]
        return failures + sum(each.result() for each in continuations)


def histories(version: str, python: Path, arguments: list[str | Path]) -> int:
    return core_module(version, python, "tests.core.replay.histories", arguments, "replays the histories of all versions")


def core_module(version: str, python: Path, module: str, arguments: list[str | Path], silence: str = "") -> int:
    """Run a module of the tests on one version, and say what it says, or ``silence``. Returns 1 if it failed."""
    command: list[str | Path] = [python, "-m", module, *arguments]
    ended = subprocess.run(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if said := ended.stdout.strip() or silence:
        print(f"Python {version}: {said}", flush=True)
    return int(ended.returncode != 0)


def main() -> int:
    if sys.argv[1:2] == ["--exchange"]:
        return 1 if exchange(interpreters(), int(sys.argv[2])) else 0
    arguments = sys.argv[1:] or ["tests/core", "tests/golden"]
    pythons = interpreters()
    own, *others = pythons.items()
    # Another seed gives another order of sets, another Python other sets: all of both would tell no more.
    cases = [(*own, seed) for seed in HASH_SEEDS] + [(*other, HASH_SEEDS[-1]) for other in others]
    failures = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (version, _, seed), ended in zip(cases, pool.map(lambda case: run(case[1], case[2], arguments), cases), strict=True):
            lines = ended.stdout.strip().splitlines() or ["(no output)"]
            print(f"Python {version}, hash seed {seed}: {lines[-1].strip('= ')}", flush=True)
            if ended.returncode:
                failures += 1
                print(ended.stdout, flush=True)
    if not sys.argv[1:]:
        failures += replay_each_others_histories(pythons)
        failures += exchange(pythons, EXCHANGED)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
