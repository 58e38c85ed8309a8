"""SIGTERM to programs as people write them: they drain, run what they have on the way out, and end with status 0 and without a traceback."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from durable_core import DurableEngine, OrchestrationContext

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")]

PROGRAM = """
import asyncio, sys
from durable_core import DurableEngine, activity, orchestrator

engine = DurableEngine(sys.argv[1])

@engine.activity
async def slow() -> str:
    print("running", flush=True)
    await asyncio.sleep(0.5)
    return "done"

@engine.orchestrator
async def flow(ctx) -> str:
    return await ctx.call_activity(slow)

class Resource:
    async def __aenter__(self):
        return self
    async def __aexit__(self, *exc):
        await asyncio.sleep(0)
        print("released", flush=True)

async def body():
    await engine.client.schedule_new_orchestration(flow, instance_id="f")
    await asyncio.Event().wait()
"""

MAINS = {
    "plain": """
        async def main():
            async with Resource():
                async with engine:
                    await body()
    """,
    "it catches the cancellation": """
        async def main():
            async with Resource():
                async with engine:
                    try:
                        await body()
                    except asyncio.CancelledError:
                        print("caught", flush=True)
            print("went on", flush=True)
    """,
    "it catches the cancellation outside": """
        async def main():
            async with Resource():
                try:
                    async with engine:
                        await body()
                except asyncio.CancelledError:
                    print("caught", flush=True)
            print("went on", flush=True)
    """,
    "in a task group": """
        async def main():
            async with Resource(), asyncio.TaskGroup() as group:
                async with engine:
                    group.create_task(asyncio.sleep(600))
                    await body()
    """,
    "in a task of its own": """
        async def serve():
            async with engine:
                await body()

        async def main():
            async with Resource():
                await asyncio.create_task(serve())
    """,
    "under a time-out": """
        async def main():
            async with Resource(), asyncio.timeout(600):
                async with engine:
                    await body()
    """,
    "on a loop without signal handlers": """
        class Loop(asyncio.SelectorEventLoop):
            def add_signal_handler(self, *args):
                raise NotImplementedError

        async def main():
            async with Resource():
                async with engine:
                    await body()

        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(main())
        sys.exit("not reached")
    """,
}
SAYS = {
    "it catches the cancellation": ["running", "caught", "released", "went on"],
    "it catches the cancellation outside": ["running", "caught", "released", "went on"],
}


@pytest.mark.parametrize("name", MAINS)
def test_a_program_that_is_told_to_end_drains_and_ends_quietly(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    main = textwrap.dedent(MAINS[name])
    program = PROGRAM + main + ("" if "Runner" in main else "\nasyncio.run(main())\n")
    child = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        first = child.stdout.readline()
        assert first == "running\n"
        os.kill(child.pid, signal.SIGTERM)
        out, errors = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert "Traceback" not in errors, errors
    assert child.returncode == 0, errors
    assert (first + out).split("\n")[:-1] == SAYS.get(name, ["running", "released"])
    assert asyncio.run(_result(url)) == "done", "the running activity ended, and its result was saved"


async def _result(url: str) -> str | None:
    """Of a worker that could not run the activity itself."""
    engine = DurableEngine(url)

    @engine.orchestrator
    async def flow(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity("slow", return_type=str)

    async with engine:
        state = await engine.client.wait_for_completion("f", timedelta(seconds=20))
        return state.output_as(str)


def test_a_program_whose_engine_cannot_be_closed_says_so(tmp_path: Path) -> None:
    """It is no quiet end if leases could not be given back."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    program = (
        PROGRAM
        + """
from durable_core.errors import StoreReadOnlyError

async def refuse(commands):
    raise StoreReadOnlyError("no writes here")

async def main():
    async with engine:
        await engine.client.schedule_new_orchestration(flow, instance_id="f")
        await engine.client.wait_for_start("f")
        engine.backend.apply = refuse
        print("refusing", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    )
    child = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        while child.stdout.readline() != "refusing\n":
            assert child.poll() is None
        os.kill(child.pid, signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 1
    assert "StoreReadOnlyError" in errors
