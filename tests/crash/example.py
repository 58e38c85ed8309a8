"""An example, to be killed and started again: ``python -m tests.crash.example NAME --url sqlite:////… --log FILE``.

Its ``main`` is run as it is, in its smallest size; the process ends with status 0 if the result is what the example gives without the
engine. Then the work goes on until nothing is left: children and activities may outlive an orchestration that failed at once.

``rest_controller`` has a second process, which is this program under the name ``rest_controller.worker`` and may be killed as well:
``--worker-point``. Status 3: it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path

from durable_core import DurableEngine
from examples.catalogue import load
from tests.crash.failpoints import watch_activities, watch_commits
from tests.crash.journal import Journal
from tests.crash.stores import store_at
from tests.examples.sizes import SMALL

REST, WORKER = "rest_controller", "rest_controller.worker"
WORKER_ENDED = 3


async def run(given: argparse.Namespace) -> int:
    example, size = load(given.name), SMALL.get(given.name, {})
    result, expected = await example.main(given.url, **size), await example.without_engine(**size)
    assert result == expected, f"{result} is not {expected}"
    await work_to_the_end(example.engine, given)  # type: ignore[attr-defined]
    return 0


async def work_to_the_end(engine: DurableEngine, given: argparse.Namespace) -> None:
    store = store_at(given.url)

    def is_left() -> bool:
        views = "instances WHERE status IN ('PENDING', 'RUNNING') AND id NOT LIKE '@%'", "tasks"  # entities have no end
        return any(store.rows(f"SELECT 1 FROM {view} LIMIT 1") for view in views)  # noqa: S608  # one of these

    if is_left():
        async with engine.open(given.url):
            while is_left():
                await asyncio.sleep(0.01)


async def run_with_worker(given: argparse.Namespace) -> int:
    """The worker's command is that of this program; the example adds the URL."""
    from examples.rest_controller.run import WorkerEndedError, main, without_engine

    command = [sys.executable, "-m", "tests.crash.example", WORKER, "--log", str(given.log)]
    command += ["--commits", str(given.commits), *(["--point", given.worker_point] if given.worker_point else []), "--url"]
    try:
        result, expected = await main(given.url, command), await without_engine()
    except WorkerEndedError:
        return WORKER_ENDED
    assert result == expected, f"{result} is not {expected}"
    return 0


async def work(given: argparse.Namespace) -> int:
    from examples.rest_controller.worker import work

    await work(given.url, child=True)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--url", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--report", type=int, default=-1)
    parser.add_argument("--point")
    parser.add_argument("--worker-point")
    parser.add_argument("--commits", type=Path, help="where the worker says how many it has made")
    return parser.parse_args()


def main(given: argparse.Namespace) -> int:
    journal = Journal()
    journal.open(given.log, store_at(given.url), given.report)
    commits = watch_commits(given.point, journal)
    watch_activities(journal)
    status = asyncio.run({REST: run_with_worker, WORKER: work}.get(given.name, run)(given))
    if given.name == WORKER:
        given.commits.write_text(str(commits.count))
    else:
        sys.stdout.write(json.dumps({"commits": commits.count}) + "\n")
    return status


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("durable_core.activity").setLevel(logging.ERROR)  # some fail on purpose; a traceback is a finding
    sys.exit(main(arguments()))
