"""From a store URL to a backend: schemes are entry points, so an installed package can add one."""

from __future__ import annotations

from typing import Any

from durable_core.backend import Backend
from durable_core.errors import StoreUrlError

_GROUP = "durable_core.backends"
_EXTRAS = {"postgresql": "postgres", "postgres": "postgres", "azure": "azure", "azurite": "azure"}


def backend_for(url: str | None) -> Backend:
    """Raises ``StoreUrlError`` that names what is installed and which extra to install."""
    if url is None:
        raise StoreUrlError("which store? Pass a URL to DurableEngine(...) or engine.open(...), e.g. sqlite:///orders.db")
    from importlib.metadata import entry_points  # not at import: it loads the email package

    installed = {entry.name: entry for entry in entry_points(group=_GROUP)}
    known = ", ".join(f"{name}://" for name in sorted(installed)) or "none"
    if "://" not in str(url):
        raise StoreUrlError(f"a store is named by a URL such as sqlite:///orders.db, got {url!r}; installed schemes: {known}")
    scheme = url.partition("://")[0]
    install = f"install it with: pip install 'durable-core[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else ""
    if scheme not in installed:
        hint = install or "a typing error, or a package that provides it is missing"
        raise StoreUrlError(f"no backend is installed for {scheme}:// ({hint}); installed schemes: {known}")
    try:
        factory: Any = installed[scheme].load()
    except ImportError as error:
        extra = install and f"; {install}"
        raise StoreUrlError(f"the backend for {scheme}:// cannot be imported ({error}){extra}") from error
    backend: Backend = factory(url)
    return backend
