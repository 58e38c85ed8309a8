"""Smaller sizes of the examples that take one, for tests that run an example very often or keep its histories."""

from __future__ import annotations

SMALL: dict[str, dict[str, int]] = {"large_dataset": {"count": 12, "chunk_size": 5}, "history_size": {"count": 20, "batch_size": 3}}
