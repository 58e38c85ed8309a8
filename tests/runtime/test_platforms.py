"""Elsewhere than on Linux: what only Unix has is done without. Simulated: another platform's name, its modules missing, its event loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRETEND = """
import asyncio, concurrent.futures, importlib.metadata, multiprocessing.spawn, os, signal, sqlite3, subprocess, sys, tempfile, threading
import aiohttp, asyncpg, azure.storage.blob.aio  # drivers know for themselves where they are

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "pwd", "grp", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules.pop(name, None)
for module, names in {os: ("fork", "register_at_fork", "getuid", "geteuid", "O_CLOEXEC"), signal: ("pthread_sigmask", "SIGKILL")}.items():
    for name in names:
        delattr(module, name)
sys.platform = "win32"

class Loop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *args):
        raise NotImplementedError
    def remove_signal_handler(self, *args):
        raise NotImplementedError
"""

QUICKSTART = """
from durable_core import DurableEngine

engine = DurableEngine()

@engine.activity
def greet(name: str) -> str:
    return f"Hello {name}!"

@engine.orchestrator
async def hello(ctx, name: str) -> str:
    return await ctx.call_activity(greet, name)

async def main():
    async with engine.open(sys.argv[1]):
        handle = await engine.client.schedule_new_orchestration(hello, "you")
        print(await handle.result())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
import durable_azure, durable_postgres  # they can be imported, too
"""


def test_the_quickstart_runs_where_only_what_every_platform_has_is_there(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path / 'store.db'}", "memory://"):
        ended = subprocess.run([sys.executable, "-c", PRETEND + QUICKSTART, url], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout == "Hello you!\n"
