"""Which examples there are: the modules and packages of this folder with ``main(url)`` and ``without_engine()``."""

from __future__ import annotations

import importlib
from collections.abc import Coroutine
from typing import Any, Protocol

__all__ = ["EXAMPLES", "Example", "load"]

EXAMPLES = (
    "parallel_processing",
    "parallel_work_items",
    "rest_controller",
    "basic",
    "batched",
    "sub_orchestrations",
    "collect_all",
    "fail_fast",
    "threshold",
    "progress_tracking",
    "sum_aggregation",
    "custom_aggregation",
    "reduce_pairs",
    "limited_concurrency",
    "large_dataset",
    "history_size",
    "instance_ids",
    "progress_log",
)


class Example(Protocol):
    """``main`` runs it on a store and gives its result; ``without_engine`` computes what that must be, by calling the activities as the
    functions that they are. Some take a size."""

    def main(self, url: str, **size: int) -> Coroutine[Any, Any, Any]: ...

    def without_engine(self, **size: int) -> Coroutine[Any, Any, Any]: ...


def load(name: str) -> Example:
    example: Any = importlib.import_module(f"examples.{name}")
    return example  # type: ignore[no-any-return]
