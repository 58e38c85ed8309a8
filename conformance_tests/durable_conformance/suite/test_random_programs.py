"""The store and the hub's rules side by side (``machine.py``)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from durable_conformance.harness import Harness, factory_for
from durable_conformance.machine import HubMachine
from durable_conformance.properties import Property, proves, requires

_PORTION = 5
"""Programs between two looks at the clock."""
_SECONDS = {"smoke": 5.0, "full": 90.0}
_PROGRAMS = {"smoke": _PORTION, "full": 600}
"""At most; a slow store tries fewer, and the certificate says how many."""


@requires("frozen_clock")
@proves(Property.CONSERVATION)
def test_random_programs(durable_harness: Harness, spec: str, profile: str, seed: int, minutes: float, cases: Counter[str]) -> None:
    """The seed of a portion is in the certificate's seed and its number, so that a failure can be repeated."""
    until = time.monotonic() + _SECONDS.get(profile, minutes * 60)
    most = _PROGRAMS.get(profile)
    asyncio.run(durable_harness.destroy())  # the machines make their own
    while True:
        portion = cases["random programs"] // _PORTION
        machine = type("Machine", (HubMachine,), {"new_harness": staticmethod(factory_for(spec))})
        options = settings(
            max_examples=_PORTION,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        run_state_machine_as_test(hypothesis.seed(seed + 1_000_003 * portion)(machine), settings=options)
        cases["random programs"] += _PORTION
        if time.monotonic() >= until or (most is not None and cases["random programs"] >= most):
            return
