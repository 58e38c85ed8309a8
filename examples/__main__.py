"""Run the examples: ``python -m examples [NAME…] [URL…]``. Without names all of them, without URLs on every store that needs no server.

For each it prints the result and what the same computation gives without the engine; the exit status is 1 if one differs.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from examples.catalogue import EXAMPLES, load

_WIDTH = 150


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}… ({len(text)} characters)"


async def _agrees(name: str, url: str) -> bool:
    example = load(name)
    result, expected = await example.main(url), await example.without_engine()
    print(f"{name} on {url.partition('://')[0]}\n  engine          {_shown(result)}\n  without engine  {_shown(expected)}")
    if result != expected:
        print("  THEY DIFFER")
    return bool(result == expected)


async def _run(names: list[str], urls: list[str]) -> int:
    agreed = [await _agrees(name, url) for name in names for url in urls]
    print(f"{sum(agreed)} of {len(agreed)} runs gave what the computation without engine gives")
    return 0 if all(agreed) else 1


def _main(arguments: list[str]) -> int:
    urls = [argument for argument in arguments if "://" in argument]
    names = [argument for argument in arguments if "://" not in argument]
    unknown = set(names) - set(EXAMPLES)
    if unknown:
        sys.exit(f"no example is called {', '.join(sorted(unknown))}; there are {', '.join(EXAMPLES)}")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(names or list(EXAMPLES), urls or ["memory://", f"sqlite:///{Path(folder) / 'examples.db'}"]))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
