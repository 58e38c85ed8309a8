"""A simulation of the whole engine: client, several workers and a store on a virtual clock, and whatever can go wrong, from a seed.

    run.py           ``simulate``: seed after seed; reports
    shrink.py        from a failing run to a smaller one
    world.py         one run: who takes part, its course, what is checked at its end
    hosts.py         processes with a worker each, and what befalls them
    store.py         the way to the store, with all that goes wrong on it
    faults.py        what goes wrong, how often and when
    stranger.py      somebody else who uses the store, in his own way
    loop.py          the event loop: virtual time, processes, a seeded order
    oracle.py        what the store should have said; invariants.py, what must hold of any store
    __main__.py      the command line; jobs.py, its processes
    programs.py      random orchestrations as a load

What runs is the engine itself. Replaced are the event loop, ids, threads and the way to the store; so one seed gives one run, to the byte.
"""

from __future__ import annotations

from durable_core.testing.simulation.faults import Fault, Faults
from durable_core.testing.simulation.run import Report, SimulationFailure, simulate
from durable_core.testing.simulation.world import Run, outside

__all__ = ["Fault", "Faults", "Report", "Run", "SimulationFailure", "outside", "simulate"]
