"""Instance ids that mean something: whoever has an order's number finds its shipping, and sees in the id when it began.

The day comes from ``ctx.current_utc_datetime``, which is the same on every replay; the wall clock is not.
"""

from __future__ import annotations

import re

from durable_core import DurableEngine, OrchestrationContext

engine = DurableEngine()


@engine.activity
async def book_carrier(order_id: int) -> str:
    return f"parcel {order_id * 37 % 1_000}"


@engine.orchestrator
async def ship_order(ctx: OrchestrationContext, order_id: int) -> str:
    return await ctx.call_activity(book_carrier, order_id)


@engine.orchestrator
async def handle_order(ctx: OrchestrationContext, order_id: int) -> str:
    return await ctx.call_sub_orchestrator(ship_order, order_id, instance_id=f"order-{order_id}-shipping-{ctx.current_utc_datetime:%Y%m%d}")


ORDERS = [7, 42]


async def main(url: str) -> dict[str, str]:
    """What the shippings have given, found by their ids; the day in an id depends on when this is run."""
    found: dict[str, str] = {}
    async with engine.open(url):
        for order_id in ORDERS:
            handle = await engine.client.schedule_new_orchestration(
                handle_order, order_id, instance_id=f"order-{order_id}", reuse_policy="return_existing"
            )
            await handle.result()
            async for shipping in engine.client.query_instances(id_prefix=f"order-{order_id}-shipping-"):
                output = shipping.output_as(str)
                assert output is not None
                found[re.sub(r"\d{8}$", "<day>", shipping.instance_id)] = output
    return found


async def without_engine() -> dict[str, str]:
    return {f"order-{order_id}-shipping-<day>": await book_carrier(order_id) for order_id in ORDERS}
