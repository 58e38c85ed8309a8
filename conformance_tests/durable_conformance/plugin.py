"""The pytest plugin. It is loaded for everybody who has pytest and durable-core installed, so it imports pytest alone and stays
out of the way.

``--durable-backend`` may be given several times; each test of the suite then runs once on each store. A store that is missing or
cannot be opened is an error of usage, never a skip. Tests that need what a store does not declare are left out, and the summary says so.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable_conformance.harness import Harness

_FIXTURE = "durable_harness"
_left_out = pytest.StashKey[dict[tuple[str, str], int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("durable-core", "conformance of durable-core backends")
    group.addoption(
        "--durable-backend",
        action="append",
        default=[],
        metavar="URL|MODULE:FACTORY",
        help="test this store with --pyargs durable_conformance.suite (may be repeated)",
    )
    # "--profile" is short and belongs to others, too: it is ours only where the suite is named on the command line.
    names = ["--durable-profile", *(["--profile"] if any("durable_conformance" in word for word in sys.argv) else [])]
    group.addoption(
        *names, dest="durable_profile", choices=["smoke", "full", "soak"], default="smoke", help="how many random programs the suite tries"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "durable_property(*properties): what the test is evidence for")
    config.addinivalue_line("markers", "durable_requires(*names): capabilities of the store or features of its harness")
    config.stash[_left_out] = {}


def pytest_sessionstart(session: pytest.Session) -> None:
    for spec in session.config.getoption("durable_backend") or ():
        _try_out(spec)


def _try_out(spec: str) -> None:
    import asyncio

    from durable_conformance.harness import factory_for

    async def open_once() -> None:
        harness = factory_for(spec)()
        try:
            await harness.open()
        finally:
            await harness.destroy()

    try:
        asyncio.run(open_once())
    except Exception as error:
        raise pytest.UsageError(f"--durable-backend {spec}: {type(error).__name__}: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _FIXTURE in metafunc.fixturenames:
        specs: list[str | None] = metafunc.config.getoption("durable_backend") or [None]
        metafunc.parametrize(_FIXTURE, specs, indirect=True, ids=[str(spec) for spec in specs], scope="function")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply; refuse to run without a store."""
    kept: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    declared: dict[str, frozenset[str]] = {}
    for item in items:
        spec = _spec_of(item)
        if spec is _NOT_OURS:
            kept.append(item)
            continue
        if spec is None:
            raise pytest.UsageError("the conformance suite needs a store: --durable-backend URL or --durable-backend module:factory")
        if spec not in declared:
            declared[spec] = _declared_by(spec)
        missing = [name for mark in item.iter_markers("durable_requires") for name in mark.args if name not in declared[spec]]
        if missing:
            deselected.append(item)
            left_out = config.stash[_left_out]
            left_out[spec, missing[0]] = left_out.get((spec, missing[0]), 0) + 1
        else:
            kept.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


_NOT_OURS = "not a test of the suite"


def _spec_of(item: pytest.Item) -> str | None:
    call = getattr(item, "callspec", None)
    spec = call.params.get(_FIXTURE, _NOT_OURS) if call is not None else _NOT_OURS
    return None if spec is None else str(spec)


def _declared_by(spec: str) -> frozenset[str]:
    import asyncio

    from durable_conformance.harness import factory_for

    harness = factory_for(spec)()
    try:
        capabilities = harness.capabilities
        names = ("multi_process", "proves_death")
        return harness.features | {name for name in names if getattr(capabilities, name)}
    finally:
        asyncio.run(harness.destroy())


@pytest.fixture
def durable_harness(request: pytest.FixtureRequest) -> Harness:
    """A new store of the kind under test. (Its handles are closed by whoever runs the test's loop: ``hub.opened``.)"""
    from durable_conformance.harness import factory_for

    return factory_for(request.param)()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says which promise is broken."""
    report = yield
    if report.failed:
        for mark in item.iter_markers("durable_property"):
            lines = [f"property {broken.number}, {broken.name}: {broken.text}" for broken in mark.args]
            report.sections.append(("broken promise", "\n".join(lines)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for (spec, name), count in sorted(config.stash[_left_out].items()):
        terminalreporter.write_line(f"{spec}: {count} tests were not run: they need {name}")
