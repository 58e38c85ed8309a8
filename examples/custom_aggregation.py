"""Custom aggregation: each source is analysed by an activity; totals, an average, distinct values in order and a tally are made of the parts.

The average of no sources does not exist: the orchestration fails, as the plain function does.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from datetime import timedelta

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError

engine = DurableEngine()


@frozen
class DataSource:
    """``lines`` are ``category:amount``."""

    name: str
    lines: list[str]


@frozen
class AnalysisError:
    error_type: str
    line: str


@frozen
class SourceAnalysis:
    record_count: int
    processing_time: timedelta
    categories: list[str]
    errors: list[AnalysisError]


@frozen
class AnalyticsResult:
    total_records: int
    average_processing_seconds: float
    unique_categories: list[str]
    error_summary: dict[str, int]


@engine.activity
async def analyze_source(source: DataSource) -> SourceAnalysis:
    categories: list[str] = []
    errors: list[AnalysisError] = []
    for line in source.lines:
        category, colon, amount = line.partition(":")
        if not colon:
            errors.append(AnalysisError("NoAmount", line))
        elif not amount.isdigit():
            errors.append(AnalysisError("BadAmount", line))
        else:
            categories.append(category)
    return SourceAnalysis(len(categories), timedelta(milliseconds=1.5) * len(source.lines), categories, errors)


@engine.orchestrator
async def analyze_sources(ctx: OrchestrationContext, sources: list[DataSource]) -> AnalyticsResult:
    return aggregated(await asyncio.gather(*(ctx.call_activity(analyze_source, source) for source in sources)))


def aggregated(analyses: list[SourceAnalysis]) -> AnalyticsResult:
    return AnalyticsResult(
        total_records=sum(analysis.record_count for analysis in analyses),
        average_processing_seconds=statistics.fmean(analysis.processing_time.total_seconds() for analysis in analyses),
        unique_categories=list(dict.fromkeys(category for analysis in analyses for category in analysis.categories)),
        error_summary=dict(Counter(error.error_type for analysis in analyses for error in analysis.errors)),
    )


INPUTS = {
    "sources": [
        DataSource("north", ["tea:3", "coffee:1", "tea", "milk:x"]),
        DataSource("south", ["milk:2", "tea:5", "sugar"]),
        DataSource("west", []),
    ],
    "no-sources": [],
}


async def main(url: str) -> dict[str, AnalyticsResult | str]:
    """What failed gives the reason."""
    results: dict[str, AnalyticsResult | str] = {}
    async with engine.open(url):
        for name, sources in INPUTS.items():
            handle = await engine.client.schedule_new_orchestration(
                analyze_sources, sources, instance_id=f"analysis-of-{name}", reuse_policy="return_existing"
            )
            try:
                results[name] = await handle.result()
            except OrchestrationFailedError as error:
                if error.details is None:  # somebody terminated it
                    raise
                results[name] = error.details.message
    return results


async def without_engine() -> dict[str, AnalyticsResult | str]:
    results: dict[str, AnalyticsResult | str] = {}
    for name, sources in INPUTS.items():
        try:
            results[name] = aggregated([await analyze_source(source) for source in sources])
        except statistics.StatisticsError as error:
            results[name] = str(error)
    return results
