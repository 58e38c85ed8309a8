"""Partial success: failures are collected, and the orchestration fails if more than a share of the items did."""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError, TaskFailedError

engine = DurableEngine()


class TooManyFailuresError(Exception):
    """More items failed than the caller allows."""


@frozen
class PartialSuccessInput:
    """``failure_threshold`` is the share of the items that may fail, 0 to 1; exactly so many is still a success."""

    items: list[str]
    failure_threshold: float


@frozen
class TaskResult:
    item: str
    success: bool
    result: int | None = None
    error: str | None = None


@frozen
class PartialResult:
    total_processed: int
    success_count: int
    failure_count: int
    results: list[TaskResult]


@engine.activity
async def process_item(item: str) -> int:
    return int(item)


@engine.orchestrator
async def partial_success(ctx: OrchestrationContext, input: PartialSuccessInput) -> PartialResult:
    async def process(item: str) -> TaskResult:
        try:
            return TaskResult(item, True, result=await ctx.call_activity(process_item, item))
        except TaskFailedError as error:
            return TaskResult(item, False, error=error.details.message)

    return judged(await asyncio.gather(*map(process, input.items)), input.failure_threshold)


def judged(results: list[TaskResult], failure_threshold: float) -> PartialResult:
    failures = sum(not result.success for result in results)
    allowed = int(len(results) * failure_threshold)
    if failures > allowed:
        raise TooManyFailuresError(f"{failures} of {len(results)} items failed, and {allowed} may")
    return PartialResult(len(results), len(results) - failures, failures, results)


INPUTS = {
    "below": PartialSuccessInput(["1", "2", "3", "four"], 0.5),
    "at-the-boundary": PartialSuccessInput(["1", "2", "three", "four"], 0.5),
    "above": PartialSuccessInput(["1", "two", "three", "four"], 0.5),
    "none-may-fail": PartialSuccessInput(["1", "two"], 0.0),
    "no-items": PartialSuccessInput([], 0.0),
}


async def main(url: str) -> dict[str, PartialResult | str]:
    """What failed gives the reason."""
    results: dict[str, PartialResult | str] = {}
    async with engine.open(url):
        for name, input in INPUTS.items():
            id = f"threshold-{name}"
            handle = await engine.client.schedule_new_orchestration(partial_success, input, instance_id=id, reuse_policy="return_existing")
            try:
                results[name] = await handle.result()
            except OrchestrationFailedError as error:
                if error.details is None or not error.details.is_caused_by(TooManyFailuresError):
                    raise
                results[name] = error.details.message
    return results


async def without_engine() -> dict[str, PartialResult | str]:
    async def process(item: str) -> TaskResult:
        try:
            return TaskResult(item, True, result=await process_item(item))
        except ValueError as error:
            return TaskResult(item, False, error=str(error))

    results: dict[str, PartialResult | str] = {}
    for name, input in INPUTS.items():
        try:
            results[name] = judged([await process(item) for item in input.items], input.failure_threshold)
        except TooManyFailuresError as error:
            results[name] = str(error)
    return results
