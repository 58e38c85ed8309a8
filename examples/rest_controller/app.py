"""The web service: ``POST /start`` starts an orchestration, ``GET /status/{instance_id}`` says how it is getting on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import JSONDecodeError

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from durable_core import PayloadError
from examples.parallel_work_items import engine, parallel_work_items

__all__ = ["app_from_environment", "create_app"]


async def start(request: Request) -> Response:
    """The body is the count. An ``Idempotency-Key`` becomes the instance id: sent again, the request starts nothing new."""
    try:
        handle = await engine.client.schedule_new_orchestration(
            parallel_work_items, await request.json(), instance_id=request.headers.get("Idempotency-Key"), reuse_policy="return_existing"
        )
    except (JSONDecodeError, PayloadError) as error:
        raise HTTPException(400, "the body must be the count of work items") from error
    return JSONResponse({"instanceId": handle.id})


async def status(request: Request) -> Response:
    """``output`` is null until there is one."""
    state = await engine.client.get_instance(request.path_params["instance_id"])
    if state is None:
        raise HTTPException(404)
    output = state.output_as(list[int])
    return JSONResponse({"instanceId": state.instance_id, "status": state.runtime_status.name, "output": output})


def create_app(url: str, *, worker: bool = False) -> Starlette:
    """Works only if it is told to: usually others do that."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with engine.open(url, worker=worker):
            yield

    routes = [Route("/start", start, methods=["POST"]), Route("/status/{instance_id}", status)]
    return Starlette(routes=routes, lifespan=lifespan)


def app_from_environment() -> Starlette:
    return create_app(os.environ["DURABLE_URL"])
