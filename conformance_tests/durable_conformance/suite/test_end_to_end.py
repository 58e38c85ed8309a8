"""Every feature on the real engine, with two workers of which one dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from durable_conformance.cluster import Cluster, audit, of_engines, of_processes
from durable_conformance.driver import Driver
from durable_conformance.faults import FAULTS
from durable_conformance.properties import Property, proves, requires
from durable_conformance.scenarios import SCENARIOS

EACH = [pytest.param(name, marks=proves(property), id=name) for name, (property, _) in SCENARIOS.items()]
full = pytest.mark.durable_full


async def everything(cluster: Cluster, cases: Counter[str]) -> None:
    """All features at once; the first scenario that comes to its crash decides when."""
    await asyncio.gather(*(scenario(cluster) for _, scenario in SCENARIOS.values()))
    await audit(cluster)
    cases["end-to-end scenarios"] += len(SCENARIOS)


async def one(cluster: Cluster, name: str, cases: Counter[str]) -> None:
    await SCENARIOS[name][1](cluster)
    await audit(cluster)
    cases["end-to-end scenarios"] += 1


@requires("many_handles")
@proves(Property.PROGRESS)
async def test_a_worker_dies_while_everything_runs(hub: Driver, tmp_path: Path, dice: random.Random, cases: Counter[str]) -> None:
    async with of_engines(hub, tmp_path / "effects", dice=dice) as cluster:
        await everything(cluster, cases)


@full
@requires("many_handles")
@pytest.mark.parametrize("name", EACH)
async def test_a_worker_dies(hub: Driver, tmp_path: Path, name: str, dice: random.Random, cases: Counter[str]) -> None:
    async with of_engines(hub, tmp_path / "effects", dice=dice) as cluster:
        await one(cluster, name, cases)


@requires("many_handles")
@proves(Property.RETRY)
async def test_every_reply_may_be_lost(hub: Driver, tmp_path: Path, dice: random.Random, cases: Counter[str]) -> None:
    """Requests and replies are lost, repeated, cut and delayed, and a worker dies in the middle."""
    async with of_engines(hub, tmp_path / "effects", dice=dice, faults=FAULTS) as cluster:
        await everything(cluster, cases)


@requires("many_handles")
@proves(Property.DEAF)
async def test_every_wakeup_is_dropped(hub: Driver, tmp_path: Path, dice: random.Random, cases: Counter[str]) -> None:
    async with of_engines(hub, tmp_path / "effects", dice=dice, faults=["wake-up dropped"]) as cluster:
        await everything(cluster, cases)


@proves(Property.CONSERVATION)
async def test_one_worker_alone(hub: Driver, tmp_path: Path, dice: random.Random, cases: Counter[str]) -> None:
    """Also on a store that has one handle only."""
    async with of_engines(hub, tmp_path / "effects", dice=dice, alone=True) as cluster:
        await everything(cluster, cases)


@full
@requires("attach", "multi_process", "durable")
@pytest.mark.parametrize("name", EACH)
async def test_a_process_is_killed(hub: Driver, spec: str, tmp_path: Path, name: str, cases: Counter[str]) -> None:
    async with of_processes(hub, spec, tmp_path / "effects") as cluster:
        await one(cluster, name, cases)


@requires("attach", "multi_process", "durable")
@proves(Property.ATOMICITY)
async def test_a_process_is_killed_while_everything_runs(hub: Driver, spec: str, tmp_path: Path, cases: Counter[str]) -> None:
    async with of_processes(hub, spec, tmp_path / "effects") as cluster:
        await everything(cluster, cases)
