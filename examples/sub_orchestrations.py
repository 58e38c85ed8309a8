"""Fan-out over sub-orchestrations: one child an order, whose id says whose child it is; then they are counted.

A child says by its result that it did not succeed (an order that is declined is a result), or it raises (an order that makes no sense is a
mistake): that fails its parent too, unless the parent catches it.
"""

from __future__ import annotations

import asyncio

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext, OrchestrationFailedError

engine = DurableEngine()


@frozen
class Order:
    product: str
    quantity: int


@frozen
class OrderResult:
    product: str
    success: bool


@frozen
class BatchOrderResult:
    total_orders: int
    successful: int
    failed: int
    results: list[OrderResult]


STOCK = {"pen": 100, "lamp": 2}


@engine.activity
async def check_order(order: Order) -> None:
    if order.quantity < 1:
        raise ValueError(f"an order of {order.quantity} {order.product}s")


@engine.activity
async def reserve(order: Order) -> bool:
    return STOCK.get(order.product, 0) >= order.quantity


@engine.orchestrator
async def process_order(ctx: OrchestrationContext, order: Order) -> OrderResult:
    await ctx.call_activity(check_order, order)
    return OrderResult(order.product, await ctx.call_activity(reserve, order))


@engine.orchestrator
async def order_batch(ctx: OrchestrationContext, orders: list[Order]) -> BatchOrderResult:
    results = await asyncio.gather(
        *(
            ctx.call_sub_orchestrator(process_order, order, instance_id=f"{ctx.instance_id}-order-{index}")
            for index, order in enumerate(orders)
        )
    )
    return counted(results)


def counted(results: list[OrderResult]) -> BatchOrderResult:
    successful = sum(result.success for result in results)
    return BatchOrderResult(len(results), successful, len(results) - successful, results)


BATCHES = {
    "orders": [Order("pen", 10), Order("lamp", 3), Order("lamp", 2), Order("desk", 1)],
    "mistaken-orders": [Order("pen", 1), Order("pen", 0)],
    "no-orders": [],
}


async def main(url: str) -> dict[str, BatchOrderResult | str]:
    """A batch in which a child raised gives the reason."""
    results: dict[str, BatchOrderResult | str] = {}
    async with engine.open(url):
        for name, orders in BATCHES.items():
            handle = await engine.client.schedule_new_orchestration(order_batch, orders, instance_id=name, reuse_policy="return_existing")
            try:
                results[name] = await handle.result()
            except OrchestrationFailedError as error:
                if error.details is None:  # somebody terminated it
                    raise
                *_, reason = error.details.chain()  # the batch failed because a child failed because an activity failed
                results[name] = str(reason)
    return results


async def without_engine() -> dict[str, BatchOrderResult | str]:
    results: dict[str, BatchOrderResult | str] = {}
    for name, orders in BATCHES.items():
        try:
            for order in orders:
                await check_order(order)
        except ValueError as error:
            results[name] = f"ValueError: {error}"
        else:
            results[name] = counted([OrderResult(order.product, await reserve(order)) for order in orders])
    return results
