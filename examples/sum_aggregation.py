"""Sum aggregation: amounts of money are ``Decimal`` in activities, results and histories, so no cent is lost on the way."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from attrs import frozen

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@frozen
class OrderInput:
    quantity: int
    unit_price: Decimal
    discount: Decimal = Decimal(0)


@engine.activity
async def calculate_order_total(order: OrderInput) -> Decimal:
    return order.quantity * order.unit_price * (1 - order.discount)


@engine.orchestrator
async def order_totals(ctx: OrchestrationContext, orders: list[OrderInput]) -> Decimal:
    totals = await asyncio.gather(*(ctx.call_activity(calculate_order_total, order) for order in orders))
    return sum(totals, Decimal(0))


INPUTS = {
    "orders": [OrderInput(3, Decimal("0.10")), OrderInput(1, Decimal("19.99"), Decimal("0.05")), OrderInput(7, Decimal("1234567890.12"))],
    "no-orders": [],
}


async def main(url: str) -> dict[str, Decimal]:
    async with engine.open(url):
        start = engine.client.schedule_new_orchestration
        handles = {
            name: await start(order_totals, orders, instance_id=f"totals-of-{name}", reuse_policy="return_existing")
            for name, orders in INPUTS.items()
        }
        return {name: await handle.result() for name, handle in handles.items()}


async def without_engine() -> dict[str, Decimal]:
    return {name: sum([await calculate_order_total(order) for order in orders], Decimal(0)) for name, orders in INPUTS.items()}
