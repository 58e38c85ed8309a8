"""What a test of a durable program needs.

environment.py     engine.testing(): the engine with fakes (fakes.py) and virtual time (clock.py); dead_ends.py, when time is at its end
histories.py       exported histories, held against today's code
memory.py          the store in memory
simulation/        the whole engine with several workers, from a seed, with all that can go wrong
"""

from __future__ import annotations

from durable_core.testing.dead_ends import NothingToWaitForError
from durable_core.testing.environment import DurableTest, Environment
from durable_core.testing.histories import export_history, replay_history
from durable_core.testing.memory import MemoryBackend

__all__ = ["DurableTest", "Environment", "MemoryBackend", "NothingToWaitForError", "export_history", "replay_history"]
