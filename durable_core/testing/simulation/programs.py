"""Random orchestrations whose answers are known beforehand, as a load: for whoever writes a store, and for this project itself.

A program is a tree of calls. ``answer`` computes what it gives, in a few lines and without any engine; ``run_node`` is the orchestrator. What depends
on timing (races, timeouts, the order in which an entity is asked) gives a constant. What a program adds to its entities is known too: each operation
counts once, however often it was delivered, and what several orchestrations read and write under a lock is lost by none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Any

from durable_core.errors import InstanceNotFoundError, TaskFailedError
from durable_core.replay.context import OrchestrationContext
from durable_core.retry import RetryPolicy
from durable_core.runtime.client.client import DurableClient
from durable_core.runtime.engine import DurableEngine
from durable_core.testing.simulation.world import outside

Node = list[Any]

engine = DurableEngine()

# ── what is called ────────────────────────────────────────────────────────────────────────────────────────────


@engine.activity
async def square(label: str, number: int) -> int:
    """Its effect is counted, outside."""
    outside().setdefault("effects", Counter())[label] += 1
    await asyncio.sleep(number % 3)
    return number * number


@engine.activity
def double(number: int) -> int:
    return 2 * number


@engine.activity
async def flaky(label: str, failures: int) -> int:
    """Fails as often as it is told to, whoever calls it."""
    effects = outside().setdefault("effects", Counter())
    effects[label] += 1
    if effects[label] <= failures:
        raise ConnectionError(f"number {effects[label]}")
    return failures


@engine.activity
async def fail(text: str) -> int:
    raise ValueError(text)


@engine.entity
class Account:
    """What its body annotates and what it does not have to stay the same, whatever happens to its workers."""

    total: int = 0

    def __init__(self) -> None:
        self._same: list[int] = [0]

    async def add(self, number: int) -> int:
        self.total += number
        self._same[0] += number
        return self.total

    def get(self) -> int:
        return self.total

    async def put(self, number: int) -> None:
        await asyncio.sleep(0.01)
        self.total = number
        self._same = [number]


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────

_LEAVES = ("call", "call", "double", "flaky", "fail", "timer", "event", "add", "signal", "taken")
_BRANCHES = ("seq", "gather", "gather", "group", "any", "late", "child", "child", "generation")


def random_program(dice: Random, size: int, path: str = "p", *, root: bool = True) -> Node:
    """``path`` makes labels and names of events unique."""
    if size <= 1:
        kind = dice.choice(_LEAVES)
        return [kind, path, dice.randrange(10)]
    kind = dice.choice(_BRANCHES)
    if not root and kind == "generation":
        kind = "gather"
    nodes, left = list[Node](), size - 1
    while left > 0:
        part = dice.randint(1, left)
        nodes.append(random_program(dice, part, f"{path}.{len(nodes)}", root=False))
        left -= part
    return [kind, path, nodes]


def answer(node: Node) -> Any:
    """What the program gives."""
    match node:
        case ["call", _, number]:
            return number * number
        case ["double" | "event", _, number]:
            return 2 * number
        case ["flaky", _, number]:
            return number % 3
        case [kind, _, [*nodes]] if kind in ("seq", "gather", "group", "child", "generation"):
            return [answer(each) for each in nodes]
        case [kind, *_]:
            return kind
    raise AssertionError(node)


def leaves(node: Node, *, certain: bool = True) -> list[tuple[Node, bool]]:
    """With whether each is carried out for certain: not so what a race may cancel."""
    match node:
        case [kind, _, [*nodes]]:
            return [leaf for each in nodes for leaf in leaves(each, certain=certain and kind not in ("any", "late"))]
    return [(node, certain)]


async def run_node(ctx: OrchestrationContext, node: Node, accounts: list[str]) -> Any:
    match node:
        case ["call", path, number]:
            return await ctx.call_activity(square, f"{accounts[0]} {path}", number)
        case ["double", _, number]:
            return await ctx.call_activity(double, number)
        case ["flaky", path, number]:
            policy = RetryPolicy(max_number_of_attempts=number % 3 + 1, first_retry_interval=timedelta(seconds=1))
            return await ctx.call_activity(flaky, f"{accounts[0]} {path}", number % 3, retry=policy)
        case ["fail", path, _]:
            with suppress(TaskFailedError):
                await ctx.call_activity(fail, path)
                return "it did not fail"
            return "fail"
        case ["taken", path, _]:
            with suppress(TaskFailedError):
                await ctx.call_sub_orchestrator(program, ["timer", path, 0], accounts, 0, [], instance_id=ctx.instance_id)
                return "it was free"
            return "taken"
        case ["timer", _, number]:
            due = ctx.current_utc_datetime + timedelta(seconds=number)
            await ctx.create_timer(due)
            return "timer" if ctx.current_utc_datetime >= due else "early"
        case ["event", path, _]:
            return await ctx.wait_for_external_event(f"event {path}", return_type=int)
        case ["add", _, number]:
            await ctx.entity(Account, accounts[0]).call(Account.add, number)
            return "add"
        case ["signal", _, number]:
            ctx.entity(Account, accounts[0]).signal(Account.add, number)
            return "signal"
        case [kind, path, [*nodes]]:
            return await _run_branch(ctx, kind, path, nodes, accounts)
    raise AssertionError(node)


async def _run_branch(ctx: OrchestrationContext, kind: str, path: str, nodes: list[Node], accounts: list[str]) -> Any:
    def start(node: Node) -> asyncio.Task[Any]:
        return asyncio.create_task(run_node(ctx, node, accounts))

    match kind:
        case "seq":
            return [await run_node(ctx, each, accounts) for each in nodes]
        case "gather":
            return await asyncio.gather(*map(start, nodes))
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_node(ctx, each, accounts)) for each in nodes]
            return [task.result() for task in tasks]
        case "any":
            await asyncio.wait([start(each) for each in nodes], return_when=asyncio.FIRST_COMPLETED)
        case "late":
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*map(start, nodes)), 1.5)
        case "child":
            child = f"{accounts[0]} {path}"
            return await ctx.call_sub_orchestrator(program, ["seq", path, nodes], accounts, 0, [], instance_id=child)
    return kind


@engine.orchestrator
async def program(ctx: OrchestrationContext, node: Node, accounts: list[str], transfers: int, done: list[Any]) -> Any:
    """Some transfers, then the program; ``done`` is what earlier generations gave."""
    for _ in range(transfers):
        await _transfer(ctx, accounts[1:])
    kind, _, nodes = node
    if kind != "generation":
        return await run_node(ctx, node, accounts)
    done = [*done, await run_node(ctx, nodes[len(done)], accounts)]
    if len(done) < len(nodes):
        ctx.continue_as_new(node, accounts, 0, done)
    return done


async def _transfer(ctx: OrchestrationContext, accounts: list[str]) -> None:
    source, target = (ctx.entity(Account, key) for key in accounts)
    async with ctx.lock_entities(source, target):
        before = await asyncio.gather(source.call(Account.get), target.call(Account.get))
        await source.call(Account.put, before[0] - 1)
        await target.call(Account.put, before[1] + 1)


@engine.orchestrator
async def collect(ctx: OrchestrationContext, wanted: int, got: list[int]) -> list[int]:
    """One event a generation: the others wait for theirs."""
    got = [*got, await ctx.wait_for_external_event("item", return_type=int)]
    if len(got) < wanted:
        ctx.continue_as_new(wanted, got)
    return got


# ── the load ──────────────────────────────────────────────────────────────────────────────────────────────────


async def family(client: DurableClient, dice: Random) -> None:
    """Two orchestrations that share accounts, and sometimes a third one that is terminated and purged."""
    name = f"{dice.getrandbits(32):08x}"
    accounts = [f"{name}-{which}" for which in ("sum", "from", "to")]
    programs = [random_program(dice, dice.randint(10, 30), path) for path in "ab"]
    transfers = [dice.randint(0, 3) for _ in programs]
    doomed = [_doom(client, dice, f"{name}-doomed")] if dice.random() < 0.7 else []
    await asyncio.gather(*(_run_program(client, dice, *each, accounts) for each in zip(programs, transfers, strict=True)), *doomed)
    found = [leaf for each in programs for leaf in leaves(each)]
    _check_effects(found, accounts[0])
    await _check_accounts(client, found, sum(transfers), accounts)


async def _run_program(client: DurableClient, dice: Random, node: Node, transfers: int, accounts: list[str]) -> None:
    if not isinstance(node[2], list):
        node = ["seq", node[1], [node]]
    id = f"{accounts[0]} root {node[1]}"
    await asyncio.sleep(dice.random() * 5)
    handle = await client.schedule_new_orchestration(program, node, accounts, transfers, [], instance_id=id)
    events = [asyncio.create_task(_raise(client, dice, *each)) for each in _events(node, id, accounts[0])]
    result = await handle.result()
    assert result == answer(node), f"{id} gave {result}, not {answer(node)}, for {node}"
    for each in events:
        each.cancel()


def _events(node: Node, id: str, prefix: str) -> list[tuple[str, Node]]:
    """Who waits for which event."""
    match node:
        case ["event", *_]:
            return [(id, node)]
        case [kind, path, [*nodes]]:
            here = f"{prefix} {path}" if kind == "child" else id
            return [found for each in nodes for found in _events(each, here, prefix)]
    return []


async def _raise(client: DurableClient, dice: Random, id: str, node: Node) -> None:
    while True:
        await asyncio.sleep(dice.random() * 6)
        with suppress(InstanceNotFoundError):
            await client.raise_event(id, f"event {node[1]}", 2 * node[2])
            return


async def _doom(client: DurableClient, dice: Random, name: str) -> None:
    accounts = [f"{name}-{which}" for which in ("sum", "from", "to")]
    node = ["seq", "p", [random_program(dice, 12, "q", root=False), ["timer", "r", 100_000]]]
    id, output = f"{name} root", dice.random() < 0.5
    await client.schedule_new_orchestration(program, node, accounts, 2, [], instance_id=id)
    await asyncio.sleep(dice.random() * 10)
    assert await client.terminate(id, output="enough" if output else None)
    state = await client.wait_for_completion(id)
    assert state.is_ended, state
    if dice.random() < 0.5:
        await client.purge(id)
        assert await client.get_instance(id) is None


def _check_effects(found: list[tuple[Node, bool]], prefix: str) -> None:
    effects = outside().get("effects", Counter())
    missing = [node for node, certain in found if certain and node[0] == "call" and not effects[f"{prefix} {node[1]}"]]
    assert not missing, f"these have given a result and had no effect: {missing}"


async def _check_accounts(client: DurableClient, found: list[tuple[Node, bool]], transfers: int, accounts: list[str]) -> None:
    """Signals may still be under way."""
    numbers = [(number, certain) for (kind, _, number), certain in found if kind in ("add", "signal")]
    least, most = sum(number for number, certain in numbers if certain), sum(number for number, _ in numbers)
    totals = list[int]()
    for _ in range(120):
        found_now = [await client.get_entity(Account, key) or Account() for key in accounts]
        totals = [account.total for account in found_now]
        assert totals == [account._same[0] for account in found_now], "an attribute without annotation is not what it was"
        if least <= totals[0] <= most and totals[1:] == [-transfers, transfers]:
            return
        await asyncio.sleep(1)
    raise AssertionError(f"the accounts {accounts} hold {totals}; expected were {least} to {most}, {-transfers}, {transfers}")


async def burst(client: DurableClient, dice: Random) -> None:
    """Events at once and one by one, each of which arrives once, through many generations."""
    wanted = dice.randint(5, 15)
    handle = await client.schedule_new_orchestration(collect, wanted, [], instance_id=f"{dice.getrandbits(32):08x}-burst")

    async def send(number: int, after: float) -> None:
        await asyncio.sleep(after)
        await client.raise_event(handle.id, "item", number)

    await asyncio.gather(*(send(number, dice.choice([0.0, dice.random()])) for number in range(wanted)))
    result = await handle.result()
    assert sorted(result) == list(range(wanted)), f"{wanted} events were sent, and these arrived: {result}"


LOADS = (*(family,) * 5, burst)
