"""Look at a hub, and save what is sound of a damaged one. Neither changes anything in it.

    python -m durable_azure inspect URL             what is there; 1 if something is damaged
    python -m durable_azure recover URL NEW_URL     a new hub, in an empty container, of everything up to the damage

Credentials come from the environment (see the README); URLs are those of the engine. Stop all workers first.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator

from durable_azure.backend import open_backend, open_emulator
from durable_azure.blobs import Blobs
from durable_azure.checks import check_account
from durable_azure.options import AzureOptions, parse_emulator_url, parse_url
from durable_azure.recovery import Found, find, save
from durable_core.errors import StoreError


def options_for(url: str) -> AzureOptions:
    return parse_emulator_url(url, {}) if url.startswith("azurite:") else parse_url(url, {})


def lines_about(found: Found, wrong: list[str]) -> Iterator[str]:
    state, beginning = found.replica.state, found.beginning
    yield f"hub {beginning.hub or '(its first log)'}: {found.frames:,} appends"
    yield f"begins with {beginning.snapshot or 'nothing'}"
    yield from (f"then {name}: {size:,} bytes" for name, size in found.logs.items())
    statuses = Counter(row.status.value for row in state.instances.values())
    yield f"instances: {', '.join(f'{count:,} {name}' for name, count in sorted(statuses.items())) or 'none'}"
    yield f"tasks: {len(state.tasks):,}; messages that wait: {sum(map(len, state.inbox.values())):,}"
    yield from (
        f"worker {row.id}, alive for {(row.until_us - state.now_us) / 1e6:,.0f} s after the last append" for row in state.workers.values()
    )
    yield from (f"DAMAGED: {text}" for text in wrong)


async def run(what: str, url: str, new_url: str | None) -> int:
    blobs = Blobs(options_for(url))
    try:
        await check_account(blobs, create=False)
        limits = (open_emulator if url.startswith("azurite:") else open_backend)(url).capabilities
        found, wrong = await find(blobs, limits)
    finally:
        await blobs.close()
    _say(*lines_about(found, wrong))
    if new_url is not None:
        into = Blobs(options_for(new_url))
        try:
            await check_account(into, create=True)
            await save(found, into)
        finally:
            await into.close()
        lost = "What was written behind the damage is lost." if found.damage else "Nothing is lost."
        _say(f"All of that is in {into.options.where} now. {lost}")
        return 0
    return 1 if wrong else 0


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m durable_azure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name in ("inspect", "recover"):
        command = commands.add_parser(name)
        command.add_argument("url")
        if name == "recover":
            command.add_argument("new_url")
    options = parser.parse_args()
    try:
        return asyncio.run(run(options.what, options.url, getattr(options, "new_url", None)))
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
