"""The command line of the example: ``python -m examples.index_stdlib [--root DIR] [--store FILE] [--fresh] [--effects FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from durable_core import DurableError
from examples.index_stdlib.run import main

_STORE = Path(__file__).resolve().parents[2] / ".demo" / "index_stdlib.db"
_INTERRUPTED = 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.index_stdlib", description="Index Python's standard library; may be killed and run again.")
    parser.add_argument("--root", type=Path, help="another folder to index")
    parser.add_argument("--store", type=Path, default=os.environ.get("INDEX_STDLIB_STORE") or _STORE, help="the SQLite file (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", default=bool(os.environ.get("FRESH")), help="forget earlier runs (or FRESH=1 in the environment)")
    parser.add_argument("--chunk-size", type=int, default=50, help="files in one sub-orchestration (default: %(default)s)")
    parser.add_argument("--effects", type=Path, help="append a line to this file for each execution of an activity")
    return parser.parse_args()


def _remove(store: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(store.with_name(store.name + "-workers"), ignore_errors=True)


def _run() -> int:
    options = _options()
    store = Path(options.store).resolve()
    store.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        _remove(store)
    messages = Console(stderr=True)
    try:
        asyncio.run(main(f"sqlite:///{store}", root=options.root, chunk_size=options.chunk_size, effects=options.effects))
    except (KeyboardInterrupt, asyncio.CancelledError):
        messages.print("stopped; what is done is kept. Run the same command again to go on, or with FRESH=1 to start over")
        return _INTERRUPTED
    except DurableError as error:
        messages.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_run())
