"""The pytest plugin. It is loaded for everybody who has pytest and durable-core installed, so it imports pytest alone and stays
out of the way.

``--durable-backend`` may be given several times; each test of the suite then runs once on each store. A store that is missing or
cannot be opened is an error of usage, never a skip. Tests that need what a store does not declare are left out, and those that are for
stores which do not declare it run instead; the certificate says which and why.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable_conformance.certificate import Run
    from durable_conformance.harness import Harness

_FIXTURE = "durable_harness"
_runs = pytest.StashKey[dict[str, "Run"]]()
PROFILES = {"smoke": "under a minute", "full": "at most eight minutes", "soak": "as long as --durable-minutes says"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("durable-core", "conformance of durable-core backends")
    group.addoption(
        "--durable-backend",
        action="append",
        default=[],
        metavar="URL|MODULE:FACTORY",
        help="test this store with --pyargs durable_conformance.suite (may be repeated)",
    )
    # The short names belong to others, too: they are ours only where the suite is named on the command line.
    ours = any("durable_conformance" in word for word in sys.argv)
    profile = ["--durable-profile", *(["--profile"] if ours else [])]
    how_long = "; ".join(f"{name}: {text}" for name, text in PROFILES.items())
    group.addoption(*profile, dest="durable_profile", choices=list(PROFILES), default="smoke", help=f"how much is tried ({how_long})")
    certificate = ["--durable-certificate", *(["--certificate"] if ours else [])]
    group.addoption(*certificate, dest="durable_certificate", metavar="FILE", help="write what was found to this file, as JSON")
    group.addoption("--durable-seed", type=int, metavar="N", help="of all random choices (default: 1, for soak a new one; it is shown)")
    group.addoption("--durable-minutes", type=float, default=60.0, metavar="N", help="how long soak tries random programs (default: 60)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "durable_property(property): what the test is evidence for")
    config.addinivalue_line("markers", "durable_requires(*names): capabilities of the store or features of its harness")
    config.addinivalue_line("markers", "durable_refuses(name): for stores that do not declare this")
    config.addinivalue_line("markers", "durable_full: not part of the smoke profile")
    config.stash[_runs] = {}
    if config.getoption("durable_seed") is None:
        config.option.durable_seed = random.SystemRandom().randrange(10**6) if config.getoption("durable_profile") == "soak" else 1


# ── what is run ──────────────────────────────────────────────────────────────────────────────────────────────────


def pytest_sessionstart(session: pytest.Session) -> None:
    for spec in session.config.getoption("durable_backend") or ():
        _try_out(spec)


def _try_out(spec: str) -> None:
    """What is wrong with it is better said once than by every test."""
    from durable_conformance.harness import check_handle, check_harness

    async def open_once() -> None:
        harness = _new_harness(spec)
        check_harness(harness)
        try:
            check_handle(await harness.open())
        finally:
            await harness.destroy()

    try:
        asyncio.run(open_once())
    except Exception as error:
        raise pytest.UsageError(f"--durable-backend {spec}: {type(error).__name__}: {error}") from error


def _new_harness(spec: str) -> Harness:
    from durable_conformance.harness import factory_for

    return factory_for(spec)()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _FIXTURE in metafunc.fixturenames:
        specs: list[str | None] = metafunc.config.getoption("durable_backend") or [None]
        metafunc.parametrize(_FIXTURE, specs, indirect=True, ids=[str(spec) for spec in specs], scope="function")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply; refuse to run without a store."""
    ours = {item: spec for item in items if (spec := _spec_of(item)) is not _NOT_OURS}
    if None in ours.values():
        raise pytest.UsageError("the conformance suite needs a store: --durable-backend URL or --durable-backend module:factory")
    deselected: set[pytest.Item] = set()
    for spec in dict.fromkeys(filter(None, ours.values())):
        deselected |= _select(config, spec, [item for item, of in ours.items() if of == spec])
    if deselected:
        config.hook.pytest_deselected(items=list(deselected))
        items[:] = [item for item in items if item not in deselected]


