"""The store and the hub's rules side by side (``machine.py``)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from durable_conformance.harness import Harness, factory_for
from durable_conformance.machine import HubMachine
from durable_conformance.properties import Property, proves, requires

_EXAMPLES = {"smoke": 15, "full": 300, "soak": 5_000}


@requires("frozen_clock")
@proves(Property.FENCE, Property.HISTORY, Property.CONSERVATION, Property.LEASE, Property.BATCHING, Property.RETRY, Property.ATTEMPTS)
def test_random_programs(durable_harness: Harness, request: pytest.FixtureRequest) -> None:
    spec = request.node.callspec.params["durable_harness"]
    machine = type("Machine", (HubMachine,), {"new_harness": staticmethod(factory_for(spec))})
    examples = _EXAMPLES[str(request.config.getoption("durable_profile"))]
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))
