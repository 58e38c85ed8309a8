"""Entities, one operation after the other: state, order, failures, reads."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from durable_core import EntityContext, EntityId, OrchestrationContext, TaskFailedError, entity, orchestrator
from tests.runtime.support import PATIENCE, engine_with, until


@entity
class Ledger:
    lines: list[str]
    closed: bool = False

    def __init__(self) -> None:
        self.lines = []
        self._scratch = 0

    def write(self, line: str) -> int:
        self._scratch += 1
        self.lines.append(line)
        return len(self.lines)

    def fail_after_writing(self, line: str) -> None:
        self.lines.append(line)
        self.closed = True
        raise ValueError("not like this")

    def read(self) -> list[str]:
        return self.lines


def test_operations_of_one_sender_are_in_order_and_run_one_at_a_time(url, run):
    """Calls and signals mixed."""
    running = most = 0

    @entity
    class Slow:
        seen: list[str]

        def __init__(self) -> None:
            self.seen = []

        async def note(self, what: str) -> list[str]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            self.seen.append(what)
            running -= 1
            return self.seen

    @orchestrator
    async def sender(ctx: OrchestrationContext) -> list[str]:
        slow = ctx.entity(Slow, "k")
        for n in range(10):
            slow.signal(Slow.note, f"{ctx.instance_id} {n}")
        return await slow.call(Slow.note, f"{ctx.instance_id} 10")

    engine = engine_with(Slow, sender)

    async def main():
        async with engine.open(url):
            handles = [await engine.client.schedule_new_orchestration(sender, instance_id=id) for id in "abc"]
            await asyncio.gather(*(handle.result(PATIENCE) for handle in handles))
            return (await engine.client.get_entity(Slow, "k")).seen

    seen = run(main)
    assert most == 1
    for id in "abc":
        assert [line for line in seen if line.startswith(id)] == [f"{id} {n}" for n in range(11)]


def test_state_is_saved_after_success_and_rolled_back_after_a_failure(url, run, caplog):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[Any]:
        ledger = ctx.entity(Ledger, "k")
        seen: list[Any] = [await ledger.call(Ledger.write, "one")]
        try:
            await ledger.call(Ledger.fail_after_writing, "two")
        except TaskFailedError as error:
            seen.append(error.details.message)
        ledger.signal(Ledger.fail_after_writing, "three")
        return [*seen, await ledger.call(Ledger.read)]

    engine = engine_with(Ledger, root)

    async def main():
        async with engine.open(url):
            result = await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)
            return result, await engine.client.get_entity(Ledger, "k")

    with caplog.at_level(logging.ERROR, "durable_core.engine"):
        result, ledger = run(main)
    assert result == [1, "not like this", ["one"]]
    assert (ledger.lines, ledger.closed, ledger._scratch) == (["one"], False, 1)
    assert "signal fail_after_writing of entity @ledger@k failed" in caplog.text


def test_names_are_case_insensitive_and_keys_are_not(url, run):
    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int]:
        return [
            await ctx.call_entity(EntityId(name, key), "write", "x") for name, key in [("LEDGER", "k"), ("ledger", "k"), ("Ledger", "K")]
        ]

    engine = engine_with(Ledger, root)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(root)).result(PATIENCE)

    assert run(main) == [1, 2, 1]


def test_an_entity_may_use_the_clock_and_do_io(url, run, tmp_path):
    file = tmp_path / "written.txt"

    @entity
    class Worldly:
        at: datetime | None = None

        def write(self, ctx: EntityContext, text: str) -> list[str]:
            self.at = datetime.now(UTC)
            file.write_text(text)
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            assert abs(ctx.now - self.at) < timedelta(minutes=1)
            return [str(ctx.id), str(ctx.caller)]

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[str]:
        return await ctx.call_entity(EntityId("Worldly", "k"), "write", "hello")

    engine = engine_with(Worldly, root)

    async def main():
        async with engine.open(url):
            return await (await engine.client.schedule_new_orchestration(root, instance_id="r")).result(PATIENCE)

    assert run(main) == ["@worldly@k", "r"]
    assert file.read_text() == "hello"


def test_progress_is_counted_by_many_and_read_from_outside_meanwhile(url, run):
    @entity
    class Progress:
        done: int = 0

        def step(self) -> int:
            self.done += 1
            return self.done

    @orchestrator
    async def root(ctx: OrchestrationContext) -> list[int]:
        progress = ctx.entity(Progress, ctx.instance_id)

        async def part(n: int) -> int:
            if n >= 5:
                await ctx.wait_for_external_event("go on")
            return await progress.call(Progress.step)

        return await asyncio.gather(*(part(n) for n in range(10)))

    engine = engine_with(Progress, root)

    async def main():
        async with engine.open(url):
            handle = await engine.client.schedule_new_orchestration(root, instance_id="r")

            async def half():
                progress = await engine.client.get_entity(Progress, "r")
                return progress if progress is not None and progress.done == 5 else None

            copy = await until(half)
            copy.done = 1_000_000
            for _ in range(5):
                await engine.client.raise_event("r", "go on")
            results = await handle.result(PATIENCE)
            return results, (await engine.client.get_entity(Progress, "r")).done

    results, done = run(main)
    assert sorted(results) == list(range(1, 11))
    assert done == 10


def test_state_survives_a_restart(tmp_path, run):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = engine_with(Ledger)

    async def main():
        for line in ("one", "two"):
            async with engine.open(url):
                await engine.client.signal_entity(EntityId("Ledger", "k"), Ledger.write, line)

                async def written(line=line):
                    ledger = await engine.client.get_entity(Ledger, "k")
                    return ledger is not None and ledger.lines[-1] == line

                await until(written)
        async with engine.open(url, worker=False):
            return (await engine.client.get_entity(Ledger, "k")).lines

    assert run(main) == ["one", "two"]
