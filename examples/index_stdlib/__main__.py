"""The command line: ``python -m examples.index_stdlib [--root DIR] [--store FILE] [--fresh] [--chunk-size N] [--effects FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from pathlib import Path

_STORE = Path(__file__).resolve().parents[2] / ".demo" / "index_stdlib.db"
_INTERRUPTED = 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.index_stdlib", description="Index Python's standard library. Stop it, kill it, run it again: it goes on."
    )
    store = os.environ.get("INDEX_STDLIB_STORE") or _STORE
    parser.add_argument("--root", type=Path, help="index another folder")
    parser.add_argument("--store", type=Path, default=Path(store), help="the SQLite file (also INDEX_STDLIB_STORE; default: %(default)s)")
    parser.add_argument(
        "--fresh", action="store_true", default=os.environ.get("FRESH", "0") not in ("", "0"), help="start over (also FRESH=1)"
    )
    parser.add_argument("--chunk-size", type=int, default=50, help="files in one sub-orchestration (default: %(default)s)")
    parser.add_argument("--effects", type=Path, help="append a line to this file for each execution of an activity")
    return parser.parse_args()


def _remove(store: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(store.with_name(store.name + "-workers"), ignore_errors=True)


def _index(options: argparse.Namespace) -> int:
    # Imported here, so that a Ctrl-C in that half second ends as politely as a later one.
    from durable_core import DurableError
    from examples.index_stdlib.run import main

    store = options.store.resolve()
    store.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        _remove(store)
    try:
        asyncio.run(main(f"sqlite:///{store}", root=options.root, chunk_size=options.chunk_size, effects=options.effects))
    except DurableError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _command() -> int:
    options = _options()
    try:
        return _index(options)
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C; SIGTERM
        print("Stopped. What is done is kept: run it again to go on, or with FRESH=1 to start over.", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(_command())
