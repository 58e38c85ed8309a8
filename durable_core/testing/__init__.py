"""What a test of a durable program needs: a store in memory."""

from __future__ import annotations

from durable_core.testing.memory import MemoryBackend

__all__ = ["MemoryBackend"]
