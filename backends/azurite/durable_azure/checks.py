"""What is looked at before a container is used: that it is there, and that its account does what this store relies on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from azure.core.exceptions import HttpResponseError

from durable_azure.blobs import Blobs
from durable_azure.errors import translate
from durable_core.errors import StoreFormatError

__all__ = ["check_account"]

_logger = logging.getLogger("durable_azure")


async def check_account(blobs: Blobs, *, create: bool) -> None:
    """Raises ``StoreFormatError`` for a missing container (unless ``create``) and for an account with a hierarchical namespace."""
    await _check_container(blobs, create=create)
    account = await _ask(blobs, blobs.service.get_account_information)
    if account.get("is_hns_enabled"):
        raise StoreFormatError(
            f"{blobs.options.where}: the account has a hierarchical namespace (Data Lake), whose append blobs behave differently. "
            "Use a storage account without it"
        )
    properties = await _ask(blobs, blobs.service.get_service_properties)
    if getattr(properties.get("delete_retention_policy"), "enabled", False):
        _logger.warning(
            "%s: soft delete is on: every log and snapshot that is removed is kept, and paid for, until its time is over. Keep that time short",
            blobs.options.where,
        )


async def _ask(blobs: Blobs, question: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The answer; nothing if this credential may not ask (a SAS token for one container may not)."""
    try:
        return await blobs.call(question)
    except HttpResponseError as error:
        _logger.debug("%s: this credential may not ask about the account (%s)", blobs.options.where, error.status_code)
        return {}


async def _check_container(blobs: Blobs, *, create: bool) -> None:
    try:
        await blobs.call(blobs.container.get_container_properties)
        return
    except HttpResponseError as error:
        if error.status_code == 403:
            return  # a SAS token for the container's blobs may not ask for the container itself
        if error.status_code != 404:
            raise translate(error, blobs.options.where) from error
        if not create:
            raise StoreFormatError(f"there is no container {blobs.options.where}: create it, or open the store with create=True") from error
    try:
        await blobs.call(blobs.container.create_container)
    except HttpResponseError as error:
        if error.status_code != 409:  # another handle was faster
            raise translate(error, blobs.options.where) from error
