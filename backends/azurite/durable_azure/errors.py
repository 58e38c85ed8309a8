"""What the service's errors mean, in one place. The original is the ``__cause__``."""

from __future__ import annotations

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from durable_core.errors import StoreError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["BlobMissing", "code_of", "is_transient", "translate"]

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class BlobMissing(Exception):
    """There is no such blob: the caller knows what that means."""


def is_transient(error: AzureError) -> bool:
    """Whether the request may have been carried out, or may be when it is sent again."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    return not isinstance(error, ClientAuthenticationError) and (status is None or status in _TRANSIENT)


def code_of(error: AzureError) -> str:
    """The service's own name for it; "" if it did not answer."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def translate(error: AzureError, where: str) -> StoreError:
    """The store's trouble. Messages of the service may quote a request's signature, so only its code is shown."""
    status = getattr(error, "status_code", None)
    code = code_of(error) or type(error).__name__
    said = f"(the service says: {status} {code})" if status else f"({code})"
    if is_transient(error):
        return StoreUnavailableError(f"{where} cannot be reached {said}: look at the network and at the state of the storage account")
    if status == 401 or (isinstance(error, ClientAuthenticationError) and status != 403):
        return StoreError(f"{where} does not accept the credential {said}: check the key, the SAS token or the identity")
    if status == 403:
        advice = "has it expired? It needs read, add, create, write, delete and list (a role: Storage Blob Data Contributor)"
        return StoreReadOnlyError(f"{where} refuses this credential {said}: {advice}")
    if status == 409 and code in ("AccountIsDisabled", "InsufficientAccountPermissions", "ContainerBeingDeleted", "ContainerDisabled"):
        return StoreUnavailableError(f"{where} cannot be used now {said}: it is being deleted or disabled")
    if status == 413 or code == "BlockCountExceedsLimit":
        return StoreFullError(f"{where} takes no more {said}: nothing of this commit was written")
    return StoreError(f"{where} does not do what it is asked to {said}")