def _select(config: pytest.Config, spec: str, items: list[pytest.Item]) -> set[pytest.Item]:
    """Those that are not to be run on this store."""
    from durable_conformance.certificate import Run
    from durable_conformance.harness import declared_by

    harness = _new_harness(spec)
    declared, exemptions = declared_by(harness), dict(getattr(harness, "exemptions", {}))
    asyncio.run(harness.destroy())
    run = config.stash[_runs][spec] = Run()
    left_out: set[pytest.Item] = set()
    for item in items:
        why = _why_not(item, declared, str(config.getoption("durable_profile")))
        if why is not None:
            run.not_run.append((_name(item), why))
            left_out.add(item)
        for name in [name for name in exemptions if item.name.split("[")[0] == name]:
            item.add_marker(pytest.mark.xfail(reason=exemptions[name], strict=True))
    unknown = exemptions.keys() - {item.name.split("[")[0] for item in items}
    if unknown and config.option.keyword == "":
        raise pytest.UsageError(f"{spec} is exempt from tests that do not exist: {', '.join(sorted(unknown))}")
    return left_out


def _why_not(item: pytest.Item, declared: frozenset[str], profile: str) -> str | None:
    missing = [name for mark in item.iter_markers("durable_requires") for name in mark.args if name not in declared]
    if missing:
        return f"they need {missing[0]}"
    present = [name for mark in item.iter_markers("durable_refuses") for name in mark.args if name in declared]
    if present:
        return f"they are for stores without {present[0]}"
    if profile == "smoke" and item.get_closest_marker("durable_full") is not None:
        return "they are not part of the smoke profile"
    return None


_NOT_OURS = "not a test of the suite"


def _spec_of(item: pytest.Item) -> str | None:
    call = getattr(item, "callspec", None)
    spec = call.params.get(_FIXTURE, _NOT_OURS) if call is not None else _NOT_OURS
    return None if spec is None else str(spec)


def _name(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


@pytest.fixture
def durable_harness(request: pytest.FixtureRequest) -> Harness:
    """A new store of the kind under test. (Its handles are closed by whoever runs the test's loop.)"""
    return _new_harness(request.param)


# ── what is found ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what a test of the suite has shown, and which promise a failure breaks."""
    report = yield
    run = item.config.stash[_runs].get(_spec_of(item) or "")
    if run is not None and (report.when == "call" or report.failed):
        _note(run, item, call, report)
    return report


def _note(run: Run, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    from durable_conformance import faults, properties

    if report.failed:
        error = call.excinfo.value if call.excinfo is not None else None
        run.failed.append((_name(item), properties.broken_by(error), f"{type(error).__name__}: {error}" if error else "it passes"))
    elif hasattr(report, "wasxfail"):
        run.exempt.append((_name(item), report.wasxfail))
    elif report.passed:
        run.passed.append((_name(item), frozenset(properties.entered)))
    run.cases.update(item.stash.get(CASES, {}))
    run.faults.update(faults.exercised)
    run.seconds += report.duration
    properties.entered.clear()
    faults.exercised.clear()


CASES = pytest.StashKey[Counter[str]]()
"""What a test has tried in numbers, by name; for the certificate."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    runs = config.stash[_runs]
    if not runs or config.option.collectonly:
        return
    from durable_conformance.certificate import certificate, table

    found = []
    for spec, run in runs.items():
        harness = _new_harness(spec)
        found.append(certificate(spec, harness, run, profile=config.option.durable_profile, seed=config.option.durable_seed))
        asyncio.run(harness.destroy())
        terminalreporter.section("certificate")
        for line in table(found[-1]):
            terminalreporter.write_line(line)
    file = config.getoption("durable_certificate")
    if file is not None:
        Path(file).write_text(json.dumps(found[0] if len(found) == 1 else found, indent=2) + "\n")
