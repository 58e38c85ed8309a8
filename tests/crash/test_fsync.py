"""What was acknowledged is on the disk: before the reply to each commit there has been a sync of the log file.

Seen from outside, by strace. Where there is none (or tracing is forbidden) the test can only ask the program itself, and says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from tests.crash.audit import audit_round
from tests.crash.children import TIMEOUT_S, Place, strace_works
from tests.crash.program import Shape

pytestmark = [pytest.mark.crash, pytest.mark.timeout(TIMEOUT_S)]

SHAPE = Shape(children=3, width=4, depth=4, generations=3)
OPTIONS = "--shape", "3,4,4,3"
FULL = 2
SYNC_OF_THE_LOG = re.compile(r"^(?:\d+ +)?(\d+\.\d+) f(?:data)?sync\(\d+<[^>]*-wal>", re.MULTILINE)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_every_commit_is_synced_before_anybody_hears_of_it(place: Place, report: Callable[[str], None]) -> None:
    log = place.folder / "strace"
    traced = strace_works()
    command = "strace", "-f", "-y", "-ttt", "-e", "trace=fsync,fdatasync", "-o", str(log)
    child = place.start("run", *OPTIONS, wrapper=command if traced else ())
    answer = child.finish()
    asyncio.run(audit_round(place, SHAPE))
    commits = child.times("commit")
    assert answer["commits"] <= len(commits) <= answer["commits"] + 2  # giving up the leases comes after the count
    if not traced:
        assert answer["synchronous"] == [FULL]
        report(f"no strace here: {answer['commits']} commits were counted by the store itself and seen with synchronous=FULL")
        return
    syncs = sorted(float(at) for at in SYNC_OF_THE_LOG.findall(log.read_text()))
    report(f"{len(commits)} commits, {len(syncs)} syncs of the log seen by strace")
    assert len(syncs) >= len(commits)
    for number, commit in enumerate(sorted(commits)):
        assert syncs[number] <= commit, f"commit {number + 1} of {len(commits)} was acknowledged before its sync"
