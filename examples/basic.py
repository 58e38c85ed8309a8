"""Basic fan-out and fan-in, with calls by name: ``return_type`` says what comes back, so the result is decoded, checked and typed.

Give names where the two sides are written apart (another package, another team); otherwise pass the function, which also checks the
arguments.
"""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@frozen
class ProcessingResult:
    item: str
    length: int


@engine.activity(name="ProcessItem")
async def process_item(item: str) -> ProcessingResult:
    return ProcessingResult(item.upper(), len(item))


@engine.orchestrator
async def fan_out_fan_in(ctx: OrchestrationContext, items: list[str]) -> list[ProcessingResult]:
    tasks = [ctx.call_activity("ProcessItem", item, return_type=ProcessingResult) for item in items]  # fan-out
    return await asyncio.gather(*tasks)  # fan-in


# ── different activities at once, each with a result type of its own ─────────────────────────────────────────────


@frozen
class Workload:
    text: str
    max_words: int


@frozen
class ValidationResult:
    valid: bool
    problems: list[str]


@frozen
class EnrichmentResult:
    words: list[str]


@frozen
class ClassificationResult:
    label: str
    confidence: float


@frozen
class AggregatedResult:
    validation: ValidationResult
    enrichment: EnrichmentResult
    classification: ClassificationResult


@engine.activity(name="ValidateData")
async def validate_data(workload: Workload) -> ValidationResult:
    words = len(workload.text.split())
    problems = [f"{words} words are more than {workload.max_words}"] if words > workload.max_words else []
    return ValidationResult(not problems, problems)


@engine.activity(name="EnrichData")
async def enrich_data(workload: Workload) -> EnrichmentResult:
    return EnrichmentResult(sorted(set(workload.text.lower().split())))


@engine.activity(name="ClassifyData")
async def classify_data(workload: Workload) -> ClassificationResult:
    questions = workload.text.count("?")
    return ClassificationResult("question" if questions else "statement", 0.75 if questions == 1 else 0.5)


@engine.orchestrator
async def different_result_types(ctx: OrchestrationContext, workload: Workload) -> AggregatedResult:
    validation = ctx.call_activity("ValidateData", workload, return_type=ValidationResult)
    enrichment = ctx.call_activity("EnrichData", workload, return_type=EnrichmentResult)
    classification = ctx.call_activity("ClassifyData", workload, return_type=ClassificationResult)
    await asyncio.gather(validation, enrichment, classification)
    return AggregatedResult(await validation, await enrichment, await classification)  # a task may be awaited again


ITEMS = ["one", "three", "", "four"]
WORKLOAD = Workload("Is the fan out or is the fan in ?", max_words=5)


async def main(url: str) -> tuple[list[ProcessingResult], AggregatedResult]:
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        items = await start(fan_out_fan_in, ITEMS, instance_id="basic", reuse_policy="return_existing")
        workload = await start(different_result_types, WORKLOAD, instance_id="result-types", reuse_policy="return_existing")
        return await items.result(), await workload.result()


async def without_engine() -> tuple[list[ProcessingResult], AggregatedResult]:
    aggregated = AggregatedResult(await validate_data(WORKLOAD), await enrich_data(WORKLOAD), await classify_data(WORKLOAD))
    return [await process_item(item) for item in ITEMS], aggregated
